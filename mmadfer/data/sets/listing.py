"""Lists as they come with a data set: text of a few megabytes, plain or packed, from any system, line by line."""

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from mmadfer.data.store.store import check_id
from mmadfer.errors import DataError, FileError
from mmadfer.utils.files import MAX_SMALL_FILE_BYTES, read_bytes
from mmadfer.utils.folders import Folders

Parse = Callable[[str], tuple[str, str] | None]
"""A list's line to clip and label; None for a line without a clip; a ValueError says what is wrong."""
ENCODINGS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""First bytes -> how the text after them is written; without any it is UTF-8."""
_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]|\\\\")
"""How a path begins that only Windows can follow: a drive's letter, or the name of a server."""


def list_text(path: Path) -> str:
    """What a list holds, unpacked (.gz): UTF-8, or UTF-16 with its mark, as spreadsheets write it; at most 64 MB.

    Raises:
        DataError: the file cannot be read, is too large, or is no such text.
    """
    try:
        data = _unpacked(path)
        if data[:4].count(0) > 1:
            raise DataError(f"{path} is UTF-16 or UTF-32 without a mark that is known: save it as UTF-8")
        return data.decode(next((name for mark, name in ENCODINGS.items() if data.startswith(mark)), "utf-8"))
    except FileError as error:
        raise DataError(f"{error}; a list is text of a few megabytes") from error
    except UnicodeDecodeError as error:
        raise DataError(_not_text(path, error)) from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a readable list ({error}): copy it again") from error


def _unpacked(path: Path) -> bytes:
    data = read_bytes(path)
    if path.suffix.lower() != ".gz":
        return data
    with gzip.open(io.BytesIO(data)) as file:
        data = file.read(MAX_SMALL_FILE_BYTES + 1)
    if len(data) > MAX_SMALL_FILE_BYTES:
        raise FileError(f"{path} unpacks to more than {MAX_SMALL_FILE_BYTES} bytes: it is not what its name says")
    return data


def _not_text(path: Path, error: UnicodeDecodeError) -> str:
    line = error.object[: error.start].count(b"\n") + 1
    return (
        f"{path}, line {line} is not UTF-8 text (byte {error.object[error.start]:#04x}): if a spreadsheet or editor on "
        "Windows wrote it, save it as UTF-8 there (Excel: CSV UTF-8); else it is damaged, copy it again"
    )


def listed_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Where it is (`FILE, line 3`) and text of each line that is not blank; any line ending.

    Raises:
        DataError: as `list_text`, or it has control characters.
    """
    for number, ended in enumerate(io.StringIO(list_text(path), newline=None), start=1):
        line = ended.removesuffix("\n").replace("\t", " ")
        if not line.isprintable():
            raise DataError(f"{path}, line {number} has control characters, so the list is damaged: copy it again")
        if line.strip():
            yield f"{path}, line {number}", ended.strip()


def slashes(path: str) -> str:
    """A path of any system with single '/', and none at the end."""
    return re.sub(r"[/\\]+", "/", path).rstrip("/")


def path_of(where: str, text: str, folder: Path, folders: Folders) -> str:
    """A listed path, relative to `folder`, with '/' in the place of '\\'; one that is there by its very name stays.

    Raises:
        DataError: it begins with a drive's letter or a server's name; the message begins with `where`.
    """
    elsewhere = _WINDOWS_PATH.match(text)
    if not ("\\" in text or elsewhere) or folders.holds(folder / text):
        return text
    if elsewhere:
        raise DataError(
            f"{where}: {text[:120]!r} is a path of a Windows computer: write paths relative to the list's folder "
            "(clips/1.mp4), or absolute ones of this machine"
        )
    return text.replace("\\", "/")


def checked_id(clip: str, where: str) -> str:
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
    for where, line in listed_lines(path):
        try:
            entry = parse(line)
        except ValueError as error:
            raise DataError(f"{where}: {line[:80]!r} {error}") from error
        if entry and checked_id(entry[0], where) in listed:
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


def labels_by_clip(lists: Iterable[Mapping[str, str]]) -> dict[str, str]:
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
