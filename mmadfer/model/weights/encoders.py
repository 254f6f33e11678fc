"""Weights of one encoder: files of MAE-Face and AudioMAE, and of timm's models; read strictly, and never executed."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn.functional import interpolate

from mmadfer.config.model import EncoderConfig
from mmadfer.errors import WeightsError
from mmadfer.model.encoder import Encoder
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights.check_shapes import explain
from mmadfer.model.weights.init import set_positions
from mmadfer.model.weights.torch_pickle import Lazy, PickledFile

ENCODER = {
    "cls_token": "cls",
    "pos_embed": "positions",
    "patch_embed.proj": "patch",
    "blocks": "blocks",
    "norm": "norm",
}
"""Name in a file of MAE-Face or AudioMAE -> ours, for a tensor or for all below it."""
TIMM = {**ENCODER, "reg_token": "registers", "patch_embed.norm": "patch_norm", "norm_pre": "norm_pre"}
"""The same in a file of timm's; where the model has an `fc_norm`, that is our `norm`."""
PATCH = "patch_embed.proj.weight"
POSITIONS = "pos_embed"


def load_encoder(model: MMADFER, name: str, path: Path | str) -> None:
    """Fill the "vision" or "audio" encoder from a MAE-Face or AudioMAE file, or from one of its timm model.

    A timm model's file is a .safetensors, or a .pth with the state dict itself or under `model` or `state_dict`. The
    position grid is resized to the model's (bicubic). Not used: `decoder_*` and `mask_token`, and of timm's files
    `head`, `attn_pool` and an `fc_norm` that the model does without. In the audio encoder, a timm file's patch
    embedding of three colours is summed to one channel, as timm does (`timm.models.adapt_input_conv`).

    Raises:
        WeightsError: names the file, the tensor, and what was expected.
    """
    encoder: Encoder = getattr(model, name)
    config: EncoderConfig = getattr(model.config, name)
    file = _opened(Path(path), config, encoder)
    found = dict(file.shapes)
    parameters = {theirs: p for ours, p in encoder.named_parameters() if (theirs := _file_name(ours, config, encoder))}
    wanted = {theirs: tuple(p.shape) for theirs, p in parameters.items()}
    summed = config.timm is not None and _colours(found) == 3 != wanted[PATCH][1]
    if summed:
        wanted[PATCH] = (wanted[PATCH][0], 3, *wanted[PATCH][2:])
    placed = encoder.prefix if encoder.placed else 0
    grid = _file_grid(encoder, found, placed, square=name == "vision" or summed)
    wanted[POSITIONS] = (1, placed + grid[0] * grid[1], encoder.positions.shape[-1])
    kind = config.timm or ("MAE-Face" if name == "vision" else "AudioMAE")
    explain(f"{path} (wanted: {kind}, for the {name} encoder)", wanted, found)
    for theirs, value in file.read().items():
        check_finite(path, theirs, value)
        if theirs == POSITIONS:
            set_positions(encoder, resize_positions(value, grid, encoder.grid))
        else:
            parameters[theirs].data.copy_(value.sum(1, keepdim=True) if summed and theirs == PATCH else value)


def check_finite(path: Path | str, name: str, value: Tensor) -> None:
    """Raise a WeightsError where a tensor of a file holds a number that is not finite: every answer would be none."""
    if not value.isfinite().all():
        count = int((~value.isfinite()).sum())
        raise WeightsError(
            f"{path}: {name} holds {count} number(s) that are not finite (NaN or infinity): the file is damaged, or "
            "its training went wrong; get another one"
        )


def _file_name(ours: str, config: EncoderConfig, encoder: Encoder) -> str | None:
    """A tensor's name in the encoder's file; None for what is not in it: prompts, and low-rank updates."""
    head, dot, rest = ours.partition(".")
    names = {mine: theirs for theirs, mine in (TIMM if config.timm else ENCODER).items()}
    if encoder.pool == "mean_first":
        names["norm"] = "fc_norm"
    return f"{names[head]}{dot}{rest}" if head in names and "lora_" not in rest else None


def _colours(found: Mapping[str, tuple[int, ...]]) -> int:
    """Channels of the images that a file's patch embedding was made for; 0 where it has none."""
    shape = found.get(PATCH, ())
    return shape[1] if len(shape) == 4 else 0


