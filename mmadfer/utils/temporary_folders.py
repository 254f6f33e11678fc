"""Temporary folders beside what is written: gone when a command ends, or at the next one where it was killed."""

import errno
import glob
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO

from mmadfer.errors import FileError
from mmadfer.utils import file_locks
from mmadfer.utils.files import naming, open_lock

LOCK = ".lock"
"""File in each folder, which its process holds while it lives."""
BEFORE = ".before"
"""In a folder: what `take_place` has moved away."""


@contextmanager
def workplace(out: Path) -> Iterator[Path]:
    """Yield an empty folder for what is to become `out`, on the same disk; it goes with the block.

    What earlier ones for `out` left that were killed is removed, and what they had moved away with `take_place` put
    back; what another process is using just now stays. An error of the system that names no file, or one in the folder,
    names `out`.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    for folder in out.parent.glob(f".{glob.escape(out.name)}.{'[a-z0-9_]' * 8}"):  # as `mkdtemp` names them
        _remove_if_left(folder, out)
    folder, lock = _made(out)
    with lock:
        try:
            with naming(out):
                yield folder
        except OSError as error:
            if not any(str(name).startswith(str(folder)) for name in (error.filename, error.filename2)):
                raise
            raise OSError(error.errno, error.strerror, str(out)) from error  # the folder is gone when that is read
        finally:
            _put_back(folder, out)
            shutil.rmtree(folder, ignore_errors=True)


def take_place(folder: Path, out: Path) -> None:
    """Put a folder that lies in one of `workplace` in the place of `out`, which may be a folder that is there.

    No system does that in one step everywhere. Where the second step fails, or the process is killed before it, what
    was there is put back: at the end of the block, or when the next `workplace` for `out` begins.
    """
    if out.exists():
        os.rename(out, folder.parent / BEFORE)
    os.rename(folder, out)


def scratch(name: str) -> AbstractContextManager[Path]:
    """A folder as of `workplace`, where the system keeps temporary files."""
    return workplace(Path(tempfile.gettempdir()) / f"mmadfer-{name}")


def _made(out: Path) -> tuple[Path, IO[str]]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        with suppress(FileNotFoundError):  # taken for a left one by another process, before it was locked
            lock = open_lock(folder / LOCK)
            if _locked(lock, wait=True) and os.path.samestat(os.fstat(lock.fileno()), (folder / LOCK).stat()):
                return folder, lock
            lock.close()


def _remove_if_left(folder: Path, out: Path) -> None:
    with suppress(OSError, FileError):
        if stat.S_ISDIR(folder.lstat().st_mode):
            with open_lock(folder / LOCK) as lock:
                if _locked(lock, wait=False):
                    _put_back(folder, out)
                    shutil.rmtree(folder, ignore_errors=True)


def _put_back(folder: Path, out: Path) -> None:
    """What `take_place` has moved away, if nothing is in its place."""
    before = folder / BEFORE
    if before.is_dir() and not before.is_symlink():
        with suppress(OSError):  # something is
            os.rename(before, out)
            return
        with suppress(OSError):
            os.rename(before, folder / "deleted")  # so that nothing half-deleted is ever put back


def _locked(lock: IO[str], wait: bool) -> bool:
    """Hold the lock; on a disk that has none, only for the one that waits: nothing there is taken for left."""
    try:
        return file_locks.hold(lock, wait=wait)
    except OSError as error:
        return wait and error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
