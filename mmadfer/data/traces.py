"""Values over the time of a clip, put together from what a model says of the frames that it was shown.

A model is shown some frames of a clip, or of windows of it that may overlap. Between these frames its values are
interpolated, before the first and after the last of a part they stay as they are, and a frame in several parts has
their mean. So every frame has values, however the clip was shown.

Shapes: L frames of a clip, T frames shown, C values.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Part(NamedTuple):
    """What a model says of a part of a clip."""

    first: int
    """The first frame that it is about, from 0."""
    frames: int
    """How many frames it is about."""
    shown: np.ndarray
    """int64 (T,): the frames that the model was shown, rising; the last one may come several times."""
    values: np.ndarray
    """float (T, C): what it says of each."""


class Trace(NamedTuple):
    """A clip over time."""

    seconds: np.ndarray
    """float64 (L,): when each frame is shown."""
    truth: np.ndarray
    """float32 (L, C), NaN where there is no true value."""
    output: np.ndarray
    """float32 (L, C)."""


def over_time(frames: int, parts: Iterable[Part]) -> np.ndarray:
    """Values of every frame of a clip, float64 (frames, C); NaN where no part is about it.

    Args:
        frames: L.
        parts: in an order that does not depend on how they were computed, as sums are rounded.
    """
    total, times = np.zeros((0, 0)), np.zeros((frames, 1))
    for part in parts:
        total = total if total.size else np.zeros((frames, part.values.shape[1]))
        behind = part.first + part.frames
        total[part.first : behind] += _filled(part)
        times[part.first : behind] += 1
    return np.divide(total, times, out=np.full(total.shape, np.nan), where=times > 0)


def _filled(part: Part) -> np.ndarray:
    """Values of each frame of a part, float64 (count, C)."""
    shown, places = np.unique(part.shown, return_inverse=True)
    means = np.zeros((len(shown), part.values.shape[1]))
    np.add.at(means, places, part.values.astype(np.float64))
    means /= np.bincount(places)[:, None]
    frames = np.arange(part.first, part.first + part.frames)
    return np.stack([np.interp(frames, shown, column) for column in means.T], axis=1)
