"""Which code a run comes from, and what computes it."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mmadfer.utils.files import write_text
from mmadfer.version import VERSION

_PACKAGES = ("torch", "deepspeed", "nvidia-dali-cuda130", "timm", "numpy", "submitit")


def origin(folder: Path) -> dict[str, Any]:
    """Versions of the code, of Python and of the packages that matter, for `run.json` in `folder`."""
    return {
        "version": VERSION,
        "git": _git(folder),
        "python": platform.python_version(),
        "packages": {name: installed(name) for name in _PACKAGES},
    }


def processor() -> str:
    """The name of this machine's CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def installed(package: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(folder: Path) -> dict[str, Any] | None:
    """Commit of the checkout that the code comes from; its changes go to `git.diff`. None outside a checkout."""
    code = Path(__file__).resolve()
    if _output(code.parent, "ls-files", "--error-unmatch", code.name) is None:
        return None
    commit, top = _output(code.parent, "rev-parse", "HEAD"), _output(code.parent, "rev-parse", "--show-toplevel")
    if commit is None or top is None:
        return None
    dirty = bool(_output(Path(top.strip()), "status", "--porcelain"))
    if dirty:
        write_text(folder / "git.diff", _output(Path(top.strip()), "diff", "--binary", "HEAD") or "")
    return {"commit": commit.strip(), "dirty": dirty, "diff": "git.diff" if dirty else None}


def _output(where: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(where), *arguments], capture_output=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", errors="replace")
