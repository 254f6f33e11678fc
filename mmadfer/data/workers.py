"""Preparing single clips, here or in worker processes that survive a clip which crashes its decoder."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

from mmadfer.config import PrepareConfig
from mmadfer.data import faces
from mmadfer.data.record import Clip, Record, encode
from mmadfer.data.sets import Source
from mmadfer.data.stamp import UNREAD, Digest, Files, digest, stamp
from mmadfer.errors import ClipError, DataError, MmadferError

A = TypeVar("A")
R = TypeVar("R")

AHEAD = 2
"""Clips given to each worker in advance; what is in flight bounds the memory."""


@dataclass(frozen=True)
class Task:
    """One clip to prepare."""

    source: Source
    media: str
    """Its file, relative to the store's root."""
    settings: PrepareConfig
    sound: str | None = None
    """The file with its sound, relative to the store's root, where that is not `media`."""
    device: str = "cpu"
    """Where faces are looked for."""


@dataclass(frozen=True)
class Outcome:
    """A prepared clip, or why there is none."""

    id: str
    clip: Clip | None = None
    data: bytes = b""
    """As in the store."""
    reason: str = ""
    detail: str = ""
    digest: Digest = UNREAD
    """What the clip's files held before they were decoded."""
    stamp: str = ""
    """Of these files, likewise."""
    notes: tuple[str, ...] = ()
    """What a person should know of the clip."""


def outcomes(tasks: list[Task], jobs: int) -> Generator[Outcome, None, None]:
    """Prepare clips in `jobs` processes; results come in the order of the tasks.

    Raises:
        DataError: worker processes cannot be started, or the machine fails while a clip is prepared.
    """
    if jobs <= 1 or len(tasks) <= 1:
        yield from map(prepare_clip, tasks)
        return
    waiting = deque(tasks)
    while waiting:
        yield from _until_a_crash(waiting, min(jobs, len(waiting)))
        for task in list(islice(waiting, AHEAD * jobs)):  # one of those in flight crashed; each for itself tells which
            yield _alone(task)
            waiting.popleft()


def _until_a_crash(waiting: deque[Task], jobs: int) -> Iterator[Outcome]:
    """Take tasks from the left as they are done; end early when a worker dies."""
    ahead, given = deque[Future[Outcome]](), 0
    with pool(jobs) as workers:
        try:
            while waiting:
                while given < len(waiting) and given < AHEAD * jobs:
                    ahead.append(submit(workers, prepare_clip, waiting[given]))
                    given += 1
                outcome = ahead.popleft().result()
                waiting.popleft()
                given -= 1
                yield outcome
        except BrokenProcessPool:
            return


def _alone(task: Task) -> Outcome:
    with pool(1) as workers:
        try:
            return submit(workers, prepare_clip, task).result()
        except BrokenProcessPool:
            detail = f"{task.source.media} ended the process that decoded it: it is damaged, or takes too much memory"
            return _mark(Outcome(task.source.id, reason="unreadable", detail=detail), *_look(task))


@contextmanager
def pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes with one torch thread each, that never see Ctrl-C and end with this process.

    Raises:
        DataError: they cannot be started.
    """
    # a fork of a process that runs torch's threads may hang; the server has none, and imports torch once for all
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mmadfer.data.clip"])
    workers = ProcessPoolExecutor(jobs, context, _start_worker)
    try:
        with _without_interrupts():
            ready = workers.submit(os.getpid)
        try:
            ready.result()
        except BrokenProcessPool as error:
            raise DataError(
                "worker processes cannot be started; call prepare under `if __name__ == '__main__':`, or with jobs=1"
            ) from error
        yield workers
    finally:
        workers.shutdown(cancel_futures=True)


def submit(workers: ProcessPoolExecutor, work: Callable[[A], R], argument: A) -> Future[R]:
    """Hand `work(argument)` to one of the processes of `pool`."""
    with _without_interrupts():
        return workers.submit(work, argument)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started meanwhile never see Ctrl-C: this one does, and ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def prepare_clip(task: Task) -> Outcome:
    """Prepare one clip; what is wrong with the clip itself is in the outcome.

    Raises:
        DataError: the machine ran out of memory or could not read the file, which says nothing about the clip.
        MmadferError: something else that would be wrong for every clip.
    """
    seen = _look(task)  # first: files that change meanwhile are then found to have changed
    return _mark(_decode(task), *seen)


def _look(task: Task) -> tuple[str, Digest]:
    files = Files(task.source.media, task.source.sound)
    return stamp(files), digest(files)


def _mark(outcome: Outcome, now: str, found: Digest) -> Outcome:
    clip = outcome.clip and replace(outcome.clip, sha256=found.sha256, size=found.size)
    return replace(outcome, clip=clip, digest=found, stamp=now)


def _decode(task: Task) -> Outcome:
    from mmadfer.data.clip import read_clip

    source = task.source
    try:
        data = read_clip(source.media, task.settings, sound=source.sound, cropped=source.cropped, device=task.device)
    except ClipError as error:
        _check_machine(source.media, error)
        return Outcome(source.id, reason=error.reason, detail=str(error))
    except MmadferError:
        raise
    except Exception as error:  # one odd file must not end hours of preparation; it is listed like the others
        _check_machine(source.media, error)
        return Outcome(source.id, reason="unreadable", detail=f"{source.media}: {type(error).__name__}: {error}")
    clip = Clip(
        source.id,
        source.label,
        source.fold,
        task.media,
        len(data.jpegs),
        source.subject,
        silent=data.silent,
        sound=task.sound,
        rate=data.rate,
    )
    return Outcome(source.id, clip, encode(Record(data.jpegs, data.fbank)), notes=data.notes)


def _check_machine(media: Path, error: Exception) -> None:
    """Stop where the machine is at fault: a clip that is left out now stays out when the machine is well again."""
    if faces.lacks_memory(error) or faces.lacks_memory(error.__cause__):
        raise DataError(
            f"{media}: no memory is left to decode it ({error.__cause__ or error}). Finished parts are kept: run the "
            "same command with fewer --jobs, or take this clip out if it needs too much even alone"
        ) from error
    try:
        with media.open("rb") as file:  # what FFmpeg calls an input error may be the file's fault or the disk's
            while file.read(2**20):
                pass
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return  # the clip table names what is not there
    except OSError as trouble:
        raise DataError(
            f"{media} cannot be read: {trouble.strerror}. Finished parts are kept: mend the disk, mount or "
            "permissions, and run the same command again"
        ) from trouble