def _file_grid(encoder: Encoder, found: Mapping[str, tuple[int, ...]], placed: int, square: bool) -> tuple[int, int]:
    """Patch grid of a file: square images; mel columns as the model has. Else as published, for the error."""
    shape = found.get(POSITIONS, ())
    count = max(shape[1] - placed, 0) if len(shape) == 3 else 0
    side, columns = round(count**0.5), encoder.grid[1]
    if square:
        return (side, side) if count and side * side == count else (14, 14)
    return (count // columns, columns) if count and count % columns == 0 else (64, 8)


def resize_positions(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Positions (1, k + rows * columns, D) of k tokens and an old grid -> of a new one: bicubic, no antialiasing."""
    if old == new:
        return positions
    first, grid = positions.split([positions.shape[1] - old[0] * old[1], old[0] * old[1]], dim=1)
    grid = interpolate(
        grid.unflatten(1, old).permute(0, 3, 1, 2), size=new, mode="bicubic", align_corners=False, antialias=False
    )
    return torch.cat([first, grid.flatten(2).transpose(1, 2)], dim=1)


def _opened(path: Path, config: EncoderConfig, encoder: Encoder) -> "SafeFile | _Pickled":
    unused: tuple[str, ...] = ("decoder_", "mask_token")
    if config.timm:
        unused += ("head.", "attn_pool.", *(() if encoder.pool == "mean_first" else ("fc_norm.",)))
    return (SafeFile if path.suffix == ".safetensors" else _Pickled)(path, unused, config.timm)


class _Pickled:
    """A .pth."""

    def __init__(self, path: Path, unused: tuple[str, ...], timm: str | None):
        self.file = PickledFile(path)
        state = _state(self.file, timm)
        self.tensors = {k: v for k, v in named_tensors(self.file, state).items() if not k.startswith(unused)}
        self.shapes = {k: lazy.shape for k, lazy in self.tensors.items()}

    def read(self) -> dict[str, Tensor]:
        """All tensors, float32."""
        return self.file.read(self.tensors)


def _state(file: PickledFile, timm: str | None) -> dict[Any, Any]:
    tree, keys = file.tree, ("model", "state_dict") if timm else ("model",)
    inner = (tree.get(key) for key in keys if isinstance(tree, dict))
    state = next((state for state in inner if isinstance(state, dict)), tree if timm else None)
    if isinstance(state, dict):
        return state
    kind = f"a state dict of timm's {timm}" if timm else "an encoder file of MAE-Face or AudioMAE"
    raise WeightsError(f"{file.path} has no `model`: expected {kind}; {hint(tree)}")


class SafeFile:
    """A .safetensors; tensors whose names begin with one of `unused` are left alone."""

    def __init__(self, path: Path, unused: tuple[str, ...], timm: str | None = None):
        self.path = path
        if not path.is_file():
            raise WeightsError(f"no weights file at {path}")
        with self._opened() as file:
            names = [name for name in file.keys() if not name.startswith(unused)]  # noqa: SIM118
            self.shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}

    def read(self, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """The tensors, all of them by default, float32."""
        with self._opened() as file:
            values = {name: file.get_tensor(name) for name in (self.shapes if names is None else names)}
        for name, value in values.items():
            if not value.is_floating_point():
                raise WeightsError(f"{self.path}: {name} holds {value.dtype}: expected floating point")
        return {name: value.float() for name, value in values.items()}

    def _opened(self) -> Any:
        try:
            return safe_open(self.path, framework="pt")
        except SafetensorError as error:
            raise WeightsError(f"{self.path} is not a whole safetensors file ({error}): get it again") from error


def named_tensors(file: PickledFile, state: dict[Any, Any]) -> dict[str, Lazy]:
    """A state dict, whose entries are tensors by name.

    Raises:
        WeightsError: one is not.
    """
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Lazy):
            raise WeightsError(f"{file.path}: {name!r:.80} is not a named tensor; a checkpoint's weights are")
    return state


def hint(tree: Any) -> str:
    """What a file holds that is not what was looked for."""
    if isinstance(tree, dict) and "model" in tree:
        return "an encoder file belongs in model.vision.weights or model.audio.weights"
    return f"it holds {', '.join(f'{key!r:.80}' for key in list(tree)[:5])}" if isinstance(tree, dict) else "no dict"
