"""What computes logits: one small class per engine, all fed with the same arrays.

Shapes: B clips, T frames, S image side, C classes. What an engine needs is imported when it is chosen.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mmadfer.contract import Contract
from mmadfer.errors import MissingDependencyError, WeightsError
from mmadfer.runtime.backends import ports
from mmadfer.runtime.backends.device import Device, parse_device
from mmadfer.runtime.backends.ort import OrtBackend
from mmadfer.utils.float32 import exact
from mmadfer.utils.memory import enough
from mmadfer.utils.optional import need

__all__ = ["BACKENDS", "SUFFIXES", "Backend", "OrtBackend", "TorchBackend", "choose_backend", "promised"]


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


class TorchBackend:
    """PyTorch: run directories, .safetensors and published checkpoints; without a device, on the CPU.

    Raises:
        WeightsError: no such file, or not a model.
        MissingDependencyError: torch is not installed, or finds no GPU where one is asked for.
    """

    input = "fbank"

    def __init__(self, path: Path, device: str | None = None, fold: int | None = None) -> None:
        self._torch = need("torch", extra="torch")
        self.device = parse_device(device, ("cpu", "cuda"))
        if self.device.index >= (self._torch.cuda.device_count() if self.device.gpu else 1):
            raise MissingDependencyError(
                f"device {self.device}: torch finds no such GPU here; use cpu, or mend the driver"
            )
        need("timm", extra="torch")
        from mmadfer.model.weights.load import load

        with enough(path, self.device):
            self.model = load(path, fold).to(self.device.torch)
        self.contract = promised(self.model.contract, path)

    def logits(self, *arrays: np.ndarray) -> np.ndarray:
        """As in `Backend`."""
        feed = ports.check_arrays(self.contract, arrays)
        with self._torch.inference_mode(), exact(self.device.torch):
            given = {name: self._there(array) for name, array in feed.items()}
            logits: np.ndarray = self.model(**given).float().cpu().numpy()
        return logits

    def _there(self, array: np.ndarray) -> Any:
        tensor = self._torch.from_numpy(np.ascontiguousarray(array))
        return tensor.pin_memory().to(self.device.torch, non_blocking=True) if self.device.gpu else tensor


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


def promised(contract: Contract | None, path: Path | str) -> Contract:
    """The contract of the model at `path`.

    Raises:
        WeightsError: it has none, so that labels and preprocessing are unknown.
    """
    if contract is None:
        raise WeightsError(
            f"{path} does not tell its labels and preprocessing: take the run it comes from, or write it anew with "
            "`mmadfer export weights RUN --out model.safetensors`"
        )
    return contract


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
