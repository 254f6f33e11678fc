"""MediaPipe's Face Mesh V2: 478 points of the face in a picture, by ONNX Runtime on a CPU.

The network (Apache-2.0, see the licence beside it) is that of MediaPipe's Face Landmarker, converted without a change
of its weights (tests/data/make_face_mesh.py). It looks at an upright face that fills two thirds of a square. A crop
holds a face roughly, so it is looked at several times, each time where the last look has found it.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mmadfer.utils.optional import need

NETWORK_FILE = Path(__file__).parent / "face_mesh_weights" / "face_mesh.onnx"
POINTS = 478
SIDE = 256
"""Of the network's picture in pixels."""
EYE_CORNERS = (33, 263)
"""The outer ones, left and right in the picture."""
_MARGIN = 1.5
"""Side of the square that is looked at, in sides of the points' box; as MediaPipe has it."""
_FIRST_MARGIN = 1.25
"""The same of the first look, in sides of the crop, which has a margin itself."""
_LOOKS = 4
"""At most."""
_STEADY = 0.02
"""A look that moves the points by less than this, in distances of the eyes, is the last one."""
_LARGEST_PX = 320
"""Longer side of the pictures that are looked at; larger ones are made smaller, since the network sees no more."""


class Mesh(NamedTuple):
    """What the last look has found."""

    points: np.ndarray
    """float64 (478, 2) x and y in pixels of the picture."""
    score: float
    """The network's probability that it was looking at a face."""
    moved: float
    """Mean distance between the points of the last two looks, in distances of the eyes."""


class _Square(NamedTuple):
    """Where to look: centre in pixels, side in pixels, and the direction of its upper edge in radians."""

    x: float
    y: float
    side: float
    angle: float


Network = Callable[[np.ndarray], tuple[np.ndarray, float]]
"""A picture float32 (SIDE, SIDE, 3) in [0, 1] to points (478, 2) in its pixels, and the log-odds of a face."""


@cache
def network() -> Network:
    """The network, loaded once per process; several threads may call it at once.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
    """
    ort = need("onnxruntime", extra="landmarks")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1  # the order of sums stays the same; clips are what runs side by side
    session = ort.InferenceSession(str(NETWORK_FILE), options, providers=["CPUExecutionProvider"])

    def run(picture: np.ndarray) -> tuple[np.ndarray, float]:
        mesh, score = session.run(["mesh", "score"], {"pictures": picture[None]})
        return mesh.reshape(POINTS, 3)[:, :2].astype(np.float64), float(score.item())

    return run


def find_mesh(image: np.ndarray) -> Mesh:
    """Find the points of the one face in a crop; they are always somewhere, so that score and movement tell.

    Args:
        image: uint8 RGB (H, W, 3), a face with some margin.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
    """
    height, width = image.shape[:2]
    scale = max(1.0, max(height, width) / _LARGEST_PX)
    small = image if scale == 1 else _resized(image, max(1, round(width / scale)), max(1, round(height / scale)))
    found = _looks(small)
    return found._replace(points=found.points * (width / small.shape[1], height / small.shape[0]))


def eye_distance(points: np.ndarray) -> float:
    """Pixels between the outer corners of the eyes, of points (478, 2)."""
    return float(np.linalg.norm(points[EYE_CORNERS[1]] - points[EYE_CORNERS[0]]))


def _looks(image: np.ndarray) -> Mesh:
    height, width = image.shape[:2]
    pad = max(height, width)
    around = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    square = _Square(width / 2, height / 2, _FIRST_MARGIN * pad, 0.0)
    points, score = _look(around, pad, square)
    moved = np.inf
    for _ in range(_LOOKS - 1):
        before = points
        points, score = _look(around, pad, _square_around(points, pad))
        moved = _mean_distance(points, before) / max(eye_distance(points), 1.0)
        if moved < _STEADY:
            break
    return Mesh(points, float(1 / (1 + np.exp(-score))), moved)


def _look(around: np.ndarray, pad: int, square: _Square) -> tuple[np.ndarray, float]:
    """Points in pixels of the picture within its padding, and the log-odds of a face."""
    turn = square.side / SIDE * _turn(square.angle)
    offset = np.array([square.x, square.y]) - turn @ np.full(2, SIDE / 2)
    (a, b), (d, e) = turn
    c, f = offset + pad
    where = Image.Transform.AFFINE
    seen = Image.fromarray(around).transform((SIDE, SIDE), where, (a, b, c, d, e, f), Image.Resampling.BILINEAR)
    points, score = network()(np.asarray(seen, np.float32) / 255)
    return points @ turn.T + offset, score


def _square_around(points: np.ndarray, largest: float) -> _Square:
    """The square around points, upright to the eyes; never far from the picture, whatever the points are."""
    left, right = points[EYE_CORNERS[0]], points[EYE_CORNERS[1]]
    angle = float(np.arctan2(*(right - left)[::-1]))
    upright = points @ _turn(angle)
    low, high = upright.min(axis=0), upright.max(axis=0)
    x, y = (_turn(angle) @ ((low + high) / 2)).clip(0, largest)
    return _Square(float(x), float(y), float(np.clip(_MARGIN * (high - low).max(), SIDE / 16, 2 * largest)), angle)


def _turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _mean_distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other, axis=1).mean())


def _resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
