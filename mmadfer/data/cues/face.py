"""What 68 landmarks say of a face: proxies of action units, the pose of the head, eyes that are closed, a mouth that is
open.

A proxy compares one distance of the face with that of a face at rest, and is 0.5 where the difference is clear; it is
none of a trained detector, and knows nothing of wrinkles. The face at rest is MediaPipe's canonical face (Apache-2.0,
`canonical_face_model.obj`), whose mesh the landmarks are points of: people differ from it, so a person with high brows
seems to raise them. Where to put the 0.5 is our choice; no set with action units was to be had.

Frames whose head is turned too far tell nothing of action units; all frames tell of the pose.

Shapes: n frames.
"""

from collections.abc import Mapping

import numpy as np

from mmadfer.data.cues.cues import FaceCues
from mmadfer.data.faces.landmarks68 import POINTS

_OUTER_EYES = (36, 45)
_RIGID: Mapping[int, tuple[float, float, float]] = {
    36: (-0.500, 0.000, 0.000),
    39: (-0.209, 0.009, -0.066),
    42: (0.209, 0.009, -0.066),
    45: (0.500, 0.000, 0.000),
    27: (0.000, -0.068, -0.232),
    28: (0.000, 0.068, -0.327),
    29: (0.000, 0.205, -0.421),
    30: (0.000, 0.352, -0.496),
    31: (-0.139, 0.478, -0.259),
    33: (0.000, 0.535, -0.324),
    35: (0.139, 0.478, -0.259),
}
"""Landmark -> its place on the canonical face, in distances of the outer corners of the eyes: x to the right, y down, z
away. Only points that no expression moves much."""
_REST = {"inner": 0.461, "outer": 0.348, "opening": 0.234, "width": 0.552, "corners": -0.015}
"""The measures of `_measures`, of the canonical face."""
_LEVEL_PITCH = 12
"""Degrees by which the canonical face looks down when it is laid on a face that looks into the camera: 10 and 14 on two
portraits (`astronaut` of scikit-image, `grace_hopper.jpg` of matplotlib)."""
_CLOSED = 0.15
"""Height of an eye in its widths, below which it is closed."""
_OPEN = 0.1
"""Distance of the inner lips in their widths, above which the mouth is open."""
_MOST_YAW, _MOST_PITCH = 30, 25
"""Degrees; of heads that are turned further, distances tell nothing."""
_REACHED = 0.9
"""Quantile of a proxy over frames, so that one odd frame, or a blink, is no movement."""
_DECIMALS = 3


def face_cues(landmarks: np.ndarray) -> FaceCues:
    """The cues of some frames of a clip.

    Args:
        landmarks: float (n, 68, 2) in pixels of one crop, x to the right and y down; NaN in frames that have none.
    """
    points = landmarks.reshape(-1, POINTS, 2).astype(np.float64)
    points = points[np.isfinite(points).all(axis=(1, 2))]
    points = points[np.linalg.norm(points[:, 45] - points[:, 36], axis=1) > 0]
    if not len(points):
        return FaceCues(frames=len(landmarks), found=0)
    angles = np.degrees(head_angles(points)) - (0, _LEVEL_PITCH, 0)
    level = np.median(angles, axis=0).round(1).tolist()
    seen = points[(np.abs(angles[:, 0]) <= _MOST_YAW) & (np.abs(angles[:, 1]) <= _MOST_PITCH)]
    measured = _measures(seen)
    return FaceCues(
        frames=len(landmarks),
        found=len(points),
        units=_units(measured) if len(seen) else {},
        yaw=level[0],
        pitch=level[1],
        roll=level[2],
        eyes_closed=_share(measured["opening"] < _CLOSED),
        mouth_open=_share(measured["gap"] > _OPEN),
    )


