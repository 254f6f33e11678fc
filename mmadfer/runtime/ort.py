"""ONNX Runtime: the .onnx files that `mmadfer.export` writes, on a CPU or a GPU."""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from mmadfer import contract as contracts
from mmadfer.contract import Contract
from mmadfer.errors import MissingDependencyError, WeightsError
from mmadfer.optional import install, need
from mmadfer.runtime import ports
from mmadfer.runtime.device import Device, parse

PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
"""Device -> ONNX Runtime's providers, the best first, which must be there; what it cannot do is left to the next."""
TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int64)": "int64"}


class OrtBackend:
    """ONNX Runtime; many threads may use it at once. Without a device, on the CPU.

    Raises:
        WeightsError: no such file, damaged, or without the contract of an mmadfer model.
        MissingDependencyError: ONNX Runtime is not installed, or cannot use the device.
    """

    def __init__(self, path: Path, device: str | None = None, fold: int | None = None) -> None:
        self.device = parse(device, tuple(PROVIDERS))
        self.session = _session(path, self.device)
        self.contract = contract_of(path, self.session.get_modelmeta().custom_metadata_map)
        self.input = self.contract.input
        _check_ports(path, self.session, self.contract)

    def logits(self, frames: np.ndarray, *sound: np.ndarray) -> np.ndarray:
        """As in `Backend`."""
        feed = ports.check_arrays(self.contract, (frames, *sound))
        logits: np.ndarray = self.session.run([ports.OUTPUT], feed)[0]
        return logits


def _session(path: Path, device: Device) -> Any:
    if not path.is_file():
        raise WeightsError(f"no model at {path}; `mmadfer export onnx` writes one")
    ort = need("onnxruntime", extra="serve")
    wanted = PROVIDERS[device.kind]
    if wanted[0] not in ort.get_available_providers():
        raise MissingDependencyError(_no_provider(device, wanted[0]))
    given = [(name, _settings(name, device)) for name in wanted]
    try:
        with warnings.catch_warnings(action="ignore"):  # about the provider; the check below says more
            session = _open(ort, path, given)
    except Exception as error:  # ONNX Runtime has no common class for its many errors about a file
        if "NOT_IMPLEMENTED" in str(error):
            raise WeightsError(
                f"{path}: ONNX Runtime has no kernels for it on device {device} ({_first_line(error)}); graphs in bf16 "
                "are for GPUs. Export it with another --precision"
            ) from error
        raise WeightsError(f"{path} is not a whole ONNX model: {_first_line(error)}. Export it anew.") from error
    if session.get_providers()[0] != wanted[0]:  # it falls back to the CPU without an error
        raise MissingDependencyError(_no_provider(device, wanted[0]))
    session.disable_fallback()  # nor later: it would answer, but slowly
    return session


def _open(ort: Any, path: Path, providers: list[Any]) -> Any:
    try:
        return ort.InferenceSession(str(path), _options(ort), providers=providers)
    except Exception as error:
        if "float8" not in str(error):
            raise
    options = _options(ort)
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # it would fuse fp8 into kernels of int8
    return ort.InferenceSession(str(path), options, providers=providers)


def _settings(provider: str, device: Device) -> dict[str, Any]:
    if provider == "CPUExecutionProvider":
        return {}
    exact = {"use_tf32": "0"} if provider == "CUDAExecutionProvider" else {}  # else float32 has digits of 10 bits there
    return {"device_id": device.index, **exact}


def _no_provider(device: Device, provider: str) -> str:
    return (
        f"device {device}: ONNX Runtime has no working {provider} here; use device cpu, or, on a machine with a GPU, "
        f"`pip uninstall onnxruntime` and then {install('gpu')}"
    )


def _options(ort: Any) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only: they reach the user as exceptions
    options.use_deterministic_compute = True
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)  # which ONNX Runtime itself overlooks
    return options


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
    try:
        return contracts.loads(metadata[contracts.KEY])
    except ValidationError as error:
        keys = ", ".join(sorted({str(item["loc"][0]) if item["loc"] else "all of it" for item in error.errors()}))
        raise WeightsError(
            f"{path} carries a contract that this version of mmadfer does not understand ({keys}): export it anew"
        ) from error


def _check_ports(path: Path, session: Any, contract: Contract) -> None:
    wanted = ports.inputs(contract) | ports.outputs(contract)
    found = {port.name: _port(port) for port in (*session.get_inputs(), *session.get_outputs())}
    if found != wanted:
        raise WeightsError(f"{path} does not hold what its contract says: it has {found} instead of {wanted}")


def _port(port: Any) -> tuple[str, ports.Shape]:
    sizes = tuple(size if isinstance(size, int) else -1 for size in port.shape[1:])  # -1: of any size, which none is
    return TYPES.get(port.type, port.type), sizes


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
