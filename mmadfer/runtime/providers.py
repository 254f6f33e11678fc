"""ONNX Runtime's providers, which compute for it on a device: their settings, and what must be loaded before them."""

import io
import os
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from mmadfer.contract import Contract
from mmadfer.errors import MissingDependencyError
from mmadfer.files import sha256
from mmadfer.optional import install
from mmadfer.runtime import ports
from mmadfer.runtime.device import Device
from mmadfer.runtime.engines import FLAVOURS

PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
"""Device -> ONNX Runtime's providers, the best first, which must be there; what it cannot do is left to the next."""
METADATA = 14
"""Number of the field of an ONNX file that holds its metadata: entries with a key (1) and a value (2)."""
LARGEST = 1 << 24
"""Bytes of metadata that are read; a damaged file may promise any number."""
DIGITS = 10
"""Bytes of the longest number, which has 64 bits; a damaged file may go on."""


def providers(path: Path, device: Device, contract: Contract | None) -> list[tuple[str, dict[str, Any]]]:
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
    if contract is not None:
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
    except OSError as error:
        raise MissingDependencyError(
            f"{folder}, where TensorRT's engines are to be kept, cannot be made ({error.strerror}): set XDG_CACHE_HOME "
            "to a folder in which you may write"
        ) from error
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


def metadata(path: Path) -> dict[str, str]:
    """The metadata of an ONNX file, read past the graph, which may be large; none where the file is damaged."""
    with path.open("rb") as file:
        entries = [dict(_fields(io.BytesIO(entry))) for number, entry in _fields(file, METADATA) if number == METADATA]
    return {entry.get(1, b"").decode(errors="replace"): entry.get(2, b"").decode(errors="replace") for entry in entries}


def _fields(file: BinaryIO, wanted: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Numbers and contents of a message's fields that have a length (https://protobuf.dev/programming-guides/encoding).

    It ends where the message is damaged.

    Args:
        file: the message.
        wanted: number of the only field that is read; by default all are.
    """
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    while (tag := _number(file)) is not None:
        number, kind = tag >> 3, tag & 7
        size = _number(file) if kind in (0, 2) else {1: 8, 5: 4}.get(kind)
        if size is None or (kind and size > end - file.tell()):
            return
        if kind == 2 and number == (wanted or number) and size <= LARGEST:
            yield number, file.read(size)
        elif kind:
            file.seek(size, io.SEEK_CUR)


def _number(file: BinaryIO) -> int | None:
    """Seven bits in each byte, the lowest first; the highest bit says that more follow. None if cut off or too long."""
    value = 0
    for k in range(DIGITS):
        if not (byte := file.read(1)):
            return None
        value |= (byte[0] & 127) << 7 * k
        if byte[0] < 128:
            return value
    return None
