"""The exported forms of a model that a comparison is about: where they lie, and which of them run here."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from mmadfer.contract import Contract
from mmadfer.errors import ConfigError, MissingDependencyError, WeightsError
from mmadfer.export.graph import external, protos
from mmadfer.export.graph.precision import widened
from mmadfer.runtime.backends.choice import BACKENDS, SUFFIXES
from mmadfer.runtime.backends.device import parse_device
from mmadfer.runtime.backends.engines import read_sidecar
from mmadfer.runtime.backends.ort import NO_KERNELS
from mmadfer.runtime.batches import Batches
from mmadfer.runtime.recogniser import Recogniser
from mmadfer.utils.files import sha256
from mmadfer.utils.optional import need
from mmadfer.utils.temporary_folders import scratch

_BACKEND_NAMES = {"ort": "onnxruntime", "trt": "tensorrt"}
"""Short names of backends."""
_EXPORT_COMMANDS = {"onnxruntime": "mmadfer export onnx", "tensorrt": "mmadfer export engine"}
WIDENED = (
    "not run, simulated: ONNX Runtime does not compute in bfloat16 here, so a graph ran in its place that does each "
    "operation in float32 and rounds what comes of it to bfloat16, as a GPU does"
)
TF32 = "it was built with --tf32: products are 1e-3 off, beyond float32's tolerance. Build it without, or in fp16"


@dataclass(frozen=True)
class Candidate:
    """An exported form that runs here."""

    path: Path
    recogniser: Recogniser
    note: str = ""
    """What a person should know of how it is run."""
    simulated: bool = False
    """Something else runs in the file's place."""

    @cached_property
    def batches(self) -> Batches:
        """Computes as `Recogniser.predict` does."""
        return Batches(self.recogniser.backend)

    @property
    def contract(self) -> Contract:
        """What it promises."""
        return self.recogniser.contract

    def facts(self) -> dict[str, Any]:
        """Which model it is."""
        facts = {**self.recogniser.facts(), "file": self.path.name, "sha256": sha256(self.path)}
        return {**facts, "input": self.contract.input, "recorded": self.contract.metrics}


def parse_backends(backends: str | None) -> list[str] | None:
    """Backends by their names, `torch,ort,trt`, without torch, which always is the reference; None for None.

    Raises:
        ConfigError: one that is not there, or none to compare with torch.
    """
    if backends is None:
        return None
    names = [_BACKEND_NAMES.get(name, name) for name in re.split(r"[,\s]+", backends.strip()) if name]
    unknown = [name for name in names if name not in BACKENDS]
    found = list(dict.fromkeys(name for name in names if name != "torch"))
    if unknown or not found:
        wrong = f"no backend {unknown[0]!r}" if unknown else "nothing to compare torch with"
        raise ConfigError(f"--backends {backends}: {wrong}; give some of torch, {', '.join(_BACKEND_NAMES)}")
    return found


def choose_models(
    path: Path, models: Sequence[Path], backends: list[str] | None, contract: Contract
) -> tuple[list[Path], dict[str, str]]:
    """The files to compare, and of what lies beside the run, which cannot be used, and why.

    Args:
        path: of the reference.
        models: files that are asked for; without any, all of the reference's fold in RUN/export.
        backends: those that are asked for; None leaves it to the files.
        contract: of the reference.

    Raises:
        ConfigError: a file that none of the backends runs.
        WeightsError: no file, or none for a backend that is asked for.
    """
    if models:
        _check_asked(models, backends)
        found, unusable = list(models), dict[str, str]()
    else:
        beside = [file for file in _beside(path) if backends is None or _backend(file) in backends]
        found, unusable = _of_fold(beside, contract)
    missing = [name for name in backends or () if name not in map(_backend, found)]
    if missing or not found:
        raise WeightsError(_nothing(path, missing, unusable))
    return found, unusable


def _check_asked(models: Sequence[Path], backends: list[str] | None) -> None:
    for model in models:
        if model.suffix.lower() not in SUFFIXES:
            raise ConfigError(f"--model {model}: give exported models, files that end in {', '.join(SUFFIXES)}")
        if backends is not None and _backend(model) not in backends:
            raise ConfigError(f"--model {model} is for {_backend(model)}, which --backends leaves out")


