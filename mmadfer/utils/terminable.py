"""SIGTERM, with which servers and queues end a command, as an exception that lets it clean up."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM, with which servers and queues end a command, leaves the block as ctrl-C does, and ends with 143."""

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one must not stop the writing
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # where Python cannot catch signals
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
