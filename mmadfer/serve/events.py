"""What is told of a job, at once or event by event (server-sent events, as WHATWG's HTML has them)."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any

from mmadfer.serve.job import DONE, ENDS, Job
from mmadfer.serve.jobs import Jobs

LOOK_SECONDS = 0.1
"""Between two looks at a job; no more than ten events of progress a second come of it."""
ALIVE_SECONDS = 15.0
"""Without an event, after which a comment keeps the line open."""
_MOST_SEGMENTS = 500
"""That are told at once."""


def told(jobs: Jobs, job: Job, whole: bool = True) -> dict[str, Any]:
    """A job as `replies.JobState` has it.

    Args:
        jobs: where it is.
        job: the job.
        whole: with the prediction and the boxes, where it is done.
    """
    found: dict[str, Any] = {
        "id": job.id,
        "state": job.state,
        "name": job.upload.name,
        "progress": job.progress,
        "seconds_done": round(job.seconds_done, 3),
        "seconds": job.seconds,
        "waits_behind": jobs.waits_behind(job),
        "seconds_left": None if job.seconds_left is None else round(job.seconds_left, 1),
        "error": job.error or None,
        "size": job.about.size,
    }
    if whole and job.state == DONE and job.prediction is not None:
        found |= {"prediction": job.prediction.to_dict(), "boxes": job.boxes()}
    return found


async def events(jobs: Jobs, job: Job, stopping: Callable[[], bool]) -> AsyncIterator[str]:
    """A job's progress and segments as they come, up to its end or that of the server."""
    sent, before, count = monotonic(), dict[str, Any](), 0
    while not stopping():
        ended = job.state in ENDS
        now = told(jobs, job, whole=False)
        if now != before and not ended:
            before, sent = now, monotonic()
            yield _event("progress", now)
        segments = job.finished_from(count, _MOST_SEGMENTS)
        for segment in segments:
            yield _event("segment", segment)
        count += len(segments)
        if segments:
            sent = monotonic()
        elif ended:
            yield await asyncio.to_thread(lambda: _event(job.state, told(jobs, job)))  # it may be large
            return
        else:
            if monotonic() - sent > ALIVE_SECONDS:
                sent = monotonic()
                yield ": still there\n\n"
            await asyncio.sleep(LOOK_SECONDS)


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data, allow_nan=False)}\n\n"