def _backend(path: Path) -> str:
    return SUFFIXES[path.suffix.lower()]


def proving(run: Path | str, model: Path, fold: int | None, data: Path | str | None) -> str:
    """The command that proves a model where it runs; without `data` on the store that the run names."""
    words = ["mmadfer", "export", "parity", str(run), "--model", str(model)]
    words += ["--fold", str(fold)] if fold is not None else []
    words += ["--data", str(data)] if data is not None else []
    return shlex.join(words)


def folder(path: Path) -> Path:
    """Where the exported files of a run lie, or of the run of a fold directory."""
    return (path.parent if re.fullmatch(r"fold-\d+", path.name) else path) / "export"


def _beside(path: Path) -> list[Path]:
    """Exported files of a run; by name, so that the order is always the same."""
    return sorted(file for file in folder(path).glob("*") if file.suffix.lower() in SUFFIXES and file.is_file())


def _of_fold(files: Sequence[Path], contract: Contract) -> tuple[list[Path], dict[str, str]]:
    found, unusable = list[Path](), dict[str, str]()
    for file in files:
        try:
            fold = _contract(file).fold
        except WeightsError as error:
            unusable[file.name] = str(error)
        else:
            found += [file] if fold == contract.fold else []
    return found, unusable


def _contract(path: Path) -> Contract:
    return protos.read_contract(path) if _backend(path) == "onnxruntime" else read_sidecar(path).contract


def _nothing(path: Path, missing: list[str], unusable: dict[str, str]) -> str:
    what = " and ".join(missing) or "any backend"
    commands = ", ".join(f"`{_EXPORT_COMMANDS[name]}`" for name in missing or _EXPORT_COMMANDS)
    reasons = "".join(f"\n  {name}: {reason}" for name, reason in unusable.items())
    return (
        f"there is no exported model of this fold for {what} in {folder(path)}: name files with --model, or write some "
        f"there ({commands}){reasons}"
    )


class _LeftOutFiles(NamedTuple):
    """Files that are left out, by name, and why."""

    not_run: dict[str, str]
    """What runs them is missing here."""
    unusable: dict[str, str]
    """They are damaged, or not for this machine."""


def load_models(files: Sequence[Path], device: str, needed: Sequence[Path]) -> tuple[list[Candidate], _LeftOutFiles]:
    """The forms that run here, and why others do not.

    Args:
        files: ONNX files and engines.
        device: where ONNX Runtime computes.
        needed: those of the files whose failure is an error.

    Raises:
        MmadferError: one that is needed does not run, or none of all does.
    """
    found, left = list[Candidate](), _LeftOutFiles({}, {})
    for file in files:
        try:
            found.append(_load(file, device))
        except (MissingDependencyError, WeightsError) as error:
            if file in needed:
                raise
            skipped = left.unusable if isinstance(error, WeightsError) else left.not_run
            skipped[file.name] = str(error)
    if not found:
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in (left.not_run | left.unusable).items())
        raise WeightsError(f"none of the exported models runs here:{reasons}")
    return found, left


def _load(path: Path, device: str) -> Candidate:
    return _graph(path, device) if _backend(path) == "onnxruntime" else _engine(path, device)


def _graph(path: Path, device: str) -> Candidate:
    external.weight_files(path)
    try:
        return Candidate(path, Recogniser(path, device=device))
    except WeightsError as error:
        if NO_KERNELS not in str(error) or _contract(path).arithmetic != "bf16":
            raise
    with scratch("widened") as folder:
        wide = folder / path.name
        need("onnx", extra="export").save(widened(protos.read(path, weights=True)), wide)
        return Candidate(path, Recogniser(wide, device=device), WIDENED, simulated=True)


def _engine(path: Path, device: str) -> Candidate:
    given, sidecar = parse_device(device), read_sidecar(path)
    lossy = sidecar.precision == "fp32" and "--tf32" in sidecar.options
    return Candidate(path, Recogniser(path, device=given.torch if given.gpu else None), TF32 if lossy else "")
