"""Landmarks as a clip of a store has them: which rows of the named tensor are wanted, and whether they are some."""

import numpy as np

from mmadfer.data.faces.landmarks68 import POINTS, TENSOR
from mmadfer.errors import DataError


def landmark_rows(clip: str, indexes: np.ndarray, times: np.ndarray, count: int) -> np.ndarray:
    """Which of a clip's `count` rows of landmarks are those of the frames `indexes`: there is one for each frame.

    Raises:
        DataError: there are more or fewer.
    """
    if count != len(times):
        raise DataError(
            f"clip {clip!r} has {len(times)} frames and a tensor {TENSOR!r} of {count} rows: there must be one for "
            "each frame, in their order. Prepare the store again"
        )
    return indexes


def checked(points: np.ndarray | str, clip: str, count: int) -> np.ndarray:
    """Points of `count` frames as float32 (count, 68, 2).

    Raises:
        DataError: they are no such points.
    """
    shape = (count, POINTS, 2)
    if isinstance(points, str) or points.shape != shape or points.dtype.kind != "f":
        found = "a text" if isinstance(points, str) else f"{points.dtype} {points.shape[1:]}"
        raise DataError(
            f"clip {clip!r} has a tensor {TENSOR!r} with {found} for each frame: float numbers ({POINTS}, 2) are "
            "meant, x and y of each point. Prepare the store again"
        )
    return points.astype(np.float32)