def head_angles(points: np.ndarray) -> np.ndarray:
    """Yaw, pitch and roll in radians, (n, 3), of points (n, 68, 2): how the canonical face is turned to fit them best.

    The camera is taken to be far away, as nothing is known of it: a crop has lost where in the picture it was. Yaw is
    positive where the face looks to the right of the picture, pitch where it looks down, roll where it is turned
    clockwise.
    """
    model = np.array([*_RIGID.values()])
    model = model - model.mean(axis=0)
    seen = points[:, [*_RIGID]]
    seen = seen - seen.mean(axis=1, keepdims=True)
    affine = (np.linalg.pinv(model) @ seen).swapaxes(1, 2)
    left, _, right = np.linalg.svd(affine, full_matrices=False)
    across, down = (left @ right).swapaxes(0, 1)
    away = np.cross(across, down)
    yaw, pitch = np.arctan2(-across[:, 2], away[:, 2]), np.arcsin(np.clip(-down[:, 2], -1, 1))
    return np.stack([yaw, pitch, np.arctan2(down[:, 0], down[:, 1])], axis=1)


def _measures(points: np.ndarray) -> dict[str, np.ndarray]:
    """Distances in the face, each (n,), larger where something is raised, opened or stretched.

    Those that are upright are in lengths of the nose, which a turn to the side leaves as it is, or in widths of the eye
    or mouth that they belong to.
    """
    points = _upright(points)
    y = points[..., 1]
    nose = np.maximum(y[:, 33] - y[:, 27], 1e-6)
    mouth = _distance(points, 48, 54)
    return {
        "inner": (y[:, [39, 42]].mean(1) - y[:, [20, 21, 22, 23]].mean(1)) / nose,
        "outer": (y[:, [36, 45]].mean(1) - y[:, [17, 18, 25, 26]].mean(1)) / nose,
        "opening": (_opening(points, range(36, 42)) + _opening(points, range(42, 48))) / 2,
        "width": mouth / _distance(points, *_OUTER_EYES),
        "corners": (y[:, [62, 66]].mean(1) - y[:, [48, 54]].mean(1)) / mouth,
        "gap": _distance(points, 62, 66) / _distance(points, 60, 64),
    }


def _upright(points: np.ndarray) -> np.ndarray:
    """Points turned so that the eyes are level."""
    x, y = (points[:, 45] - points[:, 36]).T / np.linalg.norm(points[:, 45] - points[:, 36], axis=1)
    turns = np.stack([np.stack([x, -y], axis=-1), np.stack([y, x], axis=-1)], axis=1)
    return np.asarray(points @ turns)


def _opening(points: np.ndarray, eye: range) -> np.ndarray:
    """Height of an eye in its widths (Soukupova and Cech 2016, "Real-Time Eye Blink Detection")."""
    a, b, c, d, e, f = eye
    return (_distance(points, b, f) + _distance(points, c, e)) / (2 * _distance(points, a, d))


def _distance(points: np.ndarray, one: int, other: int) -> np.ndarray:
    return np.asarray(np.maximum(np.linalg.norm(points[:, one] - points[:, other], axis=1), 1e-6))


def _units(of: Mapping[str, np.ndarray]) -> dict[int, float]:
    """Number in FACS -> proxy of the intensity; what stands behind a `/` is the difference that counts as 1."""
    inner, outer = of["inner"] / _REST["inner"] - 1, of["outer"] / _REST["outer"] - 1
    wide, corners = of["width"] / _REST["width"] - 1, of["corners"] - _REST["corners"]
    proxies = {
        1: inner / 0.5,
        2: outer / 0.6,
        4: -inner / 0.4,
        5: (of["opening"] - 0.3) / 0.2,
        12: wide / 0.4 + corners / 0.2,
        15: -corners / 0.2,
        25: of["gap"] / (2 * _OPEN),
        26: (of["gap"] - 0.2) / 0.4,
        43: (0.25 - of["opening"]) / (2 * (0.25 - _CLOSED)),
    }
    reached = {unit: float(np.quantile(proxy, _REACHED)) for unit, proxy in proxies.items()}
    return {unit: round(min(max(value, 0.0), 1.0), _DECIMALS) for unit, value in reached.items()}


def _share(of: np.ndarray) -> float | None:
    return round(float(of.mean()), _DECIMALS) if of.size else None
