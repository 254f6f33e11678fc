"""Signals of `mmadfer train`: the loop answers at the end of the step, when all ranks can save together.

Jobs of a launch have `mmadfer.launch.jobs.StopFlag` instead.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mmadfer.utils.logs import logger

LOGGER = logger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Catch SIGTERM, SIGUSR2 and ctrl-C while the block runs; yields whether one of them has come.

    A second ctrl-C stops at once, as without this block. Outside the main thread, where Python cannot catch signals,
    nothing is caught.
    """
    asked = threading.Event()
    before: dict[signal.Signals, Any] = {}

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()
        if number == signal.SIGINT:
            LOGGER.warning("stopping after this step; ctrl-C again stops at once")
            signal.signal(signal.SIGINT, signal.default_int_handler)

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
