"""Which backend computes the logits of a model file: by the file's ending.

Shapes: B clips, T frames, S image side, C classes. What an engine needs is imported when it is chosen.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from mmadfer.contract import Contract
from mmadfer.errors import WeightsError
from mmadfer.runtime.backends.device import Device
from mmadfer.runtime.backends.ort import OrtBackend
from mmadfer.runtime.backends.torch_backend import TorchBackend


class Backend(Protocol):
    """A model that computes logits on some engine; many threads may use it at once."""

    contract: Contract
    device: Device
    """Where it computes."""

    @property
    def input(self) -> str:
        """What it hears: `fbank` or `waveform`."""
        ...

    def logits(self, *arrays: np.ndarray) -> np.ndarray:
        """Logits float32 (B, C).

        Args:
            arrays: what `ports.inputs` names, in its order. Frames are uint8 (B, T, 3, S, S). Sound is fbank float32
                (B, 1, frames, mels); or, where `input` is `waveform`, two arrays: the first channel's samples float32
                (B, `contract.samples`), zeros behind the end of shorter ones, and int64 (B,), how many there are of
                each. A model of one modality takes its own alone.

        Raises:
            DataError: other types or shapes.
        """
        ...


def _tensorrt(path: Path, device: str | None, fold: int | None) -> Backend:
    from mmadfer.runtime.backends.tensorrt_backend import TensorRTBackend

    backend: Backend = TensorRTBackend(path, device, fold)
    return backend


BACKENDS: dict[str, Callable[[Path, str | None, int | None], Backend]] = {
    "torch": TorchBackend,
    "onnxruntime": OrtBackend,
    "tensorrt": _tensorrt,
}
SUFFIXES = {".onnx": "onnxruntime", ".engine": "tensorrt"}
"""File suffix -> backend; everything else is PyTorch's. Engines of other makers join in these two tables."""


def choose_backend(path: Path, backend: str | None) -> str:
    """The backend's name for a model path.

    Raises:
        WeightsError: an unknown backend, or one that cannot read this file.
    """
    natural = SUFFIXES.get(path.suffix.lower(), "torch")
    if backend not in (None, *BACKENDS):
        raise WeightsError(f"no backend {backend!r}; known: {', '.join(BACKENDS)}")
    if backend not in (None, natural):
        raise WeightsError(f"backend {backend} cannot read {path}; this file is for {natural} (leave the backend out)")
    return natural
