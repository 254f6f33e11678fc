"""Pictures against action-unit maps: whether they lie where an expression shows in a face."""

import numpy as np
import torch

from mmadfer.evaluation.explanation_scores import cosine, pointing
from mmadfer.tasks.action_units import class_map
from mmadfer.tasks.codebook import Disgust

_SIDE = 112
"""Of the map in which pictures point."""


def unit_scores(
    picture: np.ndarray, landmarks: np.ndarray, size: tuple[int, int], label: str, disgust: Disgust = "program"
) -> dict[str, float]:
    """`pointing`, `pointing_random` and `cosine`; nothing where no frame has a map.

    Args:
        picture: (T, h, w), as it was computed.
        landmarks: (T, 68, 2) in pixels of the frames as they are stored; NaN where there are none.
        size: height and width of the stored frames.
        label: of the clip; one that is no expression has no map.
        disgust: which units Disgust has.
    """
    points = torch.from_numpy(landmarks.astype(np.float32))
    large, fine = (_maps(points, size, label, side, disgust) for side in ((_SIDE, _SIDE), picture.shape[1:]))
    found = pointing(picture, large)
    if not found.frames:
        return {}
    return {
        "pointing": found.hits / found.frames,
        "pointing_random": found.chance,
        "cosine": cosine(picture, fine),
    }


def _maps(
    points: torch.Tensor, size: tuple[int, int], label: str, side: tuple[int, ...], disgust: Disgust
) -> np.ndarray:
    """(T, h, w); NaN in frames without a map."""
    maps, valid = class_map(points, size, label, (side[0], side[1]), disgust)
    return np.where(valid.numpy()[:, None, None], maps.numpy(), np.nan)
