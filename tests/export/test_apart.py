"""Work in a copy of the process: what becomes of it, and that nothing is left of it."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mmadfer.runtime.apart import apart

HERE = os.getpid()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def kill() -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


def wait() -> bytes:
    with open("/dev/null") as file:
        time.sleep(60)
        return bytes(file.fileno())


def leave() -> bytes:
    raise SystemExit(3)


def test_it_gives_what_the_work_gives_however_large() -> None:
    large = os.urandom(5_000_001)
    assert apart(lambda: large, 60) == large
    assert apart(bytes, 60) == b""
    assert int(apart(lambda: str(os.getpid()).encode(), 60)) != HERE


@pytest.mark.parametrize(
    ("work", "seconds", "error", "told"),
    [
        (wait, 0.2, TimeoutError, r"^more than 0\.2 s$"),
        (kill, 60, ChildProcessError, "^SIGKILL$"),
        (leave, 60, RuntimeError, "^an error in a copy of this process$"),
    ],
)
def test_what_goes_wrong_is_told_and_nothing_is_left(
    work: Callable[[], bytes], seconds: float, error: type[Exception], told: str
) -> None:
    before, start = open_files(), time.monotonic()
    with pytest.raises(error, match=told):
        apart(work, seconds)
    assert time.monotonic() - start < 30
    assert open_files() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # no child, not even a dead one


def test_a_copy_that_cannot_be_made_leaves_no_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", full)
    before = open_files()
    with pytest.raises(BlockingIOError):
        apart(bytes, 60)
    assert open_files() == before
