"""A copy of the code beside the run, so that a job that starts tomorrow runs what was launched today."""

import filecmp
import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from mmadfer.errors import MmadferError

PACKAGES = {"mmadfer": "mmadfer", "mmadfer.launch": "mmadfer/launch", "mmadfer.export": "mmadfer/export"}
"""Packages, and where they lie in the copy: there `mmadfer` is one plain folder."""
_KEPT = (".py", ".yaml", ".typed", ".onnx", ".safetensors")  # the last two: the face detector's


def sources() -> dict[str, Path]:
    """Every file of the installed code by its place in the copy."""
    files: dict[str, Path] = {}
    for package, place in PACKAGES.items():
        root = _home(package)
        for path in sorted(root.rglob("*")):
            if path.suffix in _KEPT and path.is_file():
                files[f"{place}/{path.relative_to(root).as_posix()}"] = path
    return files


def take(run: Path) -> Path:
    """Copy the code to `run/code`, published by rename; a copy that is there is kept, for the run began with it."""
    code = run / "code"
    if code.is_dir():
        return code
    partial = run / f".code.{os.getpid()}.tmp"
    try:
        for name, source in sources().items():
            target = partial / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        partial.rename(code)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return code


def share(code: Path, run: Path) -> None:
    """Give a run a copy of the code that lies elsewhere, under a relative path; one that it has is kept."""
    if not (run / "code").exists():
        (run / "code").symlink_to(os.path.relpath(code, run), target_is_directory=True)


def changed(run: Path) -> list[str]:
    """Files whose installed code is no longer what the run's copy holds."""
    now, code = sources(), run / "code"
    gone = [p.relative_to(code).as_posix() for p in code.rglob("*") if p.suffix in _KEPT]
    stale = [name for name, path in now.items() if not _equal(code / name, path)]
    return sorted({*stale, *(name for name in gone if name not in now)})


def environment(run: Path) -> dict[str, str]:
    """Variables that make a job import the run's copy, and not what lies in the folder that it is started from."""
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {"PYTHONPATH": os.pathsep.join([str(run / "code"), *others]), "PYTHONSAFEPATH": "1"}


def _equal(copy: Path, path: Path) -> bool:
    return copy.is_file() and filecmp.cmp(copy, path, shallow=False)


def _home(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MmadferError(f"the package {package} is not installed as a whole: pip install mmadfer")
    return Path(next(iter(spec.submodule_search_locations)))
