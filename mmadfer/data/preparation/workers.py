"""Preparing single clips, here or in worker processes that survive a clip which crashes or hangs its decoder."""

import errno
from collections import deque
from collections.abc import Generator, Mapping
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.faces import detection
from mmadfer.data.faces.landmarks import NONE, clip_landmarks, reliable_frames
from mmadfer.data.faces.landmarks68 import TENSOR
from mmadfer.data.media.frames import FrameSource, NumberedCrops, slack_frames
from mmadfer.data.preparation.tensor_files import few_steps, read_tensors
from mmadfer.data.sets import SourceClip
from mmadfer.data.store.record import LATER, Clip, ClipRecord, encode_record
from mmadfer.data.store.source_files import UNREAD, Digest, files_digest, stamp
from mmadfer.data.store.targets import Target
from mmadfer.errors import ClipError, DataError, MmadferError
from mmadfer.utils.files import sha256
from mmadfer.utils.memory import lacks_memory
from mmadfer.utils.worker_processes import kill, pool, submit_work

_CLIPS_IN_ADVANCE = 2
"""Clips given to each worker in advance; what is in flight bounds the memory."""
SLOWEST = {"track": 3600, "union": 3600}
"""Seconds that a clip may take, by `face_box`; a hundred times what a clip of 30 s takes."""
OF_THE_FILE = {
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG,
}  # fmt: skip
"""What a system says of a file that is not there or not for us; anything else it says of the disk or itself."""


@dataclass(frozen=True)
class ClipJob:
    """One clip to prepare."""

    source: SourceClip
    media: str
    """Its file, relative to the store's root."""
    settings: PrepareConfig
    sound: str | None = None
    """The file with its sound, relative to the store's root, where that is not `media`."""
    device: str = "cpu"
    """Where faces are looked for."""
    tensors: Mapping[str, str] = field(default_factory=dict)
    """Named tensor -> its file, relative to the store's root."""
    targets: Mapping[str, Target] = field(default_factory=dict)
    """Of the data set."""


@dataclass(frozen=True)
class PreparedClip:
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


class _TookTooLongError(Exception):
    """A worker gives no answer."""


def outcomes(tasks: list[ClipJob], jobs: int, seconds: int | None = None) -> Generator[PreparedClip, None, None]:
    """Prepare clips in `jobs` processes; results come in the order of the tasks.

    Args:
        tasks: the clips.
        jobs: processes; a single one is this one, which a clip may crash or hang, more are workers that are replaced.
        seconds: that a worker may take for a clip before it is ended; by default `SLOWEST`.

    Raises:
        DataError: worker processes cannot be started, or the machine fails while a clip is prepared.
    """
    if jobs <= 1 or not tasks:
        yield from map(prepare_clip, tasks)
        return
    waiting, seconds = deque(tasks), seconds or SLOWEST[tasks[0].settings.face_box]
    while waiting:
        crashed = yield from _until_trouble(waiting, min(jobs, len(waiting)), seconds)
        in_flight = (
            list(islice(waiting, _CLIPS_IN_ADVANCE * jobs)) if crashed else []
        )  # one of them; each for itself tells which
        for task in in_flight:
            yield _alone(task, seconds)
            waiting.popleft()


def _until_trouble(waiting: deque[ClipJob], jobs: int, seconds: int) -> Generator[PreparedClip, None, bool]:
    """Take tasks from the left as they are done; ends early when a worker dies (True) or hangs (False)."""
    ahead, given = deque[Future[PreparedClip]](), 0
    with pool(jobs) as workers:
        try:
            while waiting:
                while given < len(waiting) and given < _CLIPS_IN_ADVANCE * jobs:
                    ahead.append(submit_work(workers, prepare_clip, waiting[given]))
                    given += 1
                outcome = _result(ahead.popleft(), seconds)
                waiting.popleft()
                given -= 1
                yield outcome
        except BrokenProcessPool:
            kill(workers)
            return True
        except _TookTooLongError as error:
            kill(workers)
            yield _given_up(waiting.popleft(), str(error))
        except BaseException:
            kill(workers)  # a clip that hangs must not hold up the end either
            raise
    return False


def _alone(task: ClipJob, seconds: int) -> PreparedClip:
    with pool(1) as workers:
        try:
            return _result(submit_work(workers, prepare_clip, task), seconds)
        except BrokenProcessPool:
            return _given_up(task, "ended the process that decoded it: it is damaged, or takes too much memory")
        except _TookTooLongError as error:
            kill(workers)
            return _given_up(task, str(error))


def _given_up(task: ClipJob, why: str) -> PreparedClip:
    return _mark(
        PreparedClip(task.source.id, reason="unreadable", detail=f"{task.source.media} {why}"), *stamp_files(task)
    )


def _result(future: Future[PreparedClip], seconds: int) -> PreparedClip:
    for _ in range(seconds):  # one by one: while a cluster suspends the job, its clock goes on
        with suppress(TimeoutError):
            return future.result(timeout=1)
    raise _TookTooLongError(f"took longer than {seconds} s to decode: it is damaged, or far too large")


