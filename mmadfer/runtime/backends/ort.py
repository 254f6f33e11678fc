"""ONNX Runtime: the .onnx files that `mmadfer.export` writes, on a CPU or a GPU."""

import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from mmadfer import contract as contracts
from mmadfer.contract import Contract
from mmadfer.errors import MissingDependencyError, MmadferError, WeightsError
from mmadfer.runtime.backends import ports
from mmadfer.runtime.backends.device import Device, parse_device
from mmadfer.runtime.backends.providers import PROVIDERS, advice, preload, providers
from mmadfer.utils import onnx_file
from mmadfer.utils.memory import enough, first_line
from mmadfer.utils.optional import need

_NUMPY_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int64)": "int64"}

_NOT_FUSED = ("float8", "replace the existing tensor")
"""In errors about quantised products: fp8, which would be fused into kernels of int8; and int8 weights that several
products share, on processors without VNNI. Such graphs are computed as they are written, in float32."""
NO_KERNELS = "ONNX Runtime has no kernels for it"
"""Words of the error by which a comparison knows that a graph must be simulated."""


class OrtBackend:
    """ONNX Runtime; many threads may use it at once. Without a device, on the CPU.

    Raises:
        WeightsError: no such file, damaged, or without the contract of an mmadfer model.
        MissingDependencyError: ONNX Runtime is not installed, or cannot use the device.
    """

    def __init__(self, path: Path, device: str | None = None, fold: int | None = None) -> None:
        self.device = parse_device(device, tuple(PROVIDERS))
        self.contract = contract_of(path, onnx_file.facts(path).metadata)
        self.session = _session(path, self.device, self.contract)
        self.input = self.contract.input
        ports.check_ports(path, self.contract, _ports(self.session))

    def logits(self, *arrays: np.ndarray) -> np.ndarray:
        """As in `Backend`."""
        feed = ports.check_arrays(self.contract, arrays)
        logits: np.ndarray = self.session.run([ports.OUTPUT], feed)[0]
        return logits


def _session(path: Path, device: Device, contract: Contract) -> Any:
    ort = need("onnxruntime", extra="serve")
    best = PROVIDERS[device.kind][0]
    if best not in ort.get_available_providers():
        raise MissingDependencyError(advice(device))
    missing = preload(ort, device)
    given = providers(path, device, contract)
    try:
        with warnings.catch_warnings(action="ignore"), enough(path, device):  # about the provider; below is more
            session = _open(ort, path, given)
    except MmadferError:
        raise
    except Exception as error:  # ONNX Runtime has no common class for its many errors
        raise WeightsError(_refusal(path, device, error)) from error
    if session.get_providers()[0] != best:  # it leaves out what does not work, without an error
        raise MissingDependencyError(advice(device, missing))
    return session


def _refusal(path: Path, device: Device, error: Exception) -> str:
    words = first_line(error)
    if "NOT_IMPLEMENTED" in words:
        return (
            f"{path}: {NO_KERNELS} on device {device} ({words}); graphs in bf16 are for GPUs. Export it with another "
            "--precision"
        )
    if device.gpu and "Load model from" not in words:  # so begins what it says about the file
        return f"{path} cannot be loaded on the device {device}: {words}. Mend that, or use the device cpu"
    return f"{path} is not a whole ONNX model: {words}. Export it anew."


def _open(ort: Any, path: Path, given: list[Any]) -> Any:
    """A session that never falls back to the CPU: it would answer, but slowly, and tell so on the standard output."""
    try:
        return ort.InferenceSession(str(path), _options(ort), providers=given, enable_fallback=0)
    except Exception as error:
        if not any(words in str(error) for words in _NOT_FUSED):
            raise
    options = _options(ort)
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ort.InferenceSession(str(path), options, providers=given, enable_fallback=0)


def _options(ort: Any) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only: they reach the user as exceptions
    options.use_deterministic_compute = True
    options.intra_op_num_threads = _threads()
    # Without it, products of int8 overflow on x86 processors that lack VNNI; on others it changes nothing.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def _threads() -> int:
    """What OMP_NUM_THREADS says, which ONNX Runtime overlooks, of the outermost level: `4` or `4,2`; 0 is its own."""
    found = re.match(r"\s*(\d+)", os.environ.get("OMP_NUM_THREADS", ""))
    return int(found[1]) if found else 0


def contract_of(path: Path, metadata: dict[str, str]) -> Contract:
    """The contract in an ONNX file's metadata; `path` is named in errors.

    Raises:
        WeightsError: there is none, or one that this version does not understand.
    """
    if contracts.KEY not in metadata:
        raise WeightsError(
            f"{path} carries no mmadfer contract (metadata {contracts.KEY!r}), so its labels and preprocessing are "
            "unknown. Export it with `mmadfer export onnx`; tools that drop metadata make it useless."
        )
    return contracts.loads(metadata[contracts.KEY], path)


def _ports(session: Any) -> dict[str, tuple[str, ports.Shape]]:
    return {port.name: _port(port) for port in (*session.get_inputs(), *session.get_outputs())}


def _port(port: Any) -> tuple[str, ports.Shape]:
    sizes = tuple(size if isinstance(size, int) else -1 for size in port.shape[1:])  # -1: of any size, which none is
    return _NUMPY_TYPES.get(port.type, port.type), sizes
