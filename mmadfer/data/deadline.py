"""A time by which a file must be read: for servers, where others wait for the same process."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from mmadfer.errors import ClipError

_ends = ContextVar("ends", default=(math.inf, 0.0))
"""When, on `time.monotonic`, and how many seconds were given."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Give whatever this thread reads meanwhile so many seconds, all in all."""
    token = _ends.set((time.monotonic() + seconds, seconds))
    try:
        yield
    finally:
        _ends.reset(token)


def check(path: object) -> None:
    """Called again and again by whoever reads `path`, which is named in the error.

    Raises:
        ClipError: `too slow`: the time is over.
    """
    end, seconds = _ends.get()
    if time.monotonic() > end:
        raise ClipError(
            f"{path} is not read within {seconds:g} s, the most that is given to it here: cut it into shorter ones, or "
            "make its pictures smaller",
            "too slow",
        )
