"""The runs that a fold begins from and learns from (`stages`), and whether they are finished."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmadfer.config.schema import Config
from mmadfer.errors import RunError
from mmadfer.run import directory as runs


@dataclass(frozen=True)
class ParentRun:
    """A run that another one begins from, or learns from."""

    key: str
    """Of the configuration: `stages.init` or `stages.teacher`."""
    run: Path
    config: Config

    def fold(self, fold: int) -> Path:
        """The directory of a fold."""
        return runs.fold_dir(self.run, fold)


def parents(config: Config, planned: Mapping[Path, Config] | None = None) -> list[ParentRun]:
    """The runs that `stages` names; `planned` are configurations of runs that are not made yet.

    Raises:
        RunError: one of them is no run.
    """
    found = []
    for name, run in config.stages.parents.items():
        own = (planned or {}).get(run.absolute())
        try:
            found.append(ParentRun(f"stages.{name}", run.absolute(), own or runs.read(run).config))
        except RunError as error:
            raise RunError(f"stages.{name}: {error}") from error
    return found


def why_unfinished(parent: ParentRun, fold: int) -> str:
    """Why a parent's fold cannot be begun from, in words; "" where it can."""
    folder = parent.fold(fold)
    if runs.result(folder) is not None:
        return ""
    failed = runs.failure(folder)
    return f"fold {fold} of {parent.run} ({parent.key}) is not finished" + (f": {failed['reason']}" if failed else "")


def lacking(config: Config, fold: int) -> str:
    """What a fold lacks of its parents, in words; "" where it has all of it."""
    try:
        return next(filter(None, (why_unfinished(parent, fold) for parent in parents(config))), "")
    except RunError as error:
        return str(error)
