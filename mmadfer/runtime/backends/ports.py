"""What goes into a model and what comes out: names, types and shapes. Products bind to them, so they never change.

A model of one modality has no port for the other.

Shapes: B clips, T frames, S image side, C classes, K windows.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmadfer.contract import Contract
from mmadfer.errors import DataError, WeightsError

OUTPUT = "logits"

Shape = tuple[int, ...]
"""Without the batch; -1 is any size."""


def inputs(contract: Contract) -> dict[str, tuple[str, Shape]]:
    """Name -> type and shape of each input, in order: frames, sound, tokens, as far as it has their encoders.

    Sound is `fbank`, or `waveform` and `lengths` of a model that was exported with `--input waveform`. With `--windows
    K`, each shape starts with K.
    """
    if contract.pooled_windows:
        row = inputs(contract.model_copy(update={"pooled_windows": None}))
        return {name: (kind, (contract.pooled_windows, *shape)) for name, (kind, shape) in row.items()}
    model, found = contract.model, dict[str, tuple[str, Shape]]()
    if "vision" in model.modalities:
        found["frames"] = ("uint8", (model.frames, 3, model.image_size, model.image_size))
    if "audio" in model.modalities and contract.input == "waveform":
        found |= {"waveform": ("float32", (contract.samples,)), "lengths": ("int64", ())}
    elif "audio" in model.modalities:
        found["fbank"] = ("float32", (1, *model.fbank))
    if model.text is not None:
        found["tokens"] = ("int64", (model.text.tokens,))
    return found


def outputs(contract: Contract) -> dict[str, tuple[str, Shape]]:
    """Name -> type and shape of the output: (C,), or (T, C) of a model that gives values of each step."""
    steps = (contract.model.steps,) if contract.per_step else ()
    return {OUTPUT: ("float32", (*steps, len(contract.names)))}


def check_ports(
    path: Path, contract: Contract, found: Mapping[str, tuple[str, Shape]], advice: str = "Export it anew"
) -> None:
    """Whether a model has the inputs and the output that its contract promises.

    Args:
        path: of the model, which is named in the error.
        contract: of the model.
        found: name -> type and shape of its inputs and outputs.
        advice: the end of the error.

    Raises:
        WeightsError: it has not; says which differ.
    """
    wanted = inputs(contract) | outputs(contract)
    differ = [name for name in (*wanted, *sorted(found.keys() - wanted.keys())) if found.get(name) != wanted.get(name)]
    if differ:
        told = "; ".join(f"{name}: {_told(found.get(name))} instead of {_told(wanted.get(name))}" for name in differ)
        raise WeightsError(f"{path} does not hold what its contract says: {told}. {advice}")


def _told(port: tuple[str, Shape] | None) -> str:
    return f"{port[0]} ({', '.join(['B', *map(str, port[1])])})" if port else "nothing"


def check_arrays(contract: Contract, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays by the names of the inputs.

    Raises:
        DataError: one is missing, or has another type or shape than the model takes; says which.
    """
    wanted = inputs(contract)
    if len(arrays) != len(wanted):
        raise DataError(f"the model takes {', '.join(wanted)}, not {len(arrays)} arrays")
    batch = len(arrays[0]) if arrays[0].ndim else 0
    for array, (name, (kind, shape)) in zip(arrays, wanted.items(), strict=True):
        if array.dtype != kind or array.shape != (batch, *shape) or not batch:
            raise DataError(
                f"{name} is {array.dtype} {array.shape}; the model takes {_told((kind, shape))}, with one batch B >= 1 "
                "for all inputs"
            )
    return dict(zip(wanted, arrays, strict=True))
