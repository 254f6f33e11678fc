"""Landmarks of the frames of a batch, as the model sees these: what cropping, resizing and mirroring does to points."""

import numpy as np

from mmadfer.data.draws import Draw
from mmadfer.data.faces.landmarks68 import MIRROR, POINTS
from mmadfer.data.store.landmark_tensors import checked


def in_view(points: np.ndarray | str | None, clip: str, drawn: Draw, side: int) -> np.ndarray:
    """Points of frames that are cropped, resized to `side` and mirrored, in pixels of the result.

    Args:
        points: (T, 68, 2), x and y in pixels of the stored frames, NaN where they are not reliable; None: there are
            none.
        clip: its id, for errors.
        drawn: how the clip is seen. Of one that is shown black, nothing is.
        side: S.

    Returns:
        float32 (T, 68, 2); where frames are mirrored, left and right points have changed places.

    Raises:
        DataError: they are no such points.
    """
    if points is None or drawn.brightness == 0:
        return np.full((len(drawn.indexes), POINTS, 2), np.nan, np.float32)
    left, top, width, height = drawn.crop
    seen = (checked(points, clip, len(drawn.indexes)) - (left, top)) * (side / width, side / height)
    if drawn.flip:
        seen = (side, 0) + seen[:, list(MIRROR)] * (-1, 1)
    return seen.astype(np.float32)
