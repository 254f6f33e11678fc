"""Pictures and pieces of sound as a live source gives them, checked as they come."""

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from numbers import Real
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from mmadfer.data.media.decode import Frame
from mmadfer.data.video_windows import EXACT
from mmadfer.errors import ClipError

MOST_GAP_SECONDS = 3600.0
"""Between two items; more is a clock that was set anew, and would be as many empty windows."""


class LiveFrame(NamedTuple):
    """A picture of a live source."""

    time: float
    """When it is shown, in seconds on the source's clock."""
    image: np.ndarray
    """uint8 RGB (H, W, 3); it is copied."""


class LiveSound(NamedTuple):
    """A piece of sound of a live source."""

    time: float
    """When its first sample is heard, in seconds on the source's clock."""
    samples: np.ndarray
    """float32 (channels, n) in [-1, 1]; it is copied."""
    rate: int
    """Samples per second."""


Item = LiveFrame | LiveSound


class Picture(NamedTuple):
    """A picture that was handed in; `number` counts them."""

    number: int
    picture: Frame

    @property
    def time(self) -> float:
        """When it is shown, in seconds."""
        return self.picture.time


def checked(source: Iterable[Item], name: Path) -> Iterator[Picture | LiveSound]:
    """The items themselves, with pictures numbered from 0.

    Raises:
        ClipError: an item that is none, or comes out of order.
    """
    number, before = 0, -math.inf
    for item in source:
        _check(item, name, before)
        before = float(item.time)
        if isinstance(item, LiveFrame):
            yield Picture(number, _frame(item))
            number += 1
        else:
            yield LiveSound(before, item.samples.copy(), int(item.rate))


def _check(item: Item, name: Path, before: float) -> None:
    if not isinstance(item, LiveFrame | LiveSound):
        raise ClipError(f"{name} gave {type(item).__name__}: give LiveFrame and LiveSound")
    if not isinstance(item.time, Real):
        raise ClipError(f"{name} gave an item at {item.time!r}: its time is a number of seconds")
    time = float(item.time)
    if not math.isfinite(time) or time < before - EXACT or time > before + MOST_GAP_SECONDS > -math.inf:
        raise ClipError(
            f"{name} gave an item at {time:.3f} s behind one at {before:.3f} s: give them in order of time (a "
            f"piece of sound by its first sample), not more than {MOST_GAP_SECONDS:g} s apart; begin a new stream "
            "where a clock was set anew"
        )
    array, kind, axes = (item.image, np.uint8, 3) if isinstance(item, LiveFrame) else (item.samples, np.float32, 2)
    good = isinstance(array, np.ndarray) and array.dtype == kind and array.ndim == axes and array.size
    if not good or (axes == 3 and array.shape[2] != 3):
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ClipError(
            f"{name} gave {found} at {time:.3f} s: a picture is uint8 (H, W, 3), sound float32 (channels, n), and "
            "neither is empty"
        )
    if isinstance(item, LiveSound) and not (isinstance(item.rate, Real) and item.rate > 0 and item.rate % 1 == 0):
        raise ClipError(f"{name} gave sound at {item.rate} Hz: its rate is a whole number of samples a second")


def _frame(item: LiveFrame) -> Frame:
    """As a decoder would give it, so that it is made smaller in the same way."""
    image = av.VideoFrame.from_ndarray(np.ascontiguousarray(item.image), format="rgb24")
    return Frame(image, float(item.time), Fraction(1), None, [])


def end_of(item: Picture | LiveSound) -> float:
    """When an item is over, in seconds."""
    return item.time if isinstance(item, Picture) else item.time + item.samples.shape[1] / item.rate
