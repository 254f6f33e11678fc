"""A copy of the code beside the run, so that a job that starts tomorrow runs what was launched today.

RUN/code         goes before everything else in the jobs' PYTHONPATH
RUN/code.json    its files with their SHA-256, as it was made

Who hands over a run hands over both, so neither is believed: a copy is run without a word only where it is the
installed code, file by file. Another one needs the user's word, and none runs a file that is not in its list.
"""

import os
import shutil
import stat
import tempfile
from pathlib import Path

from mmadfer.errors import RunError
from mmadfer.utils.files import read_object, sha256, umask, write_json
from mmadfer.version import VERSION

PACKAGE = Path(__file__).parents[1]
LIST = "code.json"
"""Beside the copy."""
_KEPT = (".py", ".yaml", ".json", ".typed", ".html", ".css", ".js", ".svg", ".md", ".onnx", ".safetensors")
"""Endings of the files that are kept; the last two are of networks for faces."""
_SHOWN = 3
"""Files that a message names."""
_ODD = "no regular file"
"""In the place of a SHA-256: a link, a pipe or a device."""


def sources() -> dict[str, Path]:
    """Every file of the installed code by its place in the copy."""
    files = (path for path in sorted(PACKAGE.rglob("*")) if path.suffix in _KEPT and path.is_file())
    return {path.relative_to(PACKAGE.parent).as_posix(): path for path in files}


def take_copy(run: Path) -> Path:
    """Copy the code to `run/code`, published by rename; a copy that is there is kept, for the run began with it.

    One that has no list yet gets one: the caller has checked it.
    """
    code = run / "code"
    if code.is_dir():
        if not _list(code).exists():
            _note(code, _marks(code))
        return code
    partial = Path(tempfile.mkdtemp(prefix=".code.", suffix=".tmp", dir=run))
    try:
        for name, source in sources().items():
            target = partial / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        partial.chmod(0o777 & ~umask())
        _note(code, _marks(partial))
        partial.rename(code)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return code


def share(code: Path, run: Path) -> None:
    """Give a run a copy of the code that lies elsewhere, under a relative path; one that it has is kept."""
    if not (run / "code").exists():
        (run / "code").symlink_to(os.path.relpath(code, run), target_is_directory=True)


def verify(run: Path) -> None:
    """Whether the run's copy, if it has one with a list, is as it was made.

    Raises:
        RunError: it has another file, or one that is another or gone; the file is named.
        FileError: its list is damaged.
    """
    code = run / "code"
    if not _list(code).exists():
        return
    found, listed = _marks(code), read_object(_list(code))
    if name := next(iter(_differing(found, listed)), None):
        what = "has changed" if name in found and name in listed else "is gone" if name in listed else "was added"
        raise RunError(
            f"{code / name} {what} since the run's copy of the code was made, so that copy is not run. Remove {code}: "
            "the next launch takes the installed code"
        )


def check_copy(run: Path, trust: bool = False) -> list[str]:
    """The files in which the run's copy is not the installed code; none where there is no copy. Nothing of it is run.

    Args:
        run: or a sweep.
        trust: the user says that another copy may be run.

    Raises:
        RunError: the copy is not as it was made, or is not the installed code and `trust` is off.
        FileError: its list is damaged.
    """
    code = run / "code"
    if not code.is_dir():
        if os.path.lexists(code):
            raise RunError(f"{code} is no folder, but the place of the run's copy of the code: remove it")
        return []
    verify(run)
    odd = _differing(_marks(code), {name: sha256(path) for name, path in sources().items()})
    if odd and not trust:
        raise RunError(
            f"{code} is not the installed code (mmadfer {VERSION}): {_some(odd)}. Nothing of it was run. "
            "If the run is your own, from before the installed code changed, --trust-code goes on with its copy; "
            f"else, or to go on with the installed code, remove {code}"
        )
    return odd


def environment(run: Path) -> dict[str, str]:
    """Variables that make a job import the run's copy as it is, and not what lies in the folder that it starts in."""
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    paths = os.pathsep.join([str(run / "code"), *others])
    return {"PYTHONPATH": paths, "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def _list(code: Path) -> Path:
    """A row of a sweep shares the sweep's copy, and its list."""
    return code.resolve().with_name(LIST)


def _note(code: Path, marks: dict[str, str]) -> None:
    write_json(_list(code), marks)


def _marks(code: Path) -> dict[str, str]:
    """SHA-256 of everything in a copy that is no plain folder, by its place."""
    found = dict[str, str]()
    for folder, folders, files in os.walk(code.resolve()):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for path in (Path(folder, name) for name in (*links, *files)):
            regular = stat.S_ISREG(path.lstat().st_mode)
            found[path.relative_to(code.resolve()).as_posix()] = sha256(path) if regular else _ODD
    return found


def _differing(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """Names whose marks differ; those that nobody wanted come first."""
    odd = (name for name in {**found, **wanted} if found.get(name) != wanted.get(name) or found.get(name) == _ODD)
    return sorted(odd, key=lambda name: (name in wanted, name))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more} {'differs' if len(names) == 1 else 'differ'}"
