"""PyTorch: run directories, .safetensors files and published checkpoints."""

from pathlib import Path
from typing import Any

import numpy as np

from mmadfer.contract import Contract
from mmadfer.errors import MissingDependencyError, WeightsError
from mmadfer.runtime.backends import ports
from mmadfer.runtime.backends.device import parse_device
from mmadfer.utils.float32 import exact
from mmadfer.utils.memory import enough
from mmadfer.utils.optional import need


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
