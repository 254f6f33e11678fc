"""Files that are either whole or not there: write to a temporary name, sync, rename."""

import errno
import glob
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from mmadfer.errors import ConfigError


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
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # last: some writers put a private file of their own in its place
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        if error.filename is None and error.errno is not None:  # one in words alone would lose them
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sync(path: Path) -> None:
    """Flush a file or a directory to the disk."""
    handle = os.open(path, os.O_RDONLY)
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


class _Loader(yaml.SafeLoader):
    """Refuses what YAML forbids and its loader takes: a key that is there twice, of which the first would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As the base class, but for keys that are there twice."""
        seen = set[str]()
        for key, _ in node.value:
            if (name := str(key.value)) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} is there twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The `key: value` lines of a YAML file; nothing in it is executed.

    Raises:
        ConfigError: it cannot be read, is not YAML, holds something else, or a key twice.
    """
    try:
        # as safe_load: the loader is a safe one
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader) or {}
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): give a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold `key: value` lines, not a {type(tree).__name__}")
    return tree


def sha256(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_clutter(name: str) -> bool:
    """Whether a file is hidden, or one that file managers leave in folders: no part of a data set."""
    return name.startswith(".") or name in ("Thumbs.db", "desktop.ini")
