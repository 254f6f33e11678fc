"""What the sets share: folders read once each, lists read line by line, and what of a layout is missing."""

import gzip
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mmadfer.data.store import check_id
from mmadfer.errors import DataError
from mmadfer.files import is_clutter

FILMS = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".flv")
MANY = 200
"""A folder with more in it than this holds clips, and is not searched for parts of a layout."""
Parse = Callable[[str], tuple[str, str] | None]
"""A list's line to clip and label; None for a line without a clip; a ValueError says what is wrong."""


class Folders:
    """The names in folders, each folder read once: a question per clip would be slow on a network file system."""

    def __init__(self) -> None:
        self._names: dict[Path, frozenset[str]] = {}

    def names(self, folder: Path) -> frozenset[str]:
        """All names in a folder, as they are; none where there is no such folder.

        Raises:
            DataError: the folder is there and cannot be read.
        """
        if folder not in self._names:
            self._names[folder] = frozenset(entry.name for entry in scan(folder))
        return self._names[folder]

    def has(self, path: Path) -> bool:
        """Whether there is a file or folder of this name; so it seems in a folder that cannot be read.

        Preparation then says of each of its clips what is wrong.
        """
        try:
            return path.name in self.names(path.parent)
        except DataError:
            return True


def scan(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, by name; nothing where there is no such folder.

    Raises:
        DataError: the folder is there and cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {os.strerror(error.errno or 0)}; mend its permissions") from error


def below(root: Path, deeper: int = 2) -> Iterator[Path]:
    """`root`, then the folders in it, then those in them, down to `deeper` levels; hidden ones are passed over."""
    level = [root]
    for depth in range(deeper + 1):
        yield from level
        if depth < deeper:
            level = [inner for folder in level for inner in _inner(folder)]


def _inner(folder: Path) -> list[Path]:
    entries = [entry for entry in scan(folder) if not is_clutter(entry.name)]
    return [Path(entry.path) for entry in entries if entry.is_dir()] if len(entries) <= MANY else []


def locate(root: Path, *names: str) -> Path | None:
    """The first folder of the first of these names, in `root` or at most two folders deeper, as archives unpack."""
    folders = list(below(root))
    return next((folder / name for name in names for folder in folders if (folder / name).is_dir()), None)


def need_folder(root: Path, name: str, expected: str) -> Path:
    """Like `locate`.

    Raises:
        DataError: `root` is no folder, or has no such folder; the message says what layout is expected.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; --root must be a folder with {expected}")
    found = locate(root, name)
    if found is None:
        raise DataError(f"{root} has no folder {name!r}, nor have the folders in it; expected {expected}")
    return found


def ids(base: Path, media: Sequence[Path]) -> list[str]:
    """The paths relative to `base`, without the ending of a film, except where two differ only in it."""
    names = [path.relative_to(base).as_posix() for path in media]
    stems = [
        name.rpartition(".")[0] if path.suffix.lower() in FILMS else name
        for path, name in zip(media, names, strict=True)
    ]
    count = Counter(stems)
    return [stem if count[stem] == 1 else name for stem, name in zip(stems, names, strict=True)]


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """Where it is (`FILE, line 3`) and text of each line that is not blank; plain or .gz, UTF-8, any line ending.

    Raises:
        DataError: the file cannot be read, is not text, or has control characters.
    """
    try:
        no_pipe(path)
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable list ({error}): copy it again") from error
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        if not line.replace("\t", " ").isprintable():
            raise DataError(f"{path}, line {number} has control characters, so the list is damaged: copy it again")
        if line.strip():
            yield f"{path}, line {number}", line.strip()


def no_pipe(path: Path) -> None:
    """Refuse a named pipe or a device, which would be waited for or read without end.

    Raises:
        DataError: it is one.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise DataError(f"{path} is a pipe or a device, not a file with a list")


def checked(clip: str, where: str) -> str:
    """Return the id.

    Raises:
        DataError: no store can hold it; the message begins with `where`.
    """
    try:
        return check_id(clip)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def read_list(path: Path, parse: Parse) -> dict[str, str]:
    """Clip -> label of one list.

    Raises:
        DataError: not readable, a line that cannot be understood, or a clip twice; file and line are named.
    """
    listed = dict[str, str]()
    for where, line in lines(path):
        try:
            entry = parse(line)
        except ValueError as error:
            raise DataError(f"{where}: {line[:80]!r} {error}") from error
        if entry and checked(entry[0], where) in listed:
            raise DataError(f"{where}: clip {entry[0]!r} is in this list twice; get the list again")
        if entry:
            listed[entry[0]] = entry[1]
    return listed


def read_lists(paths: Mapping[int, Path], parse: Parse) -> dict[int, dict[str, str]]:
    """Fold -> clip -> label; see `read_list`.

    Raises:
        DataError: as `read_list`, and where lists are missing, which are all named.
    """
    gone = [str(path) for path in paths.values() if not path.is_file()]
    if gone:
        raise DataError(f"{len(gone)} of {len(paths)} lists are missing: {', '.join(gone)}; get the set's lists again")
    return {fold: read_list(path, parse) for fold, path in paths.items()}


def labels_of(lists: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Clip -> label of all lists together.

    Raises:
        DataError: two lists give one clip two labels.
    """
    labels = dict[str, str]()
    for listed in lists:
        for clip, label in listed.items():
            if labels.setdefault(clip, label) != label:
                raise DataError(f"clip {clip!r} is {labels[clip]!r} in one list and {label!r} in another")
    return labels


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


def sound_notes(sounds: Collection[Path], folders: Folders) -> tuple[str, ...]:
    """How many clips have their sound in which folder, and how many nowhere; `part_1` counts as the folder above."""
    there = [sound for sound in sounds if folders.has(sound)]
    gone = [sound for sound in sounds if not folders.has(sound)]
    places = Counter(sound.parent.parent if sound.parent.name.startswith("part_") else sound.parent for sound in there)
    notes = tuple(f"sound of {count:,} clips: {place}" for place, count in places.most_common())
    return (*notes, f"{len(gone):,} clips have no file with sound: {some(gone)}") if gone else notes


def fewer(clips: int, official: int, name: str) -> tuple[str, ...]:
    """A note where the lists do not hold as many clips as the set's owners have published."""
    return (f"the lists have {clips:,} clips; {name} has {official:,}",) if clips != official else ()


def some(names: Sequence[object], count: int = 3) -> str:
    """The first few, for a note."""
    return ", ".join(map(str, names[:count])) + (", …" if len(names) > count else "")
