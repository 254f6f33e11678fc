"""Worker processes with one thread for sums each, that never see Ctrl-C and end after the one that started them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TypeVar

from mmadfer.errors import DataError

A = TypeVar("A")
R = TypeVar("R")


@contextmanager
def pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """So many worker processes, for `submit_work`.

    Raises:
        DataError: they cannot be started.
    """
    # a fork of a process that runs torch's threads may hang; the server has none, and imports all once for all
    server = "forkserver" in multiprocessing.get_all_start_methods()  # not on Windows
    context = multiprocessing.get_context("forkserver" if server else "spawn")
    if server:
        context.set_forkserver_preload(["mmadfer.data.preparation.blas_threads", "mmadfer.data.clip", "torch"])
    with _explained():
        workers = ProcessPoolExecutor(jobs, context, _start_worker)
    try:
        ready = submit_work(workers, abs, 0)
        with _explained(BrokenProcessPool):
            ready.result()
        yield workers
    except BrokenProcessPool:
        kill(workers)
        raise
    finally:
        workers.shutdown(cancel_futures=True)


def submit_work(workers: ProcessPoolExecutor, work: Callable[[A], R], argument: A) -> Future[R]:
    """Hand `work(argument)` to one of the processes of `pool`.

    Raises:
        BrokenProcessPool: one of them has died.
        DataError: another one was needed and cannot be started.
    """
    with _explained(), _without_interrupts():
        return workers.submit(work, argument)


def kill(workers: ProcessPoolExecutor) -> None:
    """End the processes now, also those that hang or are stopped, for which the end of the pool would wait."""
    for process in list(workers._processes.values()):  # before Python 3.14 there is no public way
        process.kill()
    # one that died while it handed over a result left half of it in the pipe, whose end nobody sees while we hold it
    workers._result_queue._writer.close()  # type: ignore[attr-defined]


@contextmanager
def _explained(also: type[Exception] = OSError) -> Iterator[None]:
    """Say what to do where a system has no more processes, memory or open files, or has ended the fork server."""
    try:
        yield
    except (EOFError, OSError, also) as error:
        raise DataError(
            f"worker processes cannot be started ({type(error).__name__}: {error}): use fewer --jobs, or allow more "
            "memory or open files (`ulimit -n`); a script of your own must call prepare under "
            "`if __name__ == '__main__':`, or with jobs=1"
        ) from error


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started meanwhile never see Ctrl-C: this one does, and ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    if find_spec("torch"):
        import torch

        torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End when the process that started us does, or as soon as a call into C gives Python's lock back."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
