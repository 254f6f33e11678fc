"""Data sets: each module here turns a layout on disk into one table of clips."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from mmadfer.data.store import check_id
from mmadfer.errors import DataError


@dataclass(frozen=True)
class Source:
    """A clip before preparation."""

    id: str
    media: Path
    """A video file, or a folder with one image for each frame, in the order of the numbers in their names."""
    label: str
    fold: int
    """The fold, from 1, in whose test set the clip is."""
    subject: str | None = None
    sound: Path | None = None
    """The file with its sound; None: the sound of `media`. One that does not exist is a clip without sound."""
    cropped: bool = False
    """The frames show nothing but the face, and are taken as they are."""


@dataclass(frozen=True)
class Table:
    """The clips of a data set.

    Raises:
        DataError: no clips, an id twice or not storable, an unknown label, or a fold below 1.
    """

    name: str
    labels: tuple[str, ...]
    """Class names, in class order."""
    clips: list[Source]
    notes: tuple[str, ...] = ()
    """What a person should know of the layout that was found."""

    def __post_init__(self) -> None:
        if not self.clips:
            raise DataError(f"data set {self.name!r} has no clips")
        for clip in self.clips:
            check_id(clip.id)
            if clip.label not in self.labels or clip.fold < 1:
                raise DataError(
                    f"clip {clip.id!r} ({clip.media}) has label {clip.label!r} and fold {clip.fold}; "
                    f"labels are {', '.join(self.labels)}, and folds count from 1"
                )
        twice = [name for name, count in Counter(clip.id for clip in self.clips).items() if count > 1]
        if twice:
            raise DataError(
                f"data set {self.name!r} has clip ids twice; make them unique: {', '.join(sorted(twice)[:5])}"
            )

    @property
    def root(self) -> Path:
        """The deepest folder that holds all media files."""
        return Path(os.path.commonpath([clip.media.absolute().parent for clip in self.clips]))


def _lazy(module: str) -> Callable[[Path, int], Table]:
    def table(root: Path, folds: int) -> Table:
        found: Table = import_module(f"{__name__}.{module}").table(Path(root), folds)
        return found

    return table


SETS: dict[str, Callable[[Path, int], Table]] = {name: _lazy(name) for name in ("folder", "toy")}
"""Name of a set -> function of its folder and the number of folds; modules are imported when they are used."""


def table(name: str, root: Path | str, folds: int = 5) -> Table:
    """The clip table of the set `name` under `root`.

    Raises:
        DataError: no such set, or the folder does not have the set's layout.
    """
    if name not in SETS:
        raise DataError(f"no data set {name!r}; known: {', '.join(sorted(SETS))}")
    return SETS[name](Path(root), folds)
