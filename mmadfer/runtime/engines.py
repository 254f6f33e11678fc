"""TensorRT's flavours, and the sidecar that tells what an engine is, because an engine itself does not.

`model.engine` has `model.engine.json` beside it. It is read and checked before the engine is: TensorRT's own word for
an engine of another machine is a number, and the way out is always to build anew; each message ends with that command.
"""

import os
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from mmadfer.contract import Contract
from mmadfer.errors import MissingDependencyError, WeightsError
from mmadfer.files import sha256, write_text
from mmadfer.optional import install, need
from mmadfer.section import Section

SUFFIX = ".engine"
PORTABLE = "any GPU that TensorRT-RTX knows"
TRUST = "MMADFER_TRUST_ENGINES"
"""Environment variable: 1 allows the program code in version-compatible engines to run."""


class Flavour(NamedTuple):
    """One of NVIDIA's two libraries with TensorRT's API."""

    module: str
    packages: str
    name: str


FLAVOURS = {
    "tensorrt": Flavour("tensorrt", "pip install tensorrt-cu13 cuda-bindings", "TensorRT"),
    "rtx": Flavour("tensorrt_rtx", install("tensorrt"), "TensorRT-RTX"),
}
"""`tensorrt` is version 10 or 11, for datacenters; its engines are built on the GPU that runs them. Engines of `rtx`
are built anywhere, and finished on the GPU that loads them."""


class Gpu(NamedTuple):
    """A GPU's name, and its compute capability, such as (9, 0)."""

    name: str
    capability: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability[0]}.{self.capability[1]})"


class Sidecar(Section):
    """What an engine is: who built it for which GPU out of which graph, and the contract that it carries on."""

    flavour: str
    """A key of `FLAVOURS`."""
    version: str
    """TensorRT's, in full: the next one cannot read the engine, unless it is version-compatible."""
    gpu: Gpu | None = None
    """Where it was built; None for TensorRT-RTX, whose engines are not bound to one."""
    precision: str
    """Arithmetic of the graph that it was built from; engines are strongly typed, so it is the engine's, too."""
    batch: tuple[int, int, int]
    """Fewest, usual and most clips at once."""
    version_compatible: bool
    hardware_compatible: bool
    source: str = ""
    """The model that it was built from, seen from the engine's folder."""
    options: tuple[str, ...] = ()
    """How it was built from it, as on the command line, but for the batch."""
    onnx_sha256: str
    """Of the ONNX graph."""
    engine_sha256: str
    seconds: float
    """That building took."""
    contract: Contract


def sidecar_path(engine: Path) -> Path:
    """`model.engine` -> `model.engine.json`."""
    return engine.with_name(engine.name + ".json")


def write_sidecar(engine: Path, sidecar: Sidecar) -> None:
    """Write it beside its engine, atomically."""
    write_text(sidecar_path(engine), sidecar.model_dump_json(indent=2) + "\n")


def read_sidecar(engine: Path) -> Sidecar:
    """Read what `write_sidecar` wrote.

    Raises:
        WeightsError: no engine, no sidecar, or one that this version does not understand.
    """
    if not engine.is_file():
        raise WeightsError(f"no engine at {engine}; `mmadfer export engine MODEL --out {engine}` writes one")
    path = sidecar_path(engine)
    try:
        return Sidecar.model_validate_json(path.read_bytes())
    except OSError as error:
        raise WeightsError(
            f"{engine} has no readable {path.name} beside it ({error.strerror}), so its labels and preprocessing are "
            f"unknown: copy both files, or build it anew with `mmadfer export engine MODEL --out {engine}`"
        ) from error
    except ValidationError as error:
        keys = ", ".join(sorted({".".join(map(str, item["loc"][:2])) or "all of it" for item in error.errors()}))
        raise WeightsError(
            f"{path} is not what this version of mmadfer writes beside an engine ({keys}): build the engine anew with "
            f"`mmadfer export engine MODEL --out {engine}`"
        ) from error


def rebuild(engine: Path, sidecar: Sidecar, batch: tuple[int, int, int] | None = None) -> str:
    """The command that builds the engine anew, here; for another range of clips at once, if that is given."""
    source = os.path.normpath(engine.parent / sidecar.source)
    sizes = map(str, batch or sidecar.batch)
    return shlex.join(
        ["mmadfer", "export", "engine", source, "--out", str(engine), "--batch", *sizes, *sidecar.options]
    )


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


def check_version(engine: Path, sidecar: Sidecar, version: str) -> None:
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


def check_gpu(engine: Path, sidecar: Sidecar, here: Gpu) -> None:
    """Whether the engine was built for this GPU.

    Raises:
        WeightsError: it was not.
    """
    built = sidecar.gpu
    if built is None or built == here or (sidecar.hardware_compatible and here.capability >= (8, 0)):
        return
    raise WeightsError(f"{engine} was built for {built}; here is {here}. Build it anew: {rebuild(engine, sidecar)}")


def check_files(engine: Path, sidecar: Sidecar) -> None:
    """Whether the engine is the one that the sidecar tells of, and its ONNX file is still that which it was built from.

    Raises:
        WeightsError: the engine is damaged or another one, or the ONNX file beside it has changed since.
    """
    if sha256(engine) != sidecar.engine_sha256:
        raise WeightsError(
            f"{engine} is not the engine that {sidecar_path(engine).name} tells of: it is damaged, or of another "
            f"build. Copy both anew, or build it: {rebuild(engine, sidecar)}"
        )
    source = engine.parent / sidecar.source
    if source.suffix == ".onnx" and source.is_file() and sha256(source) != sidecar.onnx_sha256:
        raise WeightsError(f"{engine} is older than {source}. Build it anew: {rebuild(engine, sidecar)}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def logger(trt: Any) -> Any:
    """A logger that prints nothing and keeps TensorRT's errors, for the exception that follows them."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message.strip().split("\n")[0])

        def told(self) -> str:
            return "; ".join(self.errors[-3:]) or "it does not say why"

    return Logger()
