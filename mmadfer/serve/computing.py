"""One thread computes for all jobs: what waits of all of them in one batch, turn by turn."""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import NamedTuple

import numpy as np

from mmadfer.errors import MmadferError
from mmadfer.runtime.arrays import Inputs
from mmadfer.runtime.recogniser import Recogniser
from mmadfer.serve.metrics import Metrics
from mmadfer.utils.logs import logger
from mmadfer.utils.memory import lacks_memory

LOGGER = logger(__name__)

READY = 4
"""Looks of a job that wait, at least; 1.2 MB each at 160 px."""


class _Look(NamedTuple):
    lane: "Lane"
    inputs: Inputs
    tell: Callable[[np.ndarray], None]


class Lane:
    """What waits of one job: a few looks, so that memory does not grow with the video.

    Args:
        computing: what takes them.
        failed: called with what is wrong, by the thread that computes.
    """

    def __init__(self, computing: "Computing", failed: Callable[[Exception], None]) -> None:
        self._computing, self.failed = computing, failed
        self.looks, self.closed = deque[_Look](), False

    def put(self, inputs: Inputs, tell: Callable[[np.ndarray], None]) -> None:
        """Add a look, as soon as there is room; nothing happens where the lane is closed.

        Args:
            inputs: for the model.
            tell: called with its logits, by the thread that computes.
        """
        self._computing.put(self, _Look(self, inputs, tell))

    def close(self) -> None:
        """Drop what waits, and take no more."""
        self._computing.drop(self)


class Computing:
    """The thread.

    Args:
        recogniser: what computes.
        metrics: what is told of each batch.
        batch: looks that are computed together, at most; by default as `Recogniser.predict` does.
    """

    def __init__(self, recogniser: Recogniser, metrics: Metrics, batch: int | None = None) -> None:
        self._recogniser, self._metrics = recogniser, metrics
        self.batch = batch or recogniser.batches.usual
        self._room = max(self.batch, READY)
        self._turns, self._changed = deque[Lane](), threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="computing", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it works."""
        return self._thread.is_alive()

    def put(self, lane: Lane, look: _Look) -> None:
        """See `Lane.put`."""
        with self._changed:
            self._changed.wait_for(lambda: lane.closed or self._stopped or len(lane.looks) < self._room)
            if lane.closed or self._stopped:
                return
            if not lane.looks:
                self._turns.append(lane)
            lane.looks.append(look)
            self._changed.notify_all()

    def drop(self, lane: Lane) -> None:
        """See `Lane.close`."""
        with self._changed:
            lane.closed = True
            lane.looks.clear()
            with suppress(ValueError):
                self._turns.remove(lane)
            self._changed.notify_all()

    def stop(self) -> None:
        """End the thread behind its batch."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while some := self._taken():
            self._compute(some)

    def _taken(self) -> list[_Look]:
        """The next batch, a look of each job in its turn; nothing at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._turns)
            some = list[_Look]()
            while self._turns and len(some) < self.batch and not self._stopped:
                lane = self._turns.popleft()
                some.append(lane.looks.popleft())
                if lane.looks:
                    self._turns.append(lane)
            self._changed.notify_all()
        return some

    def _compute(self, some: list[_Look]) -> None:
        begun = monotonic()
        try:
            logits = self._recogniser.batches.logits([look.inputs for look in some], len(some))
        except Exception as error:
            if len(some) > 1:  # only the one at fault fails
                for look in some:
                    self._compute([look])
                return
            self._failed(some[0].lane, error)
            return
        self._metrics.batch(len(some), monotonic() - begun)
        for look, row in zip(some, logits, strict=True):
            try:
                look.tell(row)
            except Exception as error:  # of one job, which must not end the others
                self._failed(look.lane, error)

    def _failed(self, lane: Lane, error: Exception) -> None:
        if not isinstance(error, MmadferError):
            LOGGER.error(f"the model failed: {type(error).__name__}: {error}")
            words = "no memory is left" if lacks_memory(error) else f"{type(error).__name__}; the log says more"
            error = MmadferError(f"the model failed: {words}")
        lane.failed(error)
