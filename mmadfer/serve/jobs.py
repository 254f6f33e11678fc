"""Jobs: which videos wait, which are read, and what has become of those that have ended."""

import secrets
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from mmadfer.errors import MmadferError
from mmadfer.serve.computing import Computing
from mmadfer.serve.job import CANCELLED, DONE, FAILED, READING, WAITING, Job
from mmadfer.serve.limits import Limits
from mmadfer.serve.metrics import Metrics
from mmadfer.serve.reading import Readers
from mmadfer.utils.logs import logger

LOGGER = logger(__name__)

MOST_KEPT = 100_000
"""Segments of all jobs that are kept, about 1 kB each; of more, those that ended first are forgotten."""
_USUAL_SECONDS = 10.0
"""Of a job, as long as none has ended."""
_LONGEST_RETRY = 600
_SWEEP_SECONDS = 5.0


class BusyError(Exception):
    """As many jobs wait as may."""

    def __init__(self, retry: int) -> None:
        super().__init__(f"the server is busy: try again in {retry} s")
        self.retry = retry
        """Seconds, after which there may be room."""


class Jobs:
    """All jobs of a server.

    Args:
        readers, computing: what reads and computes.
        limits: how many there may be.
        metrics: what is told of them.
    """

    def __init__(self, readers: Readers, computing: Computing, limits: Limits, metrics: Metrics) -> None:
        self._readers, self._computing, self._limits, self._metrics = readers, computing, limits, metrics
        self._all, self._waiting = dict[str, Job](), deque[Job]()
        self._uploads, self._mean, self._stopped = 0, _USUAL_SECONDS, False
        self._changed = threading.Condition()
        metrics.watch(
            "mmadfer_jobs_now",
            "Jobs by state, and uploads that are being received.",
            {
                "uploading": lambda: self._uploads,
                WAITING: lambda: len(self._waiting),
                READING: lambda: sum(job.state == READING for job in list(self._all.values())),
            },
        )
        names = [f"job-{k + 1}" for k in range(limits.jobs)]
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for name in names]
        self._threads.append(threading.Thread(target=self._sweep, name="sweeping", daemon=True))
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether jobs are worked at."""
        return self._computing.alive and all(thread.is_alive() for thread in self._threads)

    @contextmanager
    def upload(self) -> Iterator[None]:
        """Hold a place in the queue while an upload comes in; `add` in the block keeps it.

        Raises:
            BusyError: there is none.
        """
        with self._changed:
            if self._uploads + len(self._waiting) >= self._limits.queue:
                raise BusyError(self._retry())
            self._uploads += 1
        try:
            yield
        finally:
            with self._changed:
                self._uploads -= 1

    def _retry(self) -> int:
        seconds = self._mean * (1 + len(self._waiting)) / self._limits.jobs
        return max(1, min(_LONGEST_RETRY, round(seconds)))

    def new_id(self) -> str:
        """Of a job: 128 random bits, which nobody guesses."""
        return secrets.token_hex(16)

    def add(self, job: Job) -> None:
        """Put a job at the queue's end."""
        with self._changed:
            self._all[job.id] = job
            self._waiting.append(job)
            self._changed.notify_all()

    def get(self, name: str) -> Job | None:
        """A job by its id."""
        return self._all.get(name)

    def waits_behind(self, job: Job) -> int:
        """Jobs that are before it in the queue."""
        with self._changed:
            return self._waiting.index(job) if job in self._waiting else 0

    def forget(self, job: Job) -> None:
        """Cancel a job that has not ended, and forget it."""
        with self._changed:
            self._all.pop(job.id, None)
            if job in self._waiting:
                self._waiting.remove(job)
        self._cancel(job)

    def _cancel(self, job: Job) -> None:
        if job.cancel():
            self._metrics.ended.labels(CANCELLED).inc()

    def close(self) -> None:
        """Cancel all, and end the threads."""
        with self._changed:
            self._stopped = True
            self._waiting.clear()
            jobs = list(self._all.values())
            self._changed.notify_all()
        for job in jobs:
            self._cancel(job)
        self._readers.kill()  # a thread may wait for its word
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                job.run(self._readers, self._computing, self._limits)
            except Exception as error:  # no job ends the thread
                if not isinstance(error, MmadferError | OSError):
                    LOGGER.exception("a job failed")
                job.fail(error)
            self._count(job)

    def _count(self, job: Job) -> None:
        if job.state in (DONE, FAILED):
            seconds = job.ended - job.begun
            self._metrics.ended.labels(job.state).inc()
            self._metrics.seconds.observe(seconds)
            self._mean += 0.2 * (seconds - self._mean)
        self._metrics.video.inc(job.seconds_done)

    def _next(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._waiting)
            return None if self._stopped else self._waiting.popleft()

    def _sweep(self) -> None:
        """Forget what has been kept for long enough."""
        with self._changed:
            while not self._changed.wait_for(lambda: self._stopped, _SWEEP_SECONDS):
                self._forget_old(monotonic() - 60 * self._limits.keep_minutes)

    def _forget_old(self, before: float) -> None:
        ended = sorted((job for job in self._all.values() if job.ended), key=lambda job: job.ended)
        kept = sum(job.weight for job in ended)
        for job in ended:
            if job.ended < before or kept > MOST_KEPT:
                del self._all[job.id]
                kept -= job.weight
