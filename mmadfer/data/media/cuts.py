"""Where a video cuts to another shot, told by how much each picture differs from the one before.

A picture begins a shot if it differs by much, and by several times as much as its neighbours do: camera and people move
through many pictures, a cut is one. The rule, its shares and its window are those of PySceneDetect's `AdaptiveDetector`
(ratio 3, at least 15 of 255, two pictures on either side), here on all three colours of small pictures. Pictures that
dissolve into each other are no cut by it.
"""

from array import array
from collections.abc import Iterable, Iterator

import numpy as np

from mmadfer.data.media.frames import Picture

SIDE_PX = 64
"""Longer side in pixels of the pictures that are compared."""
LEAST = 15.0
"""Mean difference of a colour, of 255, that a cut has at least."""
RATIO = 3.0
"""And how many times the mean of its neighbours' it is."""
NEIGHBOURS = 2
"""Pictures on either side."""


class Cuts:
    """The cuts between pictures that have gone by; eight bytes are kept of each picture."""

    def __init__(self) -> None:
        self._changes = array("d")

    def passing(self, pictures: Iterable[Picture]) -> Iterator[Picture]:
        """Hand pictures on, and note how much each differs from the one before."""
        before: np.ndarray | None = None
        for picture in pictures:
            small = picture.rgb(SIDE_PX).astype(np.int16)
            self._changes.append(_change(small if before is None else before, small))
            before = small
            yield picture

    @property
    def frames(self) -> np.ndarray:
        """The numbers of the pictures that begin a shot, int64, rising; the first picture of all is none of them."""
        changes = np.array(self._changes)
        padded = np.pad(changes, NEIGHBOURS)
        beside = np.pad(np.ones(len(changes)), NEIGHBOURS)
        reach = range(2 * NEIGHBOURS + 1)
        around = sum(padded[k : k + len(changes)] for k in reach) - changes
        count = sum(beside[k : k + len(changes)] for k in reach) - 1
        usual = around / np.maximum(count, 1)
        return np.flatnonzero((changes >= LEAST) & (changes >= RATIO * usual) & (np.arange(len(changes)) > 0))


def _change(before: np.ndarray, now: np.ndarray) -> float:
    """Mean difference of all colours; of pictures of two sizes, as large as it can be."""
    return float(np.abs(now - before).mean()) if now.shape == before.shape else 255.0
