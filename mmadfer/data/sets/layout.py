"""What the sets share: folders read once each, lists read line by line, and what of a layout is missing."""

import gzip
import os
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mmadfer.data.store import check_id
from mmadfer.errors import DataError
from mmadfer.files import is_clutter

FILMS = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".flv")
MANY = 200
"""A folder with more in it than this holds clips, and is not searched for parts of a layout."""
FEW = 0.05
"""The share of clips without sound beyond which a set is rather incomplete than as its owners distribute it."""
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


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one; a link that leads nowhere, or to itself, is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def below(root: Path, deeper: int = 2) -> Iterator[Path]:
    """`root`, then the folders in it, then those in them, down to `deeper` levels; hidden ones are passed over."""
    level = [root]
    for depth in range(deeper + 1):
        yield from level
        if depth < deeper:
            level = [inner for folder in level for inner in _inner(folder)]


def _inner(folder: Path) -> list[Path]:
    entries = [entry for entry in scan(folder) if not is_clutter(entry.name)]
    return [Path(entry.path) for entry in entries if is_folder(entry)] if len(entries) <= MANY else []


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
    """The paths relative to `base`, without the ending of a film, except where that is not unique."""
    names = [path.relative_to(base).as_posix() for path in media]
    stems = [
        name.rpartition(".")[0] if path.suffix.lower() in FILMS else name
        for path, name in zip(media, names, strict=True)
    ]
    count, whole = Counter(stems), {*names}  # `a.mp4.mp4` without its ending is another film's whole name
    return [stem if count[stem] == 1 and stem not in whole else name for stem, name in zip(stems, names, strict=True)]


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


def sound_file(names: Sequence[str], places: Sequence[Path], folders: Folders, otherwise: Path | None = None) -> Path:
    """The file with a clip's sound: in the first place that has it, else `otherwise`, else where it should be."""
    files = [place / name for place in places for name in names]
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


def label_notes(labels: Iterable[str]) -> tuple[str, ...]:
    """A note on labels that differ in nothing but case or blanks."""
    alike = defaultdict[str, list[str]](list)
    for label in labels:
        alike["".join(label.casefold().split())].append(label)
    return tuple(
        f"labels that differ only in case or blanks are separate ones: {', '.join(map(repr, same))}"
        for same in alike.values()
        if len(same) > 1
    )


def size_notes(clips: int, published: int, name: str) -> tuple[str, ...]:
    """A note where there are not as many clips as the set's owners have published."""
    return (f"{clips:,} clips are listed or found; {name} has {published:,}",) if clips != published else ()


def some(names: Sequence[object], count: int = 3) -> str:
    """The first few, for a note."""
    return ", ".join(map(str, names[:count])) + (", …" if len(names) > count else "")