def prepare_clip(task: ClipJob) -> PreparedClip:
    """Prepare one clip; what is wrong with the clip itself is in the outcome.

    Raises:
        DataError: the machine ran out of memory, or its disk or GPU failed, which says nothing about the clip.
        MmadferError: something else that would be wrong for every clip.
    """
    seen = stamp_files(task)  # first: files that change meanwhile are then found to have changed
    outcome = _decode(task)
    if seen[1] == UNREAD:  # for good, or for a moment; an index that says so would hold for ever
        seen = stamp_files(task)
    if seen[1] == UNREAD and outcome.clip:
        _check_machine(task.source, OSError(errno.EIO, "it was decoded, and could not be read a second time"))
    return _mark(outcome, *seen)


def stamp_files(task: ClipJob) -> tuple[str, Digest]:
    """Stamp and digest of a clip's files."""
    files = task.source.files
    return stamp(files), files_digest(files)


def _mark(outcome: PreparedClip, now: str, found: Digest) -> PreparedClip:
    alone = found.media if found.media != found.sha256 else ""
    clip = outcome.clip and replace(outcome.clip, sha256=found.sha256, media_sha256=alone, size=found.size)
    return replace(outcome, clip=clip, digest=found, stamp=now)


def _decode(task: ClipJob) -> PreparedClip:
    from mmadfer.data.clip import read_clip
    from mmadfer.data.media import container

    source = task.source
    try:
        with container.explained():
            data = read_clip(
                _frames_of(source, task.settings),
                task.settings,
                sound=source.sound,
                cropped=source.cropped,
                device=task.device,
                whole_sound=True,
            )
        slack = slack_frames(source.trace_slack, len(data.times))
        tensors = read_tensors(source.tensors, task.targets, data.times, slack)
        found = _landmarks(task, data.jpegs)
    except ClipError as error:
        _check_machine(source, error)
        return PreparedClip(source.id, reason=error.reason, detail=str(error))
    except MmadferError:
        raise
    except Exception as error:  # one odd file must not end hours of preparation; it is listed like the others
        _check_machine(source, error)
        return PreparedClip(source.id, reason="unreadable", detail=f"{source.media}: {type(error).__name__}: {error}")
    clip = Clip(
        source.id,
        source.label,
        source.fold,
        task.media,
        len(data.jpegs),
        source.subject,
        silent=data.silent,
        sound=task.sound,
        note="; ".join(map(str, (*data.notes, *data.faceless, *few_steps(tensors, task.targets)))),
        rate=data.rate,
        cropped=source.cropped,
        numbered=source.numbered,
        targets=dict(source.targets),
        splits=dict(source.splits),
        groups=dict(source.groups),
        tensors={**task.tensors, **dict.fromkeys(found, "")},
        landmarked=sum(map(reliable_frames, found.values())),
        sound_frames=data.sound_frames,
        sound_start=round(data.sound_start, 6),
    )
    tensors |= found
    if len(data.later):
        tensors[LATER] = data.later
    return PreparedClip(source.id, clip, encode_record(ClipRecord(data.jpegs, data.fbank, data.times, tensors)))


def _landmarks(task: ClipJob, jpegs: list[bytes]) -> dict[str, np.ndarray]:
    """The tensor of landmarks where they are wanted and the clip brings none of its own."""
    if task.settings.landmarks == NONE or TENSOR in task.tensors:
        return {}
    return {TENSOR: clip_landmarks(jpegs)}


def _frames_of(source: SourceClip, settings: PrepareConfig) -> FrameSource:
    if not source.numbered or source.sound is None:
        return source.media
    return NumberedCrops(source.media, source.sound, settings.max_seconds)


def _check_machine(source: SourceClip, error: Exception) -> None:
    """Stop where the machine is at fault: a clip that is left out now stays out when the machine is well again."""
    kept = "Finished parts are kept:"
    if lacks_memory(error) or lacks_memory(error.__cause__):
        raise DataError(
            f"{source.media}: no memory is left to decode it ({error.__cause__ or error}). {kept} run the "
            "same command with fewer --jobs, or take this clip out if it needs too much even alone"
        ) from error
    if detection.lacks_gpu(error):
        raise DataError(f"the GPU failed at {source.media} ({error}). {kept} run the same command again") from error
    path, trouble = _disk_trouble(source, error)
    if trouble is not None:
        raise DataError(
            f"{path} cannot be read: {trouble.strerror}. {kept} mend the disk or mount, and run the same command again"
        ) from trouble


def _disk_trouble(source: SourceClip, error: Exception) -> tuple[Path, OSError | None]:
    """The file that the disk does not give, and what it said; a file that is gone or not for us is no such trouble."""
    path = source.media
    try:
        for path in source.files.listed():
            if path.is_file():  # what FFmpeg calls an input error may be the file's fault or the disk's
                sha256(path)
    except OSError as trouble:
        if _of_the_machine(trouble):
            return path, trouble
    return source.media, _of_the_machine(error)


def _of_the_machine(error: Exception) -> OSError | None:
    import av.error

    if isinstance(error, av.error.FFmpegError) or not isinstance(error, OSError):
        return None
    return None if error.errno is None or error.errno in OF_THE_FILE else error
