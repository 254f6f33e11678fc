"""TensorRT's flavours, and the sidecar that tells what an engine is, because an engine itself does not.

`model.engine` has `model.engine.json` beside it. It is read and checked before the engine is: TensorRT's own word for
an engine of another machine is a number, and the way out is always to build anew; each message ends with that command.
"""

import hashlib
import os
import re
import shlex
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from mmadfer.config.base import Line, Positive, Section, validated
from mmadfer.config.parts import DESCRIBED
from mmadfer.contract import BatchRange, Contract
from mmadfer.errors import ConfigError, FileError, MissingDependencyError, WeightsError
from mmadfer.runtime.backends.device import Device
from mmadfer.utils.files import read_object, sha256
from mmadfer.utils.optional import install, need

ENGINE_SUFFIX = ".engine"
MAX_SIDECAR_BYTES = 1 << 20
"""Bytes of a sidecar."""
PORTABLE = "any GPU that TensorRT-RTX knows"
Option = Literal["--fold", "--precision", "--data", "--workspace", "--tf32"]
"""What the command that builds an engine anew takes besides what the sidecar says anyway."""
TRUST = "MMADFER_TRUST_ENGINES"
"""Environment variable: 1 allows the program code in version-compatible engines to run."""


class Flavour(NamedTuple):
    """One of NVIDIA's two libraries with TensorRT's API."""

    module: str
    packages: str
    name: str


FLAVOURS = {
    "tensorrt": Flavour("tensorrt", install("tensorrt"), "TensorRT"),
    "rtx": Flavour("tensorrt_rtx", install("tensorrt-rtx"), "TensorRT-RTX"),
}
"""`tensorrt` is version 10 or 11, for datacenters; its engines are built on the GPU that runs them. Engines of `rtx`
are built anywhere, and finished on the GPU that loads them."""


_VersionPart = Annotated[int, Field(ge=0, le=1000)]
Capability = tuple[_VersionPart, _VersionPart]
Version = Annotated[str, Field(pattern=r"^[0-9A-Za-z.+_-]{1,64}$")]
Hash = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]


class Gpu(NamedTuple):
    """A GPU's name, and its compute capability, such as (9, 0)."""

    name: Line
    capability: Capability

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability[0]}.{self.capability[1]})"


class Sidecar(Section):
    """What an engine is: who built it for which GPU out of which graph, and the contract that it carries on."""

    flavour: Line
    """A key of `FLAVOURS`."""
    version: Version
    """TensorRT's, in full: the next one cannot read the engine, unless it is version-compatible."""
    gpu: Gpu | None = None
    """Where it was built; None for TensorRT-RTX, whose engines are not bound to one."""
    capabilities: tuple[Capability, ...] = ()
    """Compute capabilities that TensorRT-RTX names as those of its engines; later ones run them, too."""
    precision: Line
    """Arithmetic of the graph that it was built from; engines are strongly typed, so it is the engine's, too."""
    batch: BatchRange
    """Fewest, usual and most clips at once."""
    version_compatible: bool
    hardware_compatible: bool
    source: Line = ""
    """The model that it was built from, seen from the engine's folder; empty where that is not known."""
    options: dict[Option, bool | Positive | Line] = Field(default_factory=dict)
    """How else it was built, as on the command line; `--data` is seen from the engine's folder, too."""
    onnx_sha256: Hash
    """Of the ONNX graph."""
    engine_sha256: Hash
    seconds: Annotated[float, Field(ge=0)]
    """That building took."""
    contract: Contract

    @model_validator(mode="after")
    def _batch_rises(self) -> Self:
        if list(self.batch) != sorted(self.batch):
            raise ValueError(f"batch {list(self.batch)} does not rise")
        return self

    def dumps(self) -> str:
        """JSON, for a person too."""
        return self.model_dump_json(indent=2) + "\n"


def sidecar_path(engine: Path) -> Path:
    """`model.engine` -> `model.engine.json`."""
    return engine.with_name(engine.name + ".json")


def read_sidecar(engine: Path) -> Sidecar:
    """Read the sidecar beside an engine.

    Raises:
        WeightsError: no engine, no sidecar, or one that this version does not understand.
    """
    if not engine.is_file():
        raise WeightsError(f"no engine at {engine}; `mmadfer export engine MODEL --out {engine}` writes one")
    path = sidecar_path(engine)
    try:
        return validated(Sidecar, read_object(path, MAX_SIDECAR_BYTES), "it", context=DESCRIBED)
    except OSError as error:
        raise WeightsError(
            f"{engine} has no readable {path.name} beside it ({error.strerror}), so its labels and preprocessing are "
            f"unknown: copy both files, or build it anew with `mmadfer export engine MODEL --out {engine}`"
        ) from error
    except (ConfigError, FileError) as error:
        raise WeightsError(
            f"{path} is not what this version of mmadfer writes beside an engine: {error}\nBuild the engine anew with "
            f"`mmadfer export engine MODEL --out {engine}`"
        ) from error


def rebuild(
    engine: Path, sidecar: Sidecar, batch: tuple[int, int, int] | None = None, device: Device | None = None
) -> str:
    """The command that builds the engine anew, here.

    Args:
        engine: its path.
        sidecar: of the engine.
        batch: another range of clips at once.
        device: the GPU, if it is not the first; TensorRT-RTX builds without one.
    """
    source = _place(engine, sidecar.source) if sidecar.source else "MODEL"
    words = ["--out", _place(engine, engine.name), "--batch", *map(str, batch or sidecar.batch)]
    words += ["--flavour", sidecar.flavour, *_options(engine, sidecar)]
    words += ["--device", str(device)] if device is not None and device.index and sidecar.flavour != "rtx" else []
    command = shlex.join(["mmadfer", "export", "engine", source, *words])
    return command if os.path.exists(source) else f"{command} (where {source} lies: it is not here)"


