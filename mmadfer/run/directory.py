"""The run directory: one configuration, its folds, and where everything lies.

RUN/config.yaml, run.json, git.diff    what was asked for, and by which code
RUN/code/                              the code itself (the launcher puts it there)
RUN/fold-1/ ... fold-5/                one fold each; written by training
RUN/jobs/                              the launcher's job files and logs
RUN/report/                            report.html, report.json
RUN/explain/METHOD/                    explain.json and pictures, where `mmadfer explain RUN` was asked for
"""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmadfer.config import identity, plug_ins
from mmadfer.config import schema as configs
from mmadfer.config.schema import Config
from mmadfer.errors import ConfigError, MmadferError, RunError
from mmadfer.run import checkpoint_state, records
from mmadfer.run.lease import holder, is_trace
from mmadfer.run.lock import LOCK_FILE, lock
from mmadfer.run.provenance import origin
from mmadfer.tasks.spec import TaskSpec
from mmadfer.utils import slurm_env
from mmadfer.utils.files import own_folder, write_json, write_text
from mmadfer.version import VERSION

EXPLANATIONS = "explain"
"""Folder of a run with a folder for each method of `mmadfer explain`."""
RANK_0_SECONDS = 60.0
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
    return next(iter(published(Path(folder) / "checkpoints")), None)


