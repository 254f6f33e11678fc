"""Sets whose owners distribute lists with five folds: DFEW and MAFW."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mmadfer.data import splits as fold
from mmadfer.data.sets import ClipTable, SourceClip, layout, listing
from mmadfer.utils.folders import Folders

FOLDS = 5


@dataclass(frozen=True)
class SetPlaces:
    """Where a set's clips are."""

    media: Mapping[str, Path]
    """Clip -> film or folder of frames, for every listed clip."""
    notes: tuple[str, ...]
    sounds: Mapping[str, Path] = field(default_factory=dict)
    """Clip -> file with sound; none for films, which have their own."""
    cropped: bool = False


@dataclass(frozen=True)
class Official:
    """What is known of a set beforehand."""

    name: str
    """The table's."""
    title: str
    """For people."""
    labels: tuple[str, ...]
    clips: int
    splits: str
    """The folder of the lists; what else the set has lies in the folder that holds it."""
    lists: str
    """The lists' paths in that folder, with {part} and {fold}."""
    expected: str
    """The layout, for messages."""
    parse: listing.Parse
    find: Callable[[Path, list[str], Folders], SetPlaces]
    """The set's folder and the listed clips -> where these are."""


def table(kind: Official, root: Path, folds: int) -> ClipTable:
    """The clips of a set with official folds.

    Raises:
        DataError: lists are missing or contradict each other, no listed clip or none of the files with sound is there,
            several folders could be meant, or other than five folds.
    """
    fold.check_fold_count(folds, FOLDS, kind.title)
    splits = layout.need_folder(root, kind.splits, kind.expected)
    tests, trains = (
        listing.read_lists({k: splits / kind.lists.format(part=part, fold=k) for k in range(1, FOLDS + 1)}, kind.parse)
        for part in ("test", "train")
    )
    fold_of, labels = fold.official(tests, trains), listing.labels_by_clip([*tests.values(), *trains.values()])
    folders = Folders()
    found = kind.find(splits.parent, sorted(fold_of), folders)
    gone = layout.missing([*found.media.values()], folders, kind.expected)
    heard, unheard = layout.sound_notes(found.sounds.values(), folders)
    clips = [
        SourceClip(i, path, labels[i], fold_of[i], None, found.sounds.get(i), found.cropped)
        for i, path in found.media.items()
    ]
    notes = (*layout.size_notes(len(clips), kind.clips, kind.title), *found.notes, *heard, *gone)
    return ClipTable(kind.name, kind.labels, clips, notes, (*fold.training_gaps(tests, trains), *unheard))
