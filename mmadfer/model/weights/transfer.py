"""The trained part of one model as the beginning of another."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmadfer.config.stages import Patterns, fits
from mmadfer.errors import WeightsError
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights.encoders import check_finite

_MAX_SHOWN = 8
"""Tensors that a message names."""


@torch.no_grad()
def transfer(model: MMADFER, path: Path, missing: Patterns = (), extra: Patterns = ()) -> list[str]:
    """Copy the tensors of a file of trained weights into the model; names of those that the model keeps as they are.

    Args:
        model: on the CPU in float32.
        path: safetensors, as a checkpoint has it.
        missing: patterns of the model's tensors that may be absent from the file, or have another shape there.
        extra: patterns of the file's tensors that may be absent from the model, or have another shape there.

    Raises:
        WeightsError: tensors that are missing or extra, and not named by a pattern; or the file is damaged.
    """
    wanted, found = model.learned(), _read(path)
    same = {name for name, value in wanted.items() if name in found and found[name].shape == value.shape}
    lacking, over = sorted(set(wanted) - same), sorted(set(found) - same)
    _refuse(path, "lacks", [name for name in lacking if not fits(name, missing)], "stages.missing")
    _refuse(path, "has, which are not in this model,", [name for name in over if not fits(name, extra)], "stages.extra")
    for name in same:
        check_finite(path, name, found[name])
        wanted[name].copy_(found[name])
    return lacking


def _refuse(path: Path, does: str, names: list[str], key: str) -> None:
    if names:
        more = f", and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else ""
        raise WeightsError(
            f"{path} {does} {len(names)} tensor(s), by name or by shape: {', '.join(names[:_MAX_SHOWN])}{more}. "
            f"Where that is meant, name them in {key}, with * for any characters{_of_task(names)}"
        )


def _of_task(names: list[str]) -> str:
    own = any(name.startswith("task.") for name in names)
    return "; those of the task itself (task.*) are always drawn anew" * own


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is not a whole safetensors file ({error}): use another run") from error
