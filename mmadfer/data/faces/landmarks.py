"""68 landmarks of a face crop, from the 478 points of MediaPipe's Face Mesh V2, and whether they can be relied on.

Eyes, nostrils and inner lips are points of the mesh. Jaw, brows, bridge and outer lips of 300-W are points at equal
distances along a line, so they are taken along the mesh's lines.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from mmadfer.data.faces.face_mesh import NETWORK_FILE, Mesh, eye_distance, find_mesh, network
from mmadfer.data.faces.landmarks68 import POINTS
from mmadfer.data.media.image import decode_jpeg
from mmadfer.errors import DataError
from mmadfer.utils.files import sha256

NONE, FACE_MESH = "none", "face_mesh_v2"
"""Values of `prepare.landmarks`."""
MIN_SCORE = 0.5
"""Least probability of a face, MediaPipe's own."""
MAX_MOVED = 0.03
"""Most that the points may still move in the last look, in distances of the eyes; on pictures that only resemble a face
they seldom settle (docs/landmarks.md)."""
OUTSIDE = 0.2
"""How far points may lie outside of the crop, in its sides: a crop can cut the jaw."""
MIN_EYES = 0.1
"""Least distance of the outer corners of the eyes, in the crop's sides; a face that was found fills more."""
NOWHERE = np.full((POINTS, 2), np.nan, np.float32)
_MAPPING = 1
"""Raised whenever the same mesh would give other landmarks, or others that can be relied on."""
_VERTICES = {
    **dict(zip(range(31, 36), (240, 97, 2, 326, 460), strict=True)),
    **dict(zip(range(36, 42), (33, 160, 158, 133, 153, 144), strict=True)),
    **dict(zip(range(42, 48), (362, 385, 387, 263, 373, 380), strict=True)),
    51: 0,
    57: 17,
    **dict(zip(range(60, 68), (78, 82, 13, 312, 308, 317, 14, 87), strict=True)),
}
"""Landmark -> point of the mesh."""
_LINES: dict[tuple[int, ...], tuple[int, ...]] = {
    tuple(range(9)): (127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152),
    tuple(range(16, 7, -1)): (356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152),
    tuple(range(17, 22)): (70, 63, 105, 66, 107),
    tuple(range(26, 21, -1)): (300, 293, 334, 296, 336),
    tuple(range(27, 31)): (168, 6, 197, 195, 5, 4),
    (48, 49, 50): (61, 185, 40, 39, 37),
    (54, 53, 52): (291, 409, 270, 269, 267),
    (48, 59, 58): (61, 146, 91, 181, 84),
    (54, 55, 56): (291, 375, 321, 405, 314),
}
"""Landmarks at equal distances along a line of the mesh, from its first point to its last."""


class Landmarks(NamedTuple):
    """The landmarks of a face crop."""

    points: np.ndarray
    """float32 (68, 2), x and y in pixels of the crop, whether they can be relied on or not."""
    score: float
    """The network's probability that it was looking at a face."""
    reliable: bool
    """The network is sure of a face, has found it at the same place twice, and the points are where a face can be."""


def find_landmarks(image: np.ndarray) -> Landmarks:
    """Find the 68 landmarks of the one face in a crop, uint8 RGB (H, W, 3).

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
    """
    mesh = find_mesh(image)
    points = from_mesh(mesh.points)
    return Landmarks(points.astype(np.float32), mesh.score, _is_reliable(mesh, points, image.shape))


def from_mesh(mesh: np.ndarray) -> np.ndarray:
    """The 68 landmarks (68, 2) of a mesh (478, 2)."""
    points = np.empty((POINTS, 2))
    points[[*_VERTICES]] = mesh[[*_VERTICES.values()]]
    for landmarks, line in _LINES.items():
        points[[*landmarks]] = _evenly(mesh[[*line]], len(landmarks))
    return points


def clip_landmarks(jpegs: Iterable[bytes]) -> np.ndarray:
    """The landmarks of stored frames: float16 (frames, 68, 2), NaN in frames whose landmarks cannot be relied on.

    Each frame is looked at on its own, so that no frame changes another's. A frame that cannot be decoded has none.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
    """
    rows = [_reliable_points(jpeg) for jpeg in jpegs]
    return np.stack(rows).astype(np.float16) if rows else np.empty((0, POINTS, 2), np.float16)


def reliable_frames(landmarks: np.ndarray) -> int:
    """In how many frames there is a landmark, of (frames, …) with NaN where not."""
    return int(np.isfinite(landmarks.reshape(len(landmarks), -1)).all(axis=1).sum()) if landmarks.size else 0


def model_of(name: str) -> str:
    """What finds landmarks under this value of `prepare.landmarks`, with the checksum of its file; "" for none.

    Raises:
        MissingDependencyError: it cannot run here.
    """
    if name == NONE:
        return ""
    network()
    return f"{name}, sha256 {sha256(NETWORK_FILE)}, points {_MAPPING}"


def _reliable_points(jpeg: bytes) -> np.ndarray:
    try:
        found = find_landmarks(decode_jpeg(jpeg))
    except DataError:
        return NOWHERE
    return found.points if found.reliable else NOWHERE


def _is_reliable(mesh: Mesh, points: np.ndarray, shape: tuple[int, ...]) -> bool:
    size = np.array([shape[1], shape[0]])
    inside = np.isfinite(points).all() and (points >= -OUTSIDE * size).all() and (points <= (1 + OUTSIDE) * size).all()
    large = eye_distance(mesh.points) >= MIN_EYES * size.max()
    return bool(inside and large and mesh.score >= MIN_SCORE and mesh.moved <= MAX_MOVED)


def _evenly(line: np.ndarray, count: int) -> np.ndarray:
    """Points (count, 2) at equal distances along a line (n, 2), its ends among them."""
    at = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    wanted = np.linspace(0, at[-1], count)
    return np.stack([np.interp(wanted, at, line[:, axis]) for axis in range(2)], axis=1)
