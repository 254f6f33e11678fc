"""Data sets: each module here turns a layout on disk into one table of clips."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from mmadfer.data.store import splits, targets
from mmadfer.data.store.record import LATER
from mmadfer.data.store.source_files import Files
from mmadfer.data.store.store import check_id
from mmadfer.data.store.targets import Target
from mmadfer.errors import DataError
from mmadfer.utils.registry import Registry
from mmadfer.utils.terminal import one_line

ValueRanges = Mapping[str, Mapping[Path, np.ndarray]]
"""Name of a target -> trace file -> the lowest and the highest of each value, float32 (2, names), NaN without any."""


@dataclass(frozen=True)
class SourceClip:
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
    numbered: bool = False
    """`media` is a folder of crops of the frames of the video `sound`, named by the number of the frame, from 1. A
    frame without a crop shows the one before it."""
    trace_slack: float = 0.0
    """Share of its frames by which traces with a row for each may be longer or shorter; the last frames then have no
    values. 0: not at all."""
    targets: Mapping[str, Any] = field(default_factory=dict)
    """Name of a target other than `label` -> its value (`mmadfer.data.store.targets`); not those of kind `steps`."""
    splits: Mapping[str, str] = field(default_factory=dict)
    """Name of a split other than `folds` -> the clip's part in it (`mmadfer.data.store.splits`)."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Name of a column, such as sex or language -> what it says of the clip."""
    tensors: Mapping[str, Path] = field(default_factory=dict)
    """Named tensor, or target of kind `steps` -> its file (`mmadfer.data.preparation.tensor_files`)."""

    @property
    def files(self) -> Files:
        """Where its files lie."""
        return Files(self.media, self.sound, tuple(path for _, path in sorted(self.tensors.items())))


@dataclass(frozen=True)
class ClipTable:
    """The clips of a data set.

    Raises:
        DataError: no clips, an id twice or not storable, an unknown label, a fold below 1, or a name that is no
            line of text or a label twice.
    """

    name: str
    labels: tuple[str, ...]
    """Class names of the target `label`, in class order; none where clips have no such target."""
    clips: list[SourceClip]
    notes: tuple[str, ...] = ()
    """What a person should know of the layout that was found."""
    warnings: tuple[str, ...] = ()
    """What of it is most likely wrong."""
    targets: Mapping[str, Target] = field(default_factory=dict)
    """Name of a target other than `label` -> what it is."""
    trace_ranges: ValueRanges = field(default_factory=dict, compare=False)
    """Of targets of kind `steps` (`trace_files.value_ranges`)."""

    def __post_init__(self) -> None:
        if not self.clips:
            raise DataError(f"data set {self.name!r} has no clips")
        odd = [name for name in (self.name, *self.labels) if not one_line(name) or self.labels.count(name) > 1]
        if odd:
            raise DataError(
                f"data set {self.name!r} has names twice among its labels, or with control characters or line breaks: "
                f"{', '.join(map(repr, odd[:5]))}"
            )
        for clip in self.clips:
            check_id(clip.id)
            if clip.label not in (self.labels or ("",)) or clip.fold < 1:
                raise DataError(
                    f"clip {clip.id!r} ({clip.media}) has label {clip.label!r} and fold {clip.fold}; "
                    f"labels are {', '.join(self.labels)}, and folds count from 1"
                )
        self._check_named()
        twice = [name for name, count in Counter(clip.id for clip in self.clips).items() if count > 1]
        if twice:
            raise DataError(
                f"data set {self.name!r} has clip ids twice; make them unique: {', '.join(sorted(twice)[:5])}"
            )

    def _check_named(self) -> None:
        parts = defaultdict[str, set[str]](set)
        try:
            for name, found in self.targets.items():
                targets.checked(name, found)
            for clip in self.clips:
                for name, value in clip.targets.items():
                    targets.check_value(name, self.targets[name], value)
                if LATER in clip.tensors:
                    raise ValueError(f"tensor {LATER!r} is a name of our own, of the sound: give it another one")
                for name, part in clip.splits.items():
                    parts[name].add(part)
            splits.check_parts(parts, whole=True)
        except (ValueError, KeyError) as error:
            raise DataError(f"data set {self.name!r}: {error}") from error

    @cached_property
    def root(self) -> Path:
        """The deepest folder that holds all media files, and all files with sound of their own."""
        files = {
            path.parent for clip in self.clips for path in (clip.media, clip.sound, *clip.tensors.values()) if path
        }
        return Path(os.path.commonpath([folder.absolute() for folder in files]))


_OWN = ("dfew", "mafw", "crema_d", "ravdess", "biovid", "affwild2", "meld", "folder")
_MODULES = (*_OWN, "toy", "toy_apex", "toy_flip", "toy_privileged", "toy_subjects", "toy_units", "toy_words")
"""Sets with a module of their name."""
Reader = Callable[[Path, int], ClipTable]
DATA_SETS = Registry(
    "data set",
    "mmadfer.data_sets",
    {
        **{name: f"{__name__}.{name}:table" for name in _MODULES},
        "mafw_compound": f"{__name__}.mafw:compound",
        "toy_subjects_turned": f"{__name__}.toy_subjects:turned",
        "csv": f"{__name__}.table_csv:table",
    },
)
"""Name of a set -> function of its folder and the number of folds (`Reader`)."""
PUBLISHED = {"dfew": "dfew_table", "mafw": "mafw_table"}
"""Sets whose lists the published program has in a form of its own -> function of `published` that reads these."""


def table(
    name: str, root: Path | str, folds: int = 5, lists: Path | str | None = None, prefix: str | None = None
) -> ClipTable:
    """The clip table of the set `name` under `root`.

    Args:
        name: one of `DATA_SETS`, which installed packages add to.
        root: the set's folder; for `csv` the file.
        folds: how many, for sets without folds of their own; the others check it.
        lists: a folder with the published program's lists, which are read in place of the set's own.
        prefix: the start of the lists' paths that `root` replaces; found by itself where it is not given.

    Raises:
        DataError: no such set, the folder does not have the set's layout, or an option that the set does not take.
    """
    try:
        read: Reader = DATA_SETS.load(name)
    except ValueError as error:
        raise DataError(str(error)) from error
    root = _real(Path(root))
    if lists is None and prefix is None:
        return _table(read(root, folds), name)
    if lists is None or name not in PUBLISHED:
        known = " and ".join(sorted(PUBLISHED))
        raise DataError(f"--lists is for {known}, and --prefix only for --lists; {name!r} was read with one of them")
    published = import_module(f"{__name__}.published")
    return _table(getattr(published, PUBLISHED[name])(root, folds, Path(lists), prefix), name)


def _table(found: object, name: str) -> ClipTable:
    if not isinstance(found, ClipTable):
        raise DataError(f"data set {name!r} ({DATA_SETS.source(name)}) gave a {type(found).__name__}, not a ClipTable")
    return found


def _real(root: Path) -> Path:
    """The same path however `root` is written, so that ids, folds and names are the same; a file that is a link stays.

    What a CSV file lists is relative to where it is found.
    """
    if root.is_dir():
        return Path(os.path.realpath(root))
    return Path(os.path.realpath(root.parent)) / root.name
