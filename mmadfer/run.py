"""The run directory: one configuration, its folds, and where everything lies.

RUN/config.yaml, run.json, git.diff    what was asked for, and by which code
RUN/code/                              the code itself (the launcher puts it there)
RUN/fold-1/ ... fold-5/                one fold each; written by training
RUN/jobs/                              the launcher's job files and logs
RUN/report/                            report.html, report.json
"""

import fcntl
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mmadfer
from mmadfer import config as configs
from mmadfer.config import Config
from mmadfer.errors import ConfigError, MmadferError, RunError
from mmadfer.files import write_json, write_text

PACKAGES = ("torch", "deepspeed", "nvidia-dali-cuda130", "timm", "numpy", "submitit")
WAIT = 60.0
"""Seconds that a rank waits for rank 0 to make the run directory."""


@dataclass(frozen=True)
class Run:
    """A run directory and the whole configuration it was made for."""

    path: Path
    config: Config

    def fold(self, fold: int) -> Path:
        """Directory of one fold."""
        return fold_dir(self.path, fold)


def fold_dir(run: Path, fold: int) -> Path:
    """Directory of fold `fold` (1 is the first) in `run`."""
    return Path(run) / f"fold-{fold}"


def folds(run: Path) -> list[int]:
    """Folds that have a directory, in order."""
    found = (re.fullmatch(r"fold-(\d+)", path.name) for path in Path(run).glob("fold-*") if path.is_dir())
    return sorted(int(match[1]) for match in found if match)


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of a fold directory; one that has its name is complete, for the name comes by rename."""
    names = (re.fullmatch(r"step-(\d+)", path.name) for path in (Path(folder) / "checkpoints").glob("step-*"))
    newest = max((match for match in names if match), key=lambda match: int(match[1]), default=None)
    return Path(folder) / "checkpoints" / newest[0] if newest else None


def result(folder: Path) -> dict[str, Any] | None:
    """`result.json` of a fold directory whose training is finished, or None."""
    try:
        found = json.loads((Path(folder) / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("finished") is True else None


def failure(folder: Path) -> dict[str, Any] | None:
    """What `mark_failed` left in a fold directory, or None."""
    try:
        found = json.loads((Path(folder) / "failed.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def mark_failed(folder: Path, error: Exception | str, log: Path | None) -> None:
    """Leave word for the report that the fold's job ended before its time; `plain` where the user can mend it."""
    plain = isinstance(error, MmadferError)
    reason = str(error) if plain or isinstance(error, str) else f"{type(error).__name__}: {error}"
    found = {"reason": reason, "plain": plain, "log": str(log) if log else None, "at": now()}
    write_json(Path(folder) / "failed.json", found)


def clear_failed(folder: Path) -> None:
    """Take the word back: the fold is being trained again."""
    (Path(folder) / "failed.json").unlink(missing_ok=True)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keep a fold directory for this process; the system lets go of it whatever becomes of the process.

    Raises:
        RunError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(f"{folder} is being trained by another process: wait for it, or end it first") from error
        yield


def create(folder: Path, config: Config, resume: bool = False) -> Run:
    """Make a run directory, or with `resume` open the one that is there (and make it where there is none).

    Paths in the configuration become absolute, so that the run does not depend on the folder it is started from.

    Raises:
        RunError: the directory holds something and `resume` is off, it is not a run, or it was made for another
            configuration (the keys that differ are named).
    """
    folder, config = Path(folder).absolute(), absolute(config)
    _refuse_file(folder)
    if not folder.is_dir() or not any(folder.iterdir()):
        return _make(folder, config)
    if not resume:
        raise RunError(f"{folder} exists and is not empty: choose another --run, or go on with --resume")
    run = read(folder)
    _same(run.config, config, folder)
    _note_resume(folder)
    return run


def open_fold(folder: Path, config: Config, fold: int, resume: bool = False) -> Path:
    """The directory to train one fold in; makes the run if there is none. Safe to call from every rank.

    Raises:
        RunError: the fold has been begun and `resume` is off, or the run was made for another configuration.
    """
    if not 1 <= fold <= config.data.folds:
        raise RunError(f"--fold {fold}: the configuration has folds 1 to {config.data.folds} (data.folds)")
    folder, follower = Path(folder).absolute(), int(os.environ.get("RANK", "0")) > 0
    if follower:
        _wait(folder / "config.yaml")
    begun = fold_dir(folder, fold)
    if not (resume or follower) and begun.is_dir() and any(begun.iterdir()):
        raise RunError(f"fold {fold} has been begun in {begun}: choose another --run, or go on with --resume")
    present = (folder / "config.yaml").is_file()
    run = create(folder, config, resume=resume or present)
    run.fold(fold).mkdir(exist_ok=True)
    return run.fold(fold)


def read(folder: Path) -> Run:
    """Open an existing run directory.

    Raises:
        RunError: there is no run, or its configuration cannot be read.
    """
    folder = Path(folder).absolute()
    path = folder / "config.yaml"
    if not path.is_file():
        raise RunError(f"{folder} is not a run directory: it has no config.yaml")
    try:
        return Run(folder, configs.load(path))
    except ConfigError as error:
        raise RunError(f"the run's own configuration is damaged: {error}") from error


def about(folder: Path) -> dict[str, Any]:
    """`run.json`, or what little is known without it."""
    try:
        found = json.loads((Path(folder) / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    return found if isinstance(found, dict) else {"name": Path(folder).name}


def absolute(config: Config) -> Config:
    """The configuration with absolute paths."""
    tree = config.model_dump()
    for parent, key in (
        (tree["data"], "store"),
        (tree["model"]["vision"], "weights"),
        (tree["model"]["audio"], "weights"),
    ):
        if parent[key] is not None:
            parent[key] = Path(parent[key]).absolute()
    return configs.parse(tree, where="the configuration")


def differences(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, with both values."""
    left, right = (_flat(config.model_dump(mode="json")) for config in (one, other))
    keys = [*left, *(key for key in right if key not in left)]
    return {key: (left.get(key), right.get(key)) for key in keys if left.get(key) != right.get(key)}


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _make(folder: Path, config: Config) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "run.json", {"name": config.name, "created": now(), **_origin(folder)})
    write_text(folder / "config.yaml", config.to_yaml())  # last: with it the run is whole
    return Run(folder, config)


def _origin(folder: Path) -> dict[str, Any]:
    return {
        "version": mmadfer.__version__,
        "git": _git(folder),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(folder: Path) -> dict[str, Any] | None:
    """Commit of the checkout that the code comes from; its changes go to `git.diff`. None outside a checkout."""
    code = Path(mmadfer.__file__).resolve()
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


def _note_resume(folder: Path) -> None:
    found = about(folder)
    resumed = [*found.get("resumed", []), {"at": now(), "version": mmadfer.__version__}]
    write_json(folder / "run.json", {**found, "resumed": resumed})


def _same(old: Config, new: Config, folder: Path) -> None:
    changed = differences(old, new)
    if changed:
        lines = "\n".join(f"  {key}: {was!r} in the run, {wanted!r} now" for key, (was, wanted) in changed.items())
        raise RunError(
            f"{folder} was made for another configuration; mend these keys or choose another --run:\n{lines}"
        )


def _refuse_file(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file: --run names a directory")


def _wait(path: Path) -> None:
    end = time.monotonic() + WAIT
    while not path.is_file():
        if time.monotonic() > end:
            raise RunError(f"rank 0 has not made {path.parent} within {WAIT:.0f} s")
        time.sleep(0.1)


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat
