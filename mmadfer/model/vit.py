"""What an encoder is made of: the ViT of MAE-Face and AudioMAE, or a VisionTransformer of timm's, by name.

Taken from timm's are the patch embedding, class and register tokens, norms and blocks; not its head, its attention
pooling or its positions, which are made for the encoder's own grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal, cast

from torch import nn, zeros

from mmadfer.config.model import EncoderConfig, Modality
from mmadfer.errors import ConfigError
from mmadfer.model.block import EPSILON, Block
from mmadfer.utils.optional import need

MODULES = ("vision_transformer", "deit")
"""Where timm has its VisionTransformers."""


@dataclass
class _Parts:
    """The parts of an encoder `width` wide."""

    patch: nn.Conv2d
    cls: nn.Parameter | None
    """(1, 1, width)."""
    blocks: Sequence[Block]
    norm: nn.Module
    registers: nn.Parameter | None = None
    """(1, R, width), after the class token."""
    patch_norm: nn.Module = field(default_factory=nn.Identity)
    norm_pre: nn.Module = field(default_factory=nn.Identity)
    """Between the positions and the first block."""
    placed: bool = True
    """Weights files have positions of class and register tokens, too."""
    summary: Literal["cls", "mean", "mean_first"] = "cls"
    """The normalised class token; the mean of the normalised patch tokens; or their mean, normalised (`fc_norm`)."""


def encoder_parts(config: EncoderConfig, name: Modality, channels: int) -> _Parts:
    """The parts of the `name` encoder, for images of so many channels.

    Raises:
        ConfigError: timm has no such VisionTransformer, its blocks are of another kind, or its sizes are others.
    """
    if config.timm is not None:
        return _of_timm(config, f"model.{name}", channels)
    blocks = [Block(config.width, config.heads, config.mlp_ratio) for _ in range(config.depth)]
    patch = nn.Conv2d(channels, config.width, config.patch, stride=config.patch)
    return _Parts(patch, nn.Parameter(zeros(1, 1, config.width)), blocks, nn.LayerNorm(config.width, eps=EPSILON))


def _of_timm(config: EncoderConfig, key: str, channels: int) -> _Parts:
    model = _plain(str(config.timm), f"{key}.timm", channels)
    blocks = [cast(Block, block) for block in model.blocks]  # of timm's, with the same parts
    _check_sizes(config, key, model, blocks)
    embed, first = model.patch_embed, not isinstance(model.fc_norm, nn.Identity)
    return _Parts(
        embed.proj,
        model.cls_token,
        blocks,
        model.fc_norm if first else model.norm,
        model.reg_token,
        embed.norm,
        model.norm_pre,
        not model.no_embed_class,
        "cls" if model.global_pool == "token" else "mean_first" if first else "mean",
    )


def _plain(name: str, key: str, channels: int) -> Any:
    timm = need("timm", extra="torch")
    parts = need("timm.models.vision_transformer", extra="torch")
    known = {found for module in MODULES for found in timm.list_models(module=module)}
    if name not in known:
        if name in timm.list_models():
            raise ConfigError(f"{key}: {name} is no VisionTransformer of timm's: take one of timm's modules {_LISTED}")
        near = ", ".join(get_close_matches(name, sorted(known), n=3)) or "a name that `timm.list_models` gives"
        raise ConfigError(f"{key}: timm {timm.__version__} has no {name}: did you mean {near}? Names are without a tag")
    model = timm.create_model(name, pretrained=False, num_classes=0, in_chans=channels)
    kinds = {type(model): parts.VisionTransformer}
    for block in model.blocks if isinstance(model, parts.VisionTransformer) else ():
        kinds |= {type(block): parts.Block, type(getattr(block, "attn", None)): parts.Attention}
    odd = sorted(kind.__name__ for kind, wanted in kinds.items() if kind is not wanted and kind is not type(None))
    if odd:
        raise ConfigError(
            f"{key}: {name} is made of {' and '.join(odd)}, which cannot be fused layer by layer here: take one of "
            "timm's VisionTransformers with plain pre-norm blocks"
        )
    return model


_LISTED = " and ".join(MODULES)


def _check_sizes(config: EncoderConfig, key: str, model: Any, blocks: list[Block]) -> None:
    mlp = cast(Any, blocks[0].mlp)
    hidden = (mlp.fc1 if hasattr(mlp, "fc1") else mlp.fc1_g).out_features
    (patch, _), width = cast(Any, model.patch_embed).patch_size, model.embed_dim
    sizes = {"width": width, "depth": len(blocks), "heads": cast(Any, blocks[0].attn).num_heads, "patch": patch}
    differ = any(getattr(config, size) != number for size, number in sizes.items())
    if differ or abs(config.mlp_ratio * width - hidden) >= 1:
        sizes["mlp_ratio"] = round(hidden / width, 6)
        needed = ", ".join(f"{size}: {number:g}" for size, number in sizes.items())
        raise ConfigError(f"{key} has other sizes than {config.timm}: set {key} to {{{needed}}}")