def _place(engine: Path, seen: str) -> str:
    """A path as it is seen from the engine's folder, for a command that is run here."""
    path = os.path.normpath(engine.parent / seen)
    return f"./{path}" if path.startswith("-") else path


def _options(engine: Path, sidecar: Sidecar) -> Iterator[str]:
    words: dict[str, bool | int | str] = {
        **{str(name): value for name, value in sidecar.options.items()},
        "--version-compatible": sidecar.version_compatible,
        "--hardware-compatible": sidecar.hardware_compatible,
    }
    for name, value in words.items():
        if value is not False:
            yield name
        if not isinstance(value, bool):
            yield _place(engine, str(value)) if name == "--data" else str(value)


def flavour(name: str | None = None) -> tuple[str, Any]:
    """A flavour's name and its module; without a name the one that is installed, TensorRT before TensorRT-RTX.

    Raises:
        WeightsError: an unknown name.
        MissingDependencyError: it is not installed, or lacks its libraries.
    """
    if name is None:
        name = next((known for known in FLAVOURS if _installed(known)), "rtx")
    if name not in FLAVOURS:
        raise WeightsError(f"no flavour {name!r} of TensorRT; known: {', '.join(FLAVOURS)}")
    return name, _module(name)


def _module(name: str) -> Any:
    module, packages, title = FLAVOURS[name]
    try:
        return need(module, None, packages)
    except ImportError as error:  # of a library behind the bindings
        raise MissingDependencyError(f"{title} is there without its libraries ({error}): {packages}") from error


def _installed(name: str) -> bool:
    try:
        _module(name)
    except MissingDependencyError:
        return False
    return True


def check_engine_version(engine: Path, sidecar: Sidecar, version: str) -> None:
    """Whether the TensorRT that is here reads the engine.

    Raises:
        WeightsError: it does not, or runs code in the engine that nobody has allowed.
    """
    name = FLAVOURS[sidecar.flavour].name
    newer = _numbers(version) >= _numbers(sidecar.version)
    if version != sidecar.version and not (sidecar.version_compatible and newer):
        raise WeightsError(
            f"{engine} was built by {name} {sidecar.version}; here is {version}, which cannot read it. Build it anew: "
            f"{rebuild(engine, sidecar)}"
        )
    check_trust(engine, sidecar)


def check_trust(engine: Path, sidecar: Sidecar) -> None:
    """Whether the engine holds no program code, or somebody has allowed it.

    Raises:
        WeightsError: neither.
    """
    if sidecar.version_compatible and os.environ.get(TRUST) != "1":
        raise WeightsError(
            f"{engine} is version-compatible: it holds program code, which runs when it is loaded. If you trust "
            f"whoever built it, set {TRUST}=1; else build it here: {rebuild(engine, sidecar)}"
        )


def check_gpu(engine: Path, sidecar: Sidecar, here: Gpu, device: Device | None = None) -> None:
    """Whether the engine was built for this GPU, which `device` names.

    Raises:
        WeightsError: it was not.
    """
    built = sidecar.gpu
    if built is None or built == here or (sidecar.hardware_compatible and here.capability >= (8, 0)):
        return
    again = rebuild(engine, sidecar, device=device)
    raise WeightsError(f"{engine} was built for {built}; here is {here}. Build it anew: {again}")


def remedy(engine: Path, sidecar: Sidecar, here: Gpu) -> str:
    """What helps where TensorRT refuses an engine though everything that the sidecar tells of it fits.

    TensorRT-RTX is for graphics cards: NVIDIA names their compute capabilities, and 9.0 (H100, H200) is not among them.
    Whether an engine runs there all the same is tried; if not, to build it anew would be in vain.
    """
    named = sidecar.capabilities
    if not named or here.capability in named or here.capability > max(named):
        return f"Build it anew: {rebuild(engine, sidecar)}"
    listed = ", ".join(f"{major}.{minor}" for major, minor in named)
    return (
        f"TensorRT-RTX {sidecar.version} is for GPUs of compute capability {listed} and later; here is {here}. Build "
        "it with TensorRT (--flavour tensorrt), or use the ONNX file"
    )


def check_engine_files(engine: Path, sidecar: Sidecar, data: bytes | None = None) -> None:
    """Whether the engine is the one that the sidecar tells of, and an ONNX file beside it still what it was built from.

    Args:
        engine: its path.
        sidecar: of the engine.
        data: the engine, where it has been read already.

    Raises:
        WeightsError: the engine is damaged or another one, or the ONNX file beside it has changed since.
    """
    found = sha256(engine) if data is None else hashlib.sha256(data).hexdigest()
    if found != sidecar.engine_sha256:
        raise WeightsError(
            f"{engine} is not the engine that {sidecar_path(engine).name} tells of: it is damaged, or of another "
            f"build. Copy both anew, or build it: {rebuild(engine, sidecar)}"
        )
    source = engine.with_name(Path(sidecar.source).name or "none")
    beside = sidecar.source == source.name and source.suffix == ".onnx" and source.is_file()
    newer = beside and source.stat().st_mtime > engine.stat().st_mtime  # else it is not read: it is large
    if newer and sha256(source) != sidecar.onnx_sha256:
        raise WeightsError(f"{engine} is older than {source}. Build it anew: {rebuild(engine, sidecar)}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if re.fullmatch("[0-9]{1,9}", part))


def tensorrt_logger(trt: Any) -> Any:
    """A logger that prints nothing and keeps TensorRT's errors, for the exception that follows them."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors = deque[str](maxlen=3)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message.strip().split("\n")[0])

        def told(self) -> str:
            return "; ".join(self.errors) or "it does not say why"

    return Logger()
