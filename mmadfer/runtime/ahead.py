"""Work done ahead of the one who waits for it: in several threads, in order, with a bound on what lies ready."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

WAIT = 0.1
"""Seconds after which a thread with something to hand over looks whether anybody still wants it."""
_END = object()


class _Stream(Generic[R]):
    """What one piece of work yields; at most `depth` items lie ready."""

    def __init__(self, work: Callable[[], Iterator[R]], depth: int, stop: threading.Event) -> None:
        self._work, self._stop = work, stop
        self._ready = queue.Queue[Any](depth)
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do the work; ends early when nobody wants the rest."""
        try:
            for item in self._work():
                if not self._hand_over(item):
                    return
        except BaseException as error:
            self._error = error
        self._hand_over(_END)

    def _hand_over(self, item: object) -> bool:
        while not self._stop.is_set():
            with suppress(queue.Full):
                self._ready.put(item, timeout=WAIT)
                return True
        return False

    def __iter__(self) -> Iterator[R]:
        while (item := self._ready.get()) is not _END:
            yield item
        if self._error:
            raise self._error


class _Threads:
    """At most `most` threads, started as there is work; the end of the process does not wait for them."""

    def __init__(self, most: int) -> None:
        self._most, self._started = most, 0
        self._todo = queue.SimpleQueue[Callable[[], None] | None]()

    def submit(self, work: Callable[[], None]) -> None:
        self._todo.put(work)
        if self._started < self._most:
            self._started += 1
            threading.Thread(target=self._run, name=f"read-{self._started}", daemon=True).start()

    def _run(self) -> None:
        for work in iter(self._todo.get, None):
            work()

    def end(self) -> None:
        for _ in range(self._started):
            self._todo.put(None)


def ahead(
    tasks: Iterable[T], work: Callable[[T], Iterator[R]], jobs: int, depth: int
) -> Iterator[tuple[T, Iterable[R]]]:
    """Run `work(task)` in `jobs` threads, a few tasks ahead.

    Args:
        tasks: taken one by one, as there is room; may be endless.
        work: what it yields is handed over, and what it raises is raised where its results are taken.
        jobs: threads.
        depth: results of each task that may lie ready; its work waits when there are as many.

    Yields:
        each task with its results, in the order of the tasks. The results must be taken before the next task.
    """
    stop, streams, rest, threads = threading.Event(), deque[tuple[T, _Stream[R]]](), iter(tasks), _Threads(jobs)

    def give() -> None:
        while len(streams) <= jobs:
            try:
                task = next(rest)
            except StopIteration:
                return
            stream = _Stream(partial(work, task), depth, stop)
            streams.append((task, stream))
            threads.submit(stream.run)

    try:
        give()
        while streams:
            yield streams.popleft()
            give()
    finally:
        stop.set()
        threads.end()
