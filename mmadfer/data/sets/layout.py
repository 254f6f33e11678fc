"""What the sets share: where the parts of a layout are, which ids clips have, and what of a layout is missing."""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from mmadfer.errors import DataError
from mmadfer.utils.folders import Folders, Known, entries, some
from mmadfer.utils.names import is_film, one_form

MANY = 200
"""A folder with more in it than this holds clips, and is not searched for parts of a layout."""
FEW = 0.05
"""The share of clips without sound beyond which a set is rather incomplete than as its owners distribute it."""


def below(root: Path, deeper: int = 2) -> Iterator[Path]:
    """`root`, then the folders in it, then those in them, down to `deeper` levels, each once; no hidden ones."""
    level, known = [root], Known(root)
    for depth in range(deeper + 1):
        yield from level
        if depth < deeper:
            level = [inner for folder in level for inner in _inner(folder, known)]


def _inner(folder: Path, known: Known) -> list[Path]:
    found = entries(folder)
    return known.inside(found) if len(found) <= MANY else []


def locate(home: Path, *places: str) -> Path | None:
    """The folder of the first of these places, such as `Clip/original`, that a set has.

    A place is looked for where its owners have it, then directly in `home`, then at most two folders deeper, where it
    must be the only one.

    Raises:
        DataError: it is nowhere but deeper, in several folders.
    """
    for place in places:
        for there in (home / place, home / Path(place).name):
            if there.is_dir():
                return there
        deeper = _different(folder / place for folder in below(home) if (folder / place).is_dir())
        if len(deeper) > 1:
            raise DataError(f"{deeper[0]} and {deeper[1]} could both be meant: the one to use must be {home / place}")
        if deeper:
            return deeper[0]
    return None


def _different(folders: Iterable[Path]) -> list[Path]:
    """Without those that are an earlier one by another name."""
    return [*{os.path.realpath(folder.parent): folder for folder in reversed([*folders])}.values()][::-1]


def need_folder(root: Path, name: str, expected: str) -> Path:
    """The only folder of this name in `root` or at most two folders deeper, as archives unpack.

    What else a set has is looked for in the folder that holds it, so that nothing is taken from a neighbouring set.

    Raises:
        DataError: `root` is no folder, or has no or several such folders; the message says what layout is expected.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; --root must be a folder with {expected}")
    found = _different(folder / name for folder in below(root) if (folder / name).is_dir())
    if not found:
        raise DataError(f"{root} has no folder {name!r}, nor have the folders in it; expected {expected}")
    if len(found) > 1:
        raise DataError(f"{found[0]} and {found[1]} could both be meant: give the folder that holds one as --root")
    return found[0]


def ids(base: Path, media: Sequence[Path]) -> list[str]:
    """The paths relative to `base`, without the ending of a film, except where that is not unique.

    Raises:
        DataError: two files have one name, but for the form of its letters.
    """
    names = [one_form(path.relative_to(base).as_posix()) for path in media]
    _check_names(names, media)
    stems = [name.rpartition(".")[0] if is_film(name) else name for name in names]
    count, whole = Counter(stems), {*names}  # `a.mp4.mp4` without its ending is another film's whole name
    return [stem if count[stem] == 1 and stem not in whole else name for stem, name in zip(stems, names, strict=True)]


def _check_names(names: Sequence[str], media: Sequence[Path]) -> None:
    first = dict[str, Path]()
    for name, path in zip(names, media, strict=True):
        if first.setdefault(name, path) != path:
            raise DataError(
                f"{str(first[name])!a} and {str(path)!a} have one name in two Unicode forms, and would be one clip: "
                "rename one of them"
            )


def check_once(files: Iterable[Path]) -> None:
    """Raise DataError where two files are one clip: they have one name without ending, in other places."""
    first = dict[str, Path]()
    for file in files:
        if first.setdefault(file.stem, file) != file:
            raise DataError(f"{first[file.stem]} and {file} are one clip: remove one, or give the other's folder")


def missing(media: Sequence[Path], folders: Folders, expected: str) -> tuple[str, ...]:
    """A note on the listed clips that are not there; preparation leaves them out by name.

    Raises:
        DataError: none is there; the message has the first paths looked for and the layout expected.
    """
    gone = [path for path in media if not folders.has(path)]
    if gone and len(gone) == len(media):
        first = ", ".join(map(str, gone[:3]))
        raise DataError(f"none of the {len(media)} listed clips is there; looked for {first}, …; expected {expected}")
    return (f"{len(gone)} of {len(media)} listed clips are not there: {some(gone)}",) if gone else ()


def sound_file(names: Sequence[str], places: Sequence[Path], folders: Folders, otherwise: Path | None = None) -> Path:
    """The file with a clip's sound: in the first place that has it, else `otherwise`, else where it should be."""
    files = [folders.named(place / name) for place in places for name in names]
    return next((file for file in files if folders.has(file)), otherwise or files[0])


def sound_notes(sounds: Collection[Path], folders: Folders) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Notes on how many clips have their sound in which folder, and warnings where many have it nowhere.

    `part_1` counts as the folder above.

    Raises:
        DataError: no clip has sound; with `prepare.no_sound=silence` a whole store would be silent without a word.
    """
    there = [sound for sound in sounds if folders.has(sound)]
    gone = [sound for sound in sounds if not folders.has(sound)]
    if gone and not there:
        raise DataError(
            f"none of {len(gone):,} clips has its file with sound; looked for {some(gone)}; put the files there "
            "(`ffmpeg -i FILM -vn SOUND.wav` makes one from a film)"
        )
    places = Counter(sound.parent.parent if sound.parent.name.startswith("part_") else sound.parent for sound in there)
    notes = tuple(f"sound of {count:,} clips: {place}" for place, count in places.most_common())
    told = (f"{len(gone):,} of {len(sounds):,} clips have no file with sound: {some(gone)}",) if gone else ()
    return (notes, told) if len(gone) > FEW * len(sounds) else ((*notes, *told), ())


def size_notes(clips: int, published: int, name: str) -> tuple[str, ...]:
    """A note where there are not as many clips as the set's owners have published."""
    return (f"{clips:,} clips are listed or found; {name} has {published:,}",) if clips != published else ()
