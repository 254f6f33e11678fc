"""ONNX Runtime's providers, which compute for it on a device: their settings, and what must be loaded before them."""

import io
import os
import stat
from contextlib import redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from mmadfer.contract import Contract
from mmadfer.errors import MissingDependencyError
from mmadfer.runtime.backends import ports
from mmadfer.runtime.backends.device import Device
from mmadfer.runtime.backends.engines import FLAVOURS
from mmadfer.utils.files import sha256
from mmadfer.utils.optional import install

PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
"""Device -> ONNX Runtime's providers, the best first, which must be there; what it cannot do is left to the next."""


def providers(path: Path, device: Device, contract: Contract) -> list[tuple[str, dict[str, Any]]]:
    """The providers for a model on a device, the best first, with their settings.

    TF32, with which products of float32 keep 10 of their 23 digits, is off. TensorRT's provider has no setting for it
    but a variable of the process, which is set.

    Args:
        path: of the ONNX file.
        device: one of `PROVIDERS`.
        contract: of the model; only TensorRT's provider asks for it.

    Raises:
        MissingDependencyError: there is no place for TensorRT's engines.
    """
    number = {"device_id": device.index}
    settings: dict[str, dict[str, Any]] = {"CUDAExecutionProvider": number | {"use_tf32": "0"}}
    if device.kind == "tensorrt":
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
        settings["TensorrtExecutionProvider"] = number | _cache(path) | _profile(contract) | _types(contract)
    return [(name, settings.get(name, {})) for name in PROVIDERS[device.kind]]


def _cache(path: Path) -> dict[str, Any]:
    """Where engines are kept from one start to the next: each takes minutes to build.

    They lie in a folder of the file's content, since ONNX Runtime knows them by the names in the graph alone: those of
    another fold, or of an export with other weights, would be taken for them.

    Raises:
        MissingDependencyError: there is no place for them.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "mmadfer" / "tensorrt" / sha256(path)[:16]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # who writes there has their engine run
        known = folder.lstat()
    except OSError as error:
        raise MissingDependencyError(
            f"{folder}, where TensorRT's engines are to be kept, cannot be made ({error.strerror}): set XDG_CACHE_HOME "
            "to a folder in which you may write"
        ) from error
    owned = hasattr(os, "geteuid")  # Windows has no such rights, and a home that is its user's
    others = owned and (known.st_uid != os.geteuid() or known.st_mode & 0o022)
    if not stat.S_ISDIR(known.st_mode) or others:
        raise MissingDependencyError(f"{folder}, where TensorRT's engines are kept, is not yours alone: remove it")
    return {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(folder)}


def _profile(contract: Contract) -> dict[str, str]:
    """Fewest, usual and most clips at once; without them, an engine is built for each number larger than the last."""
    if contract.batch is None:
        return {}
    return {
        f"trt_profile_{name}_shapes": ",".join(
            f"{port}:{'x'.join(map(str, (count, *shape)))}" for port, (_, shape) in ports.inputs(contract).items()
        )
        for name, count in zip(("min", "opt", "max"), contract.batch, strict=True)
    }


def _types(contract: Contract) -> dict[str, bool]:
    """The types of the graph, which TensorRT must be allowed; it then uses them for other layers, too, as it likes."""
    kind = contract.arithmetic
    return {f"trt_{kind}_enable": True} if kind in ("fp16", "bf16", "int8") else {}


def preload(ort: Any, device: Device) -> str:
    """Load the libraries behind a provider, where they came as Python packages, which nothing else would find.

    Returns:
        what is missing, in ONNX Runtime's words; it prints them, and goes on.
    """
    if not device.gpu:
        return ""
    with redirect_stdout(io.StringIO()) as said:
        ort.preload_dlls()
    if device.kind == "tensorrt":
        with suppress(ImportError):  # they may be installed otherwise
            import_module(FLAVOURS["tensorrt"].module)
    return said.getvalue().strip()


def advice(device: Device, missing: str = "") -> str:
    """What to do where a provider does not work.

    Args:
        device: of the provider.
        missing: what `preload` returned.
    """
    told = f" ({missing.splitlines()[0]})" if missing else ""
    also = f"; and {FLAVOURS['tensorrt'].packages}, of the version that it was built with"
    return (
        f"device {device}: ONNX Runtime has no working {PROVIDERS[device.kind][0]} here{told}; use device cpu, or, on "
        f"a machine with a GPU, `pip uninstall onnxruntime` and then {install('gpu')}"
        f"{also if device.kind == 'tensorrt' else ''}"
    )
