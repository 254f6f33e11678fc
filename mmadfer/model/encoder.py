"""A frozen ViT encoder with learnable prompts and positions (sections 3.1, 3.2 and 4.2).

Shapes: n images (frames, or one filter bank a clip), C channels, N patches, P prompts, D width; L = 1 + N + P tokens,
where the ViT has a class token and no registers.
The blocks are in timm's layout, as those of MAE-Face and AudioMAE; what else there can be is in `mmadfer.model.vit`.
"""

from collections.abc import Sequence
from math import prod
from typing import cast

import torch
from torch import Tensor, nn

from mmadfer.config.model import EncoderConfig, Modality, ModelConfig
from mmadfer.model import lora
from mmadfer.model.block import Block
from mmadfer.model.initializers import Stream
from mmadfer.model.layer import kept
from mmadfer.model.prompts import Prompts
from mmadfer.model.vit import encoder_parts

QUERY_KEY_GAIN = 2.5
"""Where a patch lies, of four places, is read linearly from a tiny random encoder's CLS with 54 % at 1, 78 % at 2.5."""


class Encoder(nn.Module):
    """ViT, pre-norm; sequence [CLS, registers, patches, prompts], as far as it has them, positions added to all of it.

    Registers are learned tokens of some ViTs (Darcet et al. 2024, "Vision Transformers Need Registers"); MAE-Face and
    AudioMAE have none, and LayerNorms of eps 1e-6.
    """

    def __init__(self, name: Modality, channels: int, grid: tuple[int, int], model: ModelConfig):
        super().__init__()
        config: EncoderConfig = getattr(model, name)
        made = encoder_parts(config, name, channels)
        self.grid, self.placed, self.pool = grid, made.placed, made.summary
        self.rates = tuple(model.drop_path * i / max(config.depth - 1, 1) for i in range(config.depth))
        self.patch, self.patch_norm, self.norm_pre = made.patch, made.patch_norm, made.norm_pre
        self.cls, self.registers = made.cls, made.registers
        self.prefix = sum(token.shape[1] for token in self._first())
        """Tokens before the patches."""
        self.end = self.prefix + grid[0] * grid[1]
        """Tokens before the prompts."""
        self.prompts = Prompts(model.prompts, model.progressive, model.share, config.width, model.layers)
        self.positions = nn.Parameter(torch.zeros(1, self.end + model.prompts, config.width))
        self.blocks = nn.ModuleList(made.blocks)
        self.norm = made.norm
        self.each = config.depth // model.layers
        """Blocks in one layer of the model."""
        self._freeze(learns=model.positions == "learned")
        lora.attach(self.blocks, model.lora)

    def _first(self) -> list[nn.Parameter]:
        return [token for token in (self.cls, self.registers) if token is not None]

    def _freeze(self, learns: bool) -> None:
        """Positions and prompts may learn, everything else is frozen, LayerNorms included (section 4.2)."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(learns and (name == "positions" or name.startswith("prompts.")))

    def draw(self, name: str, stream: Stream) -> Tensor | None:
        """As MAE and AudioMAE start: matrices Xavier-uniform, biases 0, norms 1, CLS and registers with deviation 0.02.

        LayerScale is 1: timm starts it near 0, with which a frozen random encoder would have no blocks. Only queries
        and keys are drawn wider, so that attention chooses instead of averaging, as in a trained encoder: frozen
        features then tell content and place. Of positions, the rows of prompts are standard normal; those before them
        are sines and cosines or come from a file, and stay (`mmadfer.model.weights.init`).
        """
        leaf = name.rpartition(".")[2]
        if name == "positions":
            rows = stream.normal(shape=(1, stream.shape[1] - self.end, stream.shape[2]))
            return torch.cat([self.positions.data[:, : self.end], rows], dim=1)
        if leaf in ("cls", "registers"):
            return stream.uniform(0.02 * 3**0.5)
        if len(stream.shape) == 1:
            return {"bias": stream.full(0), "weight": stream.full(1), "gamma": stream.full(1)}.get(leaf)
        return self._matrix(name, stream) if leaf == "weight" else None

    def _matrix(self, name: str, stream: Stream) -> Tensor:
        fan_out, *rest = stream.shape
        fan_in = prod(rest)
        values = stream.uniform((6 / (fan_in + fan_out)) ** 0.5)
        if name.endswith("attn.qkv.weight"):
            values[: 2 * fan_in] *= QUERY_KEY_GAIN
        return values

    def layer(self, index: int) -> list[Block]:
        """The blocks of one layer of the model."""
        return [cast(Block, block) for block in self.blocks[index * self.each : (index + 1) * self.each]]

    def kept(self, drop_path: Tensor | None) -> Sequence[Tensor | None]:
        """Stochastic depth's factors for each layer of the model, (n, blocks, 2), of draws (n, depth, 2)."""
        if drop_path is None:
            return [None] * (len(self.blocks) // self.each)
        return kept(drop_path[:, : len(self.blocks)], self.rates).split(self.each, dim=1)

    def embed(self, images: Tensor) -> Tensor:
        """(n, C, H, W) -> tokens (n, L, D), positions added."""
        patches = self.patch_norm(self.patch(images.to(self.patch.weight.dtype)).flatten(2).transpose(1, 2))
        first = [token.expand(patches.shape[0], -1, -1) for token in self._first()]
        tokens = torch.cat([*first, patches], dim=1)
        return self.norm_pre(self.prompts.append(tokens) + self.positions)

    def summary(self, tokens: Tensor) -> Tensor:
        """(..., L, D) -> the normalised CLS (..., D), or the mean of the patches where timm's own model takes that."""
        if self.pool == "cls":
            return self.norm(tokens[..., 0, :])
        patches = tokens[..., self.prefix : self.end, :]
        return self.norm(patches.mean(dim=-2)) if self.pool == "mean_first" else self.norm(patches).mean(dim=-2)

    def patches(self, tokens: Tensor) -> Tensor:
        """(..., L, D) -> the normalised tokens of the patches (..., rows, columns, D)."""
        return self.norm(tokens[..., self.prefix : self.end, :]).unflatten(-2, self.grid)


def vision_encoder(model: ModelConfig) -> Encoder:
    """MAE-Face or a timm ViT: each frame alone, (n, 3, S, S), scaled as `model.pixels` says."""
    side = model.image_size // model.vision.patch
    return Encoder("vision", channels=3, grid=(side, side), model=model)


def audio_encoder(model: ModelConfig) -> Encoder:
    """AudioMAE or a timm ViT: the log-mel filter bank (n, 1, 512, 128), time first."""
    rows, columns = (size // model.audio.patch for size in model.fbank)
    return Encoder("audio", channels=1, grid=(rows, columns), model=model)