def published(checkpoints: Path) -> list[Path]:
    """Checkpoints by name, the newest first."""
    found = [path for path in checkpoints.glob("step-*") if re.fullmatch(r"step-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name[5:]), reverse=True)


def result(folder: Path) -> dict[str, Any] | None:
    """`result.json` of a fold directory whose training is finished, or None; one that is damaged is none."""
    try:
        found = records.read(records.Ended, Path(folder) / "result.json")
    except (OSError, MmadferError):
        return None
    return found if found.get("finished") else None


def scored(folder: Path, spec: TaskSpec) -> dict[str, Any] | None:
    """The same, if it has `epoch`, `epochs` and the task's scores, as that of every training, or None."""
    found = result(folder)
    if not found or None in map(found.get, ("epoch", "epochs")):
        return None
    return found if all(score.fits(found.get(score.name)) for score in spec.scores) else None


def failure(folder: Path) -> dict[str, Any] | None:
    """What `mark_failed` left in a fold directory, or None."""
    try:
        return records.read(records.FailedJson, Path(folder) / "failed.json")
    except MmadferError as error:
        return {"reason": f"why is not known: {error}", "plain": False, "log": None}
    except OSError:
        return None


def mark_failed(folder: Path, error: Exception | str, log: Path | None) -> None:
    """Leave word for the report that the fold's job ended before its time; `plain` where the user can mend it.

    Where another process trains the fold by now, it is not failed, and nothing is written; nor where it is a link.
    """
    if Path(folder).is_symlink() or (Path(folder).is_dir() and holder(folder)):
        return
    plain = isinstance(error, MmadferError)
    reason = str(error) if plain or isinstance(error, str) else f"{type(error).__name__}: {error}"
    found = {"reason": reason, "plain": plain, "log": str(log) if log else None, "at": now()}
    write_json(Path(folder) / "failed.json", found)


def clear_failed(folder: Path) -> None:
    """Take the word back: the fold is being trained again."""
    (Path(folder) / "failed.json").unlink(missing_ok=True)


def begun(folder: Path) -> bool:
    """Whether a fold directory holds anything of a training; a lease and word of a failure are nothing."""
    if not folder.is_dir():
        return False
    return any(not is_trace(path.name) and path.name not in (LOCK_FILE, "failed.json") for path in folder.iterdir())


def create(folder: Path, config: Config, resume: bool = False) -> Run:
    """Make a run directory, or with `resume` open the one that is there (and make it where there is none).

    Paths in the configuration become absolute, so that the run does not depend on the folder it is started from.

    Raises:
        RunError: the directory holds something and `resume` is off, it is not a run, or it was made for another
            configuration (the keys that differ are named).
    """
    folder, config = Path(folder).absolute(), identity.absolute(config)
    refuse_file(folder)
    present = (folder / "config.yaml").is_file() or _foreign(folder)
    if present and not resume:
        raise RunError(f"{folder} exists and is not empty: choose another --run, or go on with --resume")
    run, made = _enter(folder, config, resume)
    if not (made or resume):
        raise RunError(f"{folder} has just been made by another process: choose another --run, or go on with --resume")
    return run


def open_fold(folder: Path, config: Config, fold: int, resume: bool = False) -> Path:
    """The directory to train one fold in; makes the run if there is none. Safe to call from every rank.

    Raises:
        RunError: the fold has been begun and `resume` is off, or the run was made for another configuration.
    """
    if not 1 <= fold <= config.data.folds:
        raise RunError(f"--fold {fold}: the configuration has folds 1 to {config.data.folds} (data.folds)")
    slurm_env.adopt()
    folder, follower = Path(folder).absolute(), int(os.environ.get("RANK", "0")) > 0
    if follower:
        _wait(folder / "config.yaml")
    refuse_file(folder)
    place = fold_dir(folder, fold)
    if not (resume or follower) and begun(place):
        raise RunError(f"fold {fold} has been begun in {place}: choose another --run, or go on with --resume")
    _enter(folder, identity.absolute(config), resume and not follower)
    return own_folder(place)


def read(folder: Path) -> Run:
    """Open an existing run directory.

    Raises:
        RunError: there is no run, or its configuration cannot be read.
    """
    folder = Path(folder).absolute()
    path = folder / "config.yaml"
    if not path.is_file():
        raise RunError(f"{folder} is not a run directory (no config.yaml): `mmadfer train` and `launch` make one")
    try:
        return Run(folder, configs.load(path))
    except ConfigError as error:
        raise RunError(f"the run's own configuration is damaged: {error}") from error


def about(folder: Path) -> dict[str, Any]:
    """`run.json`, or what little is known without it.

    Raises:
        RunError: it is there, and damaged.
    """
    try:
        return records.read(records.Origin, Path(folder) / "run.json")
    except MmadferError as error:
        raise RunError(f"{error}\nWithout that file the run goes on, and no origin is told: remove it") from error
    except OSError:
        return {"name": Path(folder).name}


def note_parents(folder: Path, fold: int, parents: dict[str, dict[str, Any]]) -> None:
    """Write into run.json what the fold begins from and learns from, each a `records.ParentFold`."""
    with lock(folder, "opened"):
        found = about(folder)
        write_json(folder / "run.json", {**found, "parents": {**found.get("parents", {}), str(fold): parents}})


def check_text(folder: Path, fold: int, read: Mapping[str, str]) -> None:
    """Whether a fold would read what the run was begun with; `read` has fields of `records.TextRead`, or some of them.

    Raises:
        RunError: other folds have been trained, or begun, with something else, or this one has a checkpoint of it.
    """
    before = about(folder).get("text") or _text_of_folds(folder)
    if (odd := [key for key in read if before.get(key, read[key]) != read[key]]) and _trained(folder, own=fold):
        what = {"encoder": "another text encoder", "tokenizer": "another tokenizer"}.get(odd[-1], "other sentences")
        raise RunError(
            f"fold {fold} reads {what} than {folder.name} was begun with (hash {before[odd[-1]][:12]}, now "
            f"{read[odd[-1]][:12]}), and all folds of a run must read the same: put those back, or begin a new run"
        )


def _text_of_folds(run: Path) -> dict[str, str]:
    """What a trained fold has read, by its checkpoint: of a run of earlier versions, whose run.json does not say it."""
    for checkpoint in filter(None, map(latest_checkpoint, (fold_dir(run, fold) for fold in folds(run)))):
        try:
            if found := checkpoint_state.text_of_origin(checkpoint_state.read(checkpoint).belonging.data):
                return found
        except (OSError, MmadferError):
            continue  # a checkpoint that is damaged says nothing
    return {}


def note_text(folder: Path, fold: int, read: records.TextRead) -> None:
    """Write into run.json what all folds read; nothing where `folder` is no run. Raises as `check_text`."""
    if not (folder / "config.yaml").is_file():
        return
    with lock(folder, "opened"):
        check_text(folder, fold, read.model_dump())
        write_json(folder / "run.json", {**about(folder), "text": read.model_dump()})


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _make(folder: Path, config: Config) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "run.json",
        {"name": config.name, "created": now(), **origin(folder), "plug_ins": plug_ins.of_config(config)},
    )
    write_text(folder / "config.yaml", config.to_yaml())  # last: with it the run is whole
    return Run(folder, config)


def _enter(folder: Path, config: Config, resume: bool) -> tuple[Run, bool]:
    """The run, and whether it was made just now: of processes that come together, one makes it."""
    if not (folder / "config.yaml").is_file() and not _foreign(folder):
        with lock(folder, "made"):
            if not (folder / "config.yaml").is_file():
                return _make(folder, config), True
    changed = _changed(read(folder).config, config, folder)
    if resume or changed:
        with lock(folder, "opened"):
            changed = _changed(read(folder).config, config, folder)  # another process may have written it
            _note(folder, resume, changed)
            if changed:
                write_text(folder / "config.yaml", config.to_yaml())
    return Run(folder, config), False


def _foreign(folder: Path) -> bool:
    """Whether a directory holds what does not come from making a run."""
    ours = re.compile(rf"run\.json|git\.diff|{re.escape(LOCK_FILE)}|\.(run\.json|git\.diff|config\.yaml)\..*\.tmp")
    return folder.is_dir() and not all(ours.fullmatch(path.name) for path in folder.iterdir())


def _note(folder: Path, resume: bool, changed: dict[str, tuple[Any, Any]]) -> None:
    found, event = about(folder), {"at": now(), "version": VERSION}
    if resume:
        found["resumed"] = [*found.get("resumed", []), event]
    if changed:
        found["changed"] = [*found.get("changed", []), {**event, "keys": changed}]
    write_json(folder / "run.json", found)


def _changed(old: Config, new: Config, folder: Path) -> dict[str, tuple[Any, Any]]:
    """The keys that differ, all of them free, unless nothing in the run has been trained by the old ones."""
    changed = identity.differences(old, new)
    bound = {key: values for key, values in changed.items() if not identity.is_free(key)}
    if bound and _trained(folder):
        lines = "\n".join(f"  {key}: {was!r} in the run, {wanted!r} now" for key, (was, wanted) in bound.items())
        raise RunError(
            f"{folder} was made for another configuration; mend these keys or choose another --run:\n{lines}"
        )
    return changed


def _trained(run: Path, own: int | None = None) -> bool:
    """Whether any fold is finished, has a checkpoint, or is being trained now; `own` is the one that asks."""
    places = {fold: fold_dir(run, fold) for fold in folds(run)}
    return any(
        (place / "result.json").exists() or latest_checkpoint(place) or (fold != own and holder(place))
        for fold, place in places.items()
    )


def refuse_file(folder: Path) -> None:
    """Raise a RunError where a run directory is a file."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file: --run names a directory")


def _wait(path: Path) -> None:
    end = time.monotonic() + RANK_0_SECONDS
    while not path.is_file():
        if time.monotonic() > end:
            raise RunError(f"rank 0 has not made {path.parent} within {RANK_0_SECONDS:.0f} s")
        time.sleep(0.1)
