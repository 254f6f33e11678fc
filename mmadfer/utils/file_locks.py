"""Locks on files that the system frees when their process ends: `flock`, or on Windows the C library's."""

import errno
import os
import time
from importlib import import_module
from typing import IO, Any

_PLACE = 1 << 30
"""Of the one byte that Windows locks: beyond what a lock file holds, for nobody else can read a locked byte."""
_PAUSE_SECONDS = 0.1


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        return None


_UNIX, _WINDOWS = _module("fcntl"), _module("msvcrt")


def hold(file: IO[Any], *, wait: bool = False) -> bool:
    """Keep a file for this process until it is closed.

    Args:
        file: opened for writing.
        wait: until another process lets go of it.

    Returns:
        False: another process holds it.

    Raises:
        OSError: the file system, or the system, has no locks.
    """
    try:
        if _UNIX is not None:
            _UNIX.flock(file, _UNIX.LOCK_EX | (0 if wait else _UNIX.LOCK_NB))
        elif _WINDOWS is not None:
            _hold_byte(file.fileno(), wait)
        else:
            raise OSError(errno.ENOLCK, "this system has no file locks")
    except (BlockingIOError, PermissionError):
        return False
    return True


def _hold_byte(handle: int, wait: bool) -> None:
    os.lseek(handle, _PLACE, os.SEEK_SET)
    while True:
        try:
            _WINDOWS.locking(handle, _WINDOWS.LK_NBLCK, 1)
            return
        except PermissionError:
            if not wait:
                raise
            time.sleep(_PAUSE_SECONDS)
