"""Work in a copy of this process: it may crash, or be killed when it takes too long, without harm to this one."""

import ctypes
import errno
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from mmadfer.utils.logs import logger

LOGGER = logger(__name__)

_PIPE_BYTES = 2**20
PDEATHSIG = 1
"""`PR_SET_PDEATHSIG` of Linux's prctl(2)."""
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def in_subprocess(work: Callable[[], bytes], seconds: float) -> bytes:
    """What `work` returns.

    The copy has all that is loaded here, but of the threads only the one that calls; so no other may be at work.

    Args:
        work: done in the copy.
        seconds: that it may take; then it is killed, whatever it is at. On Linux it also ends with this process.

    Raises:
        TimeoutError: it took longer.
        ChildProcessError: it crashed, by a fault in a decoder or for want of memory; names the signal.
        RuntimeError: it raised something, which stands in the log.
        OSError: there can be no further process.
    """
    if not hasattr(os, "fork"):
        raise OSError(errno.ENOSYS, "this system cannot copy a process")
    reading, writing = os.pipe()
    here = os.getpid()
    try:
        child = os.fork()
    except OSError:  # too many processes
        os.close(reading)
        os.close(writing)
        raise
    if not child:
        os.close(reading)  # or what is written would wait for a reader even when this process is gone
        _work(work, writing, here)
    os.close(writing)
    found, status = None, 0
    try:
        found = _received(reading, time.monotonic() + seconds)
    finally:
        os.close(reading)
        if found is None:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if found is None:
        raise TimeoutError(f"more than {seconds:g} s")
    if os.WIFSIGNALED(status):
        raise ChildProcessError(signal.Signals(os.WTERMSIG(status)).name)
    if status:
        raise RuntimeError("an error in a copy of this process")
    return found


def _work(work: Callable[[], bytes], writing: int, parent: int) -> NoReturn:
    code = 1
    try:
        bind(parent)
        with open(writing, "wb") as pipe:
            pipe.write(work())
        code = 0
    except BaseException:
        LOGGER.error(traceback.format_exc())
    finally:
        os._exit(code)  # what the first process has to tidy up at its end is not for its copy


def bind(parent: int) -> None:
    """End this process with the one that made it, whose number is `parent`, and before it where memory runs out."""
    if LIBC is not None:
        LIBC.prctl(PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was gone before that
            os._exit(1)
        with suppress(OSError):  # where /proc is not to be written
            Path("/proc/self/oom_score_adj").write_text("1000")


def _received(reading: int, end: float) -> bytes | None:
    """All that is written; None if that is not there in time."""
    found, ready = bytearray(), select.poll()
    ready.register(reading, select.POLLIN)
    while ready.poll(max(0.0, end - time.monotonic()) * 1000):
        if not (chunk := os.read(reading, _PIPE_BYTES)):
            return bytes(found)
        found += chunk
    return None
