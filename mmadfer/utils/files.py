"""Files: whole or not there when written (temporary name, sync, rename), bounded and of a known kind when read.

What is read from disk may come from a stranger. `read_bytes`, `read_text`, `read_json` and `read_yaml` are the readers
of all small files: they open regular files only, read at most `most` bytes, and name the file in every error. Locks
and logs, which are opened in place, go through `no_link`, so that a link cannot lead them to another file.
"""

import errno
import glob
import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from pydantic_core import from_json

from mmadfer.errors import ConfigError, FileError
from mmadfer.utils.safe_yaml import parse_yaml

MAX_SMALL_FILE_BYTES = 64 << 20
"""Of a small file (JSON, YAML, a list): the largest that is read unless a caller says otherwise."""
_BLOCK_BYTES = 1 << 20
MOST_YAML = 1 << 20
"""Of a YAML file, which persons write."""
_HUGE = re.compile(rb"[0-9][eE]\+?0*[1-9][0-9]{2}|[0-9]{300}")
"""What a number looks like that may be read as infinity."""
_OPENING = ("O_BINARY", "O_CLOEXEC", "O_NOFOLLOW", "O_NOINHERIT", "O_NONBLOCK")
_NO_LINK = sum(getattr(os, name, 0) for name in _OPENING)
"""Flags of `os.open`; some systems lack some of them."""
_NO_WAIT = sum(getattr(os, name, 0) for name in _OPENING if name != "O_NOFOLLOW")


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; publish it under `path` if the block succeeds.

    The temporary file is removed when the block fails, so `path` is never half-written. An error of the system names
    `path` if it names no file, as that of a full disk.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with naming(path):
            yield temporary
            temporary.chmod(0o666 & ~umask())  # last: some writers put a private file of their own in its place
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """In the block, an error of the system, as that of a full disk, names `path` if it names no file."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:  # one in words alone would lose them
            error.filename = str(path)
        raise


def check_place(path: Path, *, folder: bool = False) -> None:
    """Whether something can be written, before the work that it is to hold; the folder that it is to lie in is made.

    Args:
        path: of a file, which may be there.
        folder: it may be a folder that is there.

    Raises:
        ConfigError: it cannot; says why.
    """
    try:
        if path.is_dir() and not folder:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        why = os.strerror(errno.ENOTDIR) if isinstance(error, FileExistsError) else error.strerror
        raise ConfigError(f"{path} cannot be written ({why}): give another name or place") from error


def temporaries(path: Path) -> list[Path]:
    """What writers of `path` left that were killed; only safe while nothing else can be writing it."""
    return list(path.parent.glob(f".{glob.escape(path.name)}.{'[a-z0-9_]' * 8}.tmp"))  # as `mkstemp` names them


def umask() -> int:
    """The rights that new files of this process lack."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sync(path: Path) -> None:
    """Flush a file or a directory to the disk; on Windows, which opens no directories, files alone."""
    directories = hasattr(os, "O_DIRECTORY")
    if not directories and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY if directories else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` to `path` atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON to `path` atomically.

    Raises:
        ValueError: a number in it is not finite, for which JSON has no word.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def no_link(path: str, flags: int) -> int:
    """An `opener` for `open` that opens regular files alone and follows no link; it never waits for a named pipe.

    Raises:
        FileError: the path is a link, a folder, a device or a named pipe.
    """
    if not hasattr(os, "O_NOFOLLOW") and os.path.islink(path):
        raise FileError(_not_regular(path))
    try:
        handle = os.open(path, flags | _NO_LINK, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):  # a link, a pipe nobody reads, a folder
            raise FileError(_not_regular(path)) from error
        raise
    return _only_regular(handle, path)


def open_lock(path: Path) -> IO[str]:
    """Open a lock file, which is made where it is missing; what it holds stays.

    Raises:
        FileError: as `no_link`.
        OSError: it cannot be opened.
    """
    return open(path, "a", encoding="utf-8", opener=no_link)


def own_folder(path: Path) -> Path:
    """Make a folder that a run writes and deletes in, or take the one that is there.

    Raises:
        FileError: it is a link: who hands over a run could have files deleted that lie elsewhere.
        OSError: it cannot be made.
    """
    if path.is_symlink():
        raise FileError(
            f"{path} is a link, but a run's own folders must lie in it: remove the link, or move what it leads to there"
        )
    path.mkdir(parents=True, exist_ok=True)
    return path


def _only_regular(handle: int, path: Path | str) -> int:
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise FileError(_not_regular(path))
    return handle


def _not_regular(path: Path | str) -> str:
    what = "a link" if os.path.islink(path) else "a folder" if os.path.isdir(path) else "a device or a named pipe"
    return f"{path} is {what}, but must be a regular file: remove it"


def open_regular(path: Path | str) -> BinaryIO:
    """Open a regular file for reading, or one that a link leads to; it never waits for a named pipe.

    Raises:
        FileError: it is no regular file.
        OSError: it is not there, or cannot be read.
    """
    handle = os.open(path, os.O_RDONLY | _NO_WAIT)
    return os.fdopen(_only_regular(handle, path), "rb")


def read_bytes(path: Path | str, most: int = MAX_SMALL_FILE_BYTES) -> bytes:
    """The bytes of a regular file, or of one that a link leads to.

    Raises:
        FileError: it is no regular file, or larger than `most` bytes.
        OSError: it is not there, or cannot be read.
    """
    with open_regular(path) as file:
        data = _up_to(most + 1, file)
    if len(data) > most:
        raise FileError(
            f"{path} is larger than the {most} bytes that such a file may have: it is not what its name says"
        )
    return data


def _up_to(most: int, file: BinaryIO) -> bytes:
    """What a file holds, `most` bytes at most: that much is not reserved for one that is smaller."""
    blocks, left, size = list[bytes](), most, os.fstat(file.fileno()).st_size + 1
    while left and (block := file.read(min(size, left))):
        blocks.append(block)
        left, size = left - len(block), _BLOCK_BYTES  # it grows, or has not told its size
    return b"".join(blocks)


def read_text(path: Path | str, most: int = MAX_SMALL_FILE_BYTES) -> str:
    """UTF-8 text, with or without a byte order mark; raises as `read_bytes`, FileError also where it is no UTF-8."""
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): it is damaged") from error


def read_json(path: Path | str, most: int = MAX_SMALL_FILE_BYTES) -> Any:
    """What a JSON file holds; raises as `read_bytes`, and FileError as `parse_json`."""
    return parse_json(read_bytes(path, most), path)


def read_object(path: Path | str, most: int = MAX_SMALL_FILE_BYTES) -> dict[str, Any]:
    """As `read_json`, of a file that must hold an object (`{...}`)."""
    found = read_json(path, most)
    if not isinstance(found, dict):
        raise FileError(f"{path} must hold a JSON object, not a {type(found).__name__}: it is damaged")
    return found


def parse_json(data: bytes | str, where: Path | str) -> Any:
    """Values from JSON text; `where` is named in errors.

    Raises:
        FileError: it is no JSON, is nested deeper than 200 levels, or holds a number that is not finite.
    """
    try:
        found = from_json(data, allow_inf_nan=False)
        if _HUGE.search(data if isinstance(data, bytes) else data.encode()):
            json.dumps(found, allow_nan=False)
    except ValueError as error:
        raise FileError(f"{where} holds no valid JSON ({error}): it is damaged") from error
    return found


def read_yaml(path: Path) -> dict[str, Any]:
    """The `key: value` lines of a YAML file; nothing in it is executed.

    Raises:
        ConfigError: it cannot be read, is not YAML, holds something else, or a key twice, or takes too much to show.
    """
    try:
        tree = parse_yaml(read_text(path, MOST_YAML), path) or {}
    except FileError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): give a YAML file") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold `key: value` lines, not a {type(tree).__name__}")
    return tree


def sha256(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


CLUTTER = frozenset({
    "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "$recycle.bin", "recycler",
    "system volume information", "@eadir", "@recycle", "#recycle", "#snapshot", "lost+found",
})  # fmt: skip
"""Files and folders, in lower case, that Windows, macOS and network storages leave among others."""


def is_clutter(name: str) -> bool:
    """Whether a file or folder is hidden, or one that systems leave among others: no part of a data set."""
    return name.startswith(".") or name.lower() in CLUTTER
