"""The published program's own lists (`folder count label`), so that its users can move over with their files.

A list is named `DFEW_set_1_test.txt` or `MAFW_set_1_test_faces.txt`, also with `.gz`; its folders hold one image for
each frame, of the face only. Training lists are not read: a fold trains on what the other four test.
"""

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mmadfer.data import splits as fold
from mmadfer.data.sets import ClipTable, SourceClip, dfew, layout, listing, mafw
from mmadfer.errors import DataError
from mmadfer.utils.folders import Folders, entries, scan, some
from mmadfer.utils.names import one_form

_FOLDS = 5
READERS = 16
"""Folders counted at a time; on a network file system each takes a round trip."""


@dataclass(frozen=True)
class _Line:
    where: str
    folder: str
    """As listed, with '/'."""
    count: int
    label: int

    @property
    def clip(self) -> str:
        return one_form(self.folder.rpartition("/")[2])


@dataclass(frozen=True)
class _Set:
    """What the published program takes for granted of a set."""

    name: str
    labels: tuple[str, ...]
    clips: int
    places: Callable[[Path], Sequence[Path]]
    """Folder of clips -> folders of their sound."""
    names: Callable[[str], Sequence[str]]
    """Clip -> names of its file with sound."""
    less: int
    """How many images more than listed a folder has."""


def _mafw_names(clip: str) -> tuple[str, ...]:
    return (f"{clip}.wav",)


_DFEW = _Set("DFEW", dfew.LABELS, dfew.TOTAL_CLIPS, dfew.sound_places, dfew.sound_names, 0)
_MAFW = _Set("MAFW", mafw.LABELS, mafw.TOTAL_CLIPS["single"], mafw.sound_places, _mafw_names, 1)


def dfew_table(root: Path, folds: int, lists: Path, prefix: str | None) -> ClipTable:
    """DFEW as the published program reads it: cropped frames, sound in `raw_wav/1.wav` beside their folder, or in it.

    Raises:
        DataError: a list is missing or cannot be understood, a clip is in two of them, a path does not start with
            `prefix`, or no listed clip or none of the files with sound is there.
    """
    return _table(_DFEW, root, folds, lists, prefix)


def mafw_table(root: Path, folds: int, lists: Path, prefix: str | None) -> ClipTable:
    """Like `dfew_table` for MAFW, with sound in `clips_wav/00025.wav`."""
    return _table(_MAFW, root, folds, lists, prefix)


def _table(kind: _Set, root: Path, folds: int, lists: Path, prefix: str | None) -> ClipTable:
    fold.check_fold_count(folds, _FOLDS, kind.name)
    read = {k: _read(path, kind) for k, path in _paths(lists, kind.name).items()}
    fold_of = fold.official({k: [line.clip for line in listed] for k, listed in read.items()}, {})
    listed = {line.clip: line for lines in read.values() for line in lines}
    start, folders = _prefix([*listed.values()], root) if prefix is None else listing.slashes(prefix), Folders()
    frames = {clip: folders.named(root / _rest(listed[clip], start)) for clip in sorted(listed)}
    sounds = {
        i: layout.sound_file(kind.names(path.name), kind.places(path.parent), folders) for i, path in frames.items()
    }
    gone = layout.missing([*frames.values()], folders, f"the lists' folders, with {root} in place of {start}")
    heard, unheard = layout.sound_notes(sounds.values(), folders)
    clips = [
        SourceClip(i, path, kind.labels[listed[i].label], fold_of[i], None, sounds[i], cropped=True)
        for i, path in frames.items()
    ]
    notes = (
        f"in the lists of {lists}, {start} was replaced by {root}",
        *layout.size_notes(len(clips), kind.clips, kind.name),
        *gone,
        *heard,
        *_count_notes({clip: listed[clip].count + kind.less for clip in frames}, frames),
    )
    return ClipTable(kind.name.lower(), kind.labels, clips, notes, unheard)


def _paths(lists: Path, name: str) -> dict[int, Path]:
    """Fold -> test list."""
    pattern = re.compile(rf"{name}_set_(\d+)_test[^/]*\.txt(\.gz)?", re.IGNORECASE)
    paths = dict[int, Path]()
    for entry in scan(lists):
        match = pattern.fullmatch(entry.name)
        if match and paths.setdefault(int(match[1]), lists / entry.name).name != entry.name:
            raise DataError(f"{lists} has two lists of fold {match[1]}: {paths[int(match[1])].name} and {entry.name}")
    if {*paths} != {*range(1, _FOLDS + 1)}:
        there = ", ".join(map(str, sorted(paths))) or "none"
        raise DataError(
            f"{lists} must have {_FOLDS} test lists, {name}_set_1_test….txt to {name}_set_{_FOLDS}_test….txt (or .gz); "
            f"there are {there}"
        )
    return dict(sorted(paths.items()))


def _read(path: Path, kind: _Set) -> list[_Line]:
    lines = dict[str, _Line]()
    for where, text in listing.listed_lines(path):
        line = _parse(where, text, len(kind.labels))
        if listing.checked_id(line.clip, where) in lines:
            raise DataError(f"{where}: clip {line.clip!r} is already in {lines[line.clip].where}; get the list again")
        lines[line.clip] = line
    return [*lines.values()]


def _parse(where: str, text: str, labels: int) -> _Line:
    folder, *numbers = text.rsplit(maxsplit=2)
    folder = listing.slashes(folder)
    if not folder or len(numbers) != 2 or not all(re.fullmatch("[0-9]{1,9}", number) for number in numbers):
        raise DataError(f"{where}: {text[:120]!r} is not `folder count label`")
    if int(numbers[1]) >= labels:
        raise DataError(f"{where}: label {numbers[1]} is not from 0 to {labels - 1}")
    return _Line(where, folder, int(numbers[0]), int(numbers[1]))


def _prefix(lines: Sequence[_Line], root: Path) -> str:
    """The folder that all clips share; without those parts of its end that are found under `root`."""
    try:
        shared = os.path.commonpath([line.folder.rpartition("/")[0] for line in lines])
    except ValueError as error:
        raise DataError("the lists have absolute and relative paths: make them all the same") from error
    parts = shared.split("/")
    ends = [len(parts) - kept for kept in range(1, len(parts) + 1) if parts[-kept]]
    return "/".join(parts[: next((end for end in ends if root.joinpath(*parts[end:]).is_dir()), len(parts))])


def _rest(line: _Line, prefix: str) -> str:
    if prefix and not line.folder.startswith(f"{prefix}/"):
        raise DataError(f"{line.where}: {line.folder} does not start with {prefix}/; give the right --prefix")
    return line.folder[len(prefix) :].lstrip("/")


def _count_notes(expected: dict[str, int], frames: dict[str, Path]) -> tuple[str, ...]:
    """A note on the clips with other than the listed number of images; those that are not there are told elsewhere."""
    with ThreadPoolExecutor(READERS) as pool:
        counts = dict(zip(frames, pool.map(_images, frames.values()), strict=True))
    other = [
        f"{clip} ({counts[clip]}, not {expected[clip]})" for clip in frames if counts[clip] not in (0, expected[clip])
    ]
    return (f"{len(other):,} clips have other numbers of images than listed: {some(other)}",) if other else ()


def _images(folder: Path) -> int:
    try:
        return len(entries(folder))
    except DataError:
        return 0  # preparation says what is wrong
