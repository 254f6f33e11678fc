"""What a tracker is, and what it is told of a run."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mmadfer.config.identity import flat
from mmadfer.config.schema import Config
from mmadfer.run import directory as runs


@dataclass(frozen=True)
class TrackedRun:
    """One fold of a run, or its report, as trackers know it."""

    run: Path
    name: str
    """For people: `NAME fold K`, or `NAME report`."""
    key: str
    """The same for every start of the fold, and no other's, also where the run is moved: letters, digits and `-`."""
    group: str
    """The same for all folds of a run and its report."""
    config: Mapping[str, Any]
    """The whole configuration, by dotted key."""


def tracked(run: Path, config: Config, part: str) -> TrackedRun:
    """A part of a run: `fold 1`, or `report`.

    Raises:
        RunError: run.json is damaged.
    """
    about = runs.about(run)
    made = hashlib.sha256(f"{about.get('name')} {about.get('created')} {run.name}".encode()).hexdigest()[:12]
    group, name = f"mmadfer-{made}", f"{run.name} {part}"
    return TrackedRun(run, name, f"{group}-{part.replace(' ', '-')}", group, flat(config.model_dump(mode="json")))


class Tracker(Protocol):
    """Takes what is told of a run to where people look at it; another package's is an entry point of mmadfer.trackers.

    It is made where the training begins, with `TrackedRun`, and raises what is wrong with the installation
    (`MissingDependencyError`). All else is called in a thread, in order, and may take its time and raise what it likes:
    it is then told of, and called no more.
    """

    def __init__(self, run: TrackedRun) -> None: ...

    def open(self) -> None:
        """Begin, or go on with what an earlier start of the same `key` has begun."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name (`epoch/uar`) after a step of the run; a resumed run may tell a step again."""

    def state(self, state: str) -> None:
        """`running`, `stopped` (and to be resumed), `finished` or `failed`."""

    def file(self, path: Path) -> None:
        """A file to keep with the run."""

    def close(self) -> None:
        """Send what is left."""
