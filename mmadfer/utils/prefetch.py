"""Work done ahead of the one who waits for it: in several threads, in order, with a bound on what lies ready."""

import atexit
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_POLL_SECONDS = 0.1
"""Seconds after which a thread with something to hand over looks whether anybody still wants it."""
_JOIN_SECONDS = 10.0
"""Seconds that threads have to leave the code of a decoder: a process that ends over them is aborted."""
_END = object()


def lookahead(items: Iterable[T], count: int) -> Iterator[T]:
    """The items, each made when the one `count` places before it is asked for."""
    made = deque[T]()
    for item in items:
        made.append(item)
        if len(made) > count:
            yield made.popleft()
    while made:
        yield made.popleft()


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
                self._ready.put(item, timeout=_POLL_SECONDS)
                return True
        return False

    def __iter__(self) -> Iterator[R]:
        while (item := self._ready.get()) is not _END:
            yield item
        if self._error:
            raise self._error


class _Threads:
    """At most `most` threads, started as there is work. They are ended by `end`, which also the process does."""

    def __init__(self, most: int, stop: threading.Event) -> None:
        self._most, self._stop, self._started = most, stop, list[threading.Thread]()
        self._todo = queue.SimpleQueue[Callable[[], None] | None]()
        atexit.register(self.end)

    def submit(self, work: Callable[[], None]) -> None:
        self._todo.put(work)
        if len(self._started) < self._most:
            self._started.append(threading.Thread(target=self._run, name=f"read-{len(self._started)}", daemon=True))
            self._started[-1].start()

    def _run(self) -> None:
        for work in iter(self._todo.get, None):
            if not self._stop.is_set():
                work()

    def end(self) -> None:
        """Take no more, and wait until each thread has left what it is at, LEAVE seconds at most."""
        atexit.unregister(self.end)
        self._stop.set()
        for _ in self._started:
            self._todo.put(None)
        end = time.monotonic() + _JOIN_SECONDS
        for thread in self._started:
            if thread is not threading.current_thread():
                thread.join(max(0.0, end - time.monotonic()))


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
    stop = threading.Event()
    threads = _Threads(jobs, stop)

    def begun() -> Iterator[tuple[T, _Stream[R]]]:
        for task in tasks:
            stream = _Stream(partial(work, task), depth, stop)
            threads.submit(stream.run)
            yield task, stream

    try:
        yield from lookahead(begun(), jobs)
    finally:
        threads.end()
