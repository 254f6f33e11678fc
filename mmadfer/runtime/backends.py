"""What computes logits: one small class per engine, all fed with the same arrays.

Shapes: B clips, T frames, S image side, C classes.
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from pydantic import ValidationError

from mmadfer import contract as contracts
from mmadfer.contract import Contract
from mmadfer.errors import MissingDependencyError, WeightsError
from mmadfer.optional import need

INPUTS = ("frames", "fbank")
OUTPUT = "logits"
"""Names in exported graphs; products bind to them, so they never change."""

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Backend(Protocol):
    """A model that computes logits on some engine."""

    contract: Contract

    def logits(self, frames: np.ndarray, fbank: np.ndarray) -> np.ndarray:
        """Logits float32 (B, C) of frames uint8 (B, T, 3, S, S) and fbank float32 (B, 1, frames, mels)."""
        ...


class TorchBackend:
    """PyTorch: run directories, .safetensors and published checkpoints.

    Raises:
        WeightsError: no such file, or not a model.
        MissingDependencyError: a GPU is asked for and torch finds none.
    """

    def __init__(self, path: Path, device: str = "cpu", fold: int | None = None) -> None:
        from mmadfer.model.load import load  # timm is needed for this backend only

        if device == "cuda" and not torch.cuda.is_available():
            raise MissingDependencyError("device cuda: torch finds no GPU here; use device cpu, or mend the driver")
        self.device = torch.device(device)
        self.model = load(path, fold).to(self.device)
        self.contract = promised(self.model.contract, path)

    def logits(self, frames: np.ndarray, fbank: np.ndarray) -> np.ndarray:
        """As in `Backend`."""
        inputs = (torch.from_numpy(array).to(self.device) for array in (frames, fbank))
        with torch.inference_mode():
            logits: np.ndarray = self.model(*inputs).float().cpu().numpy()
        return logits


class OrtBackend:
    """ONNX Runtime: the .onnx files that `mmadfer.export` writes.

    Raises:
        WeightsError: no such file, damaged, or without the contract of an mmadfer model.
        MissingDependencyError: ONNX Runtime is not installed, or cannot use the device.
    """

    def __init__(self, path: Path, device: str = "cpu", fold: int | None = None) -> None:
        self.session = _session(path, device)
        self.contract = _contract(path, self.session.get_modelmeta().custom_metadata_map)
        _check_ports(path, self.session, self.contract)

    def logits(self, frames: np.ndarray, fbank: np.ndarray) -> np.ndarray:
        """As in `Backend`."""
        logits: np.ndarray = self.session.run([OUTPUT], dict(zip(INPUTS, (frames, fbank), strict=True)))[0]
        return logits


BACKENDS: dict[str, Callable[[Path, str, int | None], Backend]] = {"torch": TorchBackend, "onnxruntime": OrtBackend}
SUFFIXES = {".onnx": "onnxruntime"}
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


def choose(path: Path, backend: str | None) -> str:
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


def _session(path: Path, device: str) -> Any:
    if not path.is_file():
        raise WeightsError(f"no model at {path}; `mmadfer export onnx` writes one")
    ort = need("onnxruntime", extra="export")
    provider = PROVIDERS[device]
    try:
        with warnings.catch_warnings(action="ignore"):  # about the provider; the check below says more
            session = ort.InferenceSession(str(path), _options(ort), providers=[provider])
    except Exception as error:  # ONNX Runtime has no common class for its many errors about a file
        raise WeightsError(f"{path} is not a whole ONNX model: {_first_line(error)}. Export it anew.") from error
    if session.get_providers()[0] != provider:  # it falls back to the CPU without an error
        raise MissingDependencyError(
            f"device {device}: ONNX Runtime has no working {provider} here; use device cpu, or, on a machine with a "
            "GPU, `pip uninstall onnxruntime` and then `pip install 'mmadfer[gpu]'`"
        )
    return session


def _options(ort: Any) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only: they reach the user as exceptions
    options.use_deterministic_compute = True
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)  # which ONNX Runtime itself overlooks
    return options


def _contract(path: Path, metadata: dict[str, str]) -> Contract:
    if contracts.KEY not in metadata:
        raise WeightsError(
            f"{path} carries no mmadfer contract (metadata {contracts.KEY!r}), so its labels and preprocessing are "
            "unknown. Export it with `mmadfer export onnx`; tools that drop metadata make it useless."
        )
    try:
        return contracts.loads(metadata[contracts.KEY])
    except ValidationError as error:
        keys = ", ".join(sorted({str(item["loc"][0]) if item["loc"] else "all of it" for item in error.errors()}))
        raise WeightsError(
            f"{path} carries a contract that this version of mmadfer does not understand ({keys}): export it anew"
        ) from error


def _check_ports(path: Path, session: Any, contract: Contract) -> None:
    side = contract.model.image_size
    wanted = {
        "frames": ("tensor(uint8)", [contract.model.frames, 3, side, side]),
        "fbank": ("tensor(float)", [1, *contract.model.fbank]),
        OUTPUT: ("tensor(float)", [len(contract.labels)]),
    }
    found = {port.name: (port.type, port.shape[1:]) for port in (*session.get_inputs(), *session.get_outputs())}
    if found != wanted:
        raise WeightsError(f"{path} does not hold what its contract says: it has {found} instead of {wanted}")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
