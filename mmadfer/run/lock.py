"""A folder kept for one process; the system lets go of it whatever becomes of the process."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mmadfer.errors import RunError
from mmadfer.utils import file_locks
from mmadfer.utils.files import open_lock
from mmadfer.utils.logs import logger

LOGGER = logger(__name__)

LOCK_FILE = ".lock"
LOCK_WAIT_SECONDS = 60.0
"""Seconds that a stopped process may take to save and leave."""
QUIET_SECONDS = 1.0
"""Seconds of waiting that are not worth a word."""


class BusyError(RunError):
    """Another process holds the folder, and does not leave."""


@contextmanager
def lock(folder: Path, what: str = "used", wait: float = LOCK_WAIT_SECONDS) -> Iterator[None]:
    """Keep a folder for this process; waits up to `wait` seconds for another one to leave it, and says so.

    Raises:
        BusyError: another process holds it; `what` says what is being done to it.
        FileError: the lock file is a link or no regular file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open_lock(folder / LOCK_FILE) as file:
        if not taken(file, folder, min(wait, QUIET_SECONDS)):
            LOGGER.warning(f"{folder} is being {what} by another process: waiting up to {wait:.0f} s")
            if not taken(file, folder, wait - QUIET_SECONDS):
                raise BusyError(f"{folder} is being {what} by another process: wait for it, or end it first")
        yield


def taken(file: IO[str], folder: Path, seconds: float) -> bool:
    """Whether `file`, in `folder`, could be locked for this process within so many seconds."""
    end = time.monotonic() + seconds
    while True:
        try:
            if file_locks.hold(file):
                return True
        except OSError as error:  # a file system without locks
            LOGGER.warning(f"{folder} cannot be locked ({error.strerror}): keep other processes out of it")
            return True
        if time.monotonic() >= end:
            return False
        time.sleep(0.1)
