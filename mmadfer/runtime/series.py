"""Values over the time of a video, out of those of its parts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmadfer.data.traces import Part, over_time


class PartSeries(NamedTuple):
    """What a model says of a part of a video."""

    first: int
    """The number of its first frame in the video, from 0."""
    times: np.ndarray
    """float64 (n,): when each of its frames is shown, in seconds."""
    shown: Sequence[np.ndarray]
    """For each look at it, the frames that the model was shown: int64 (T,) places in `times`."""
    rows: Sequence[np.ndarray]
    """For each look, values float32 (T, C)."""


def joined(parts: Sequence[PartSeries]) -> tuple[np.ndarray, np.ndarray]:
    """The seconds of all frames of the parts, float64 (L,) that never fall, and their values, float64 (L, C).

    Frames between those that the model was shown are interpolated within their part; a frame in several parts, or
    looked at in several ways, has the mean (`mmadfer.data.traces`).
    """
    frames = max(one.first + len(one.times) for one in parts)
    seconds, there = np.zeros(frames), np.zeros(frames, bool)
    found = []
    for one in parts:
        within = slice(one.first, one.first + len(one.times))
        seconds[within], there[within] = one.times, True
        looks = zip(one.shown, one.rows, strict=True)
        found += [Part(one.first, len(one.times), one.first + shown, row) for shown, row in looks]
    # A time stamp that goes back is a fault; equal ones are of different frames.
    return np.maximum.accumulate(seconds[there]), over_time(frames, found)[there]
