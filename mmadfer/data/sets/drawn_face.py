"""A face by a formula: its 68 landmarks, in the order of iBUG 300-W.

The unit face has its eyes at (-0.45, -0.18) and (0.45, -0.18), its mouth at (0, 0.62) and its chin at (0, 1.15); x to
the right, y down.
"""

import numpy as np


def unit_points(mouth: float, brow: float, corners: float = 0.0) -> np.ndarray:
    """float64 (68, 2) of the unit face; its mouth is opened, its brows and the corners of its mouth raised so far."""
    five = np.arange(5)
    jaw = _turn(17, 16)
    lids = np.pi * np.array([1, 2 / 3, 1 / 3, 0, -1 / 3, -2 / 3])
    arch = -0.42 - brow - 0.10 * np.sin(np.pi * (five + 0.5) / 5)
    outer, inner = _turn(12, 6), _turn(8, 4)
    parts = [
        (np.cos(jaw), 0.1 + 1.05 * np.sin(jaw)),
        *((left + 0.15 * five, arch) for left in (-0.80, 0.20)),
        (np.zeros(4), -0.22 + 0.14 * np.arange(4)),
        (-0.20 + 0.10 * five, 0.30 + 0.03 * np.sin(np.pi * five / 4)),
        *((middle + 0.18 * np.cos(lids), -0.18 - 0.07 * np.sin(lids)) for middle in (-0.45, 0.45)),
        (0.38 * np.cos(outer), 0.62 - (0.12 + mouth) * np.sin(outer) - corners * np.cos(outer) ** 2),
        (0.28 * np.cos(inner), 0.62 - (0.04 + mouth) * np.sin(inner) - corners * np.cos(inner) ** 2),
    ]
    return np.concatenate([np.stack(part, axis=1) for part in parts])


def placed(points: np.ndarray, x: float, y: float, size: float, tilt: float) -> np.ndarray:
    """Points of the unit face `size` times as large, turned by `tilt` degrees, and moved to (x, y)."""
    angle = np.deg2rad(tilt)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved: np.ndarray = size * points @ turn.T + (x, y)
    return moved


def _turn(count: int, half: int) -> np.ndarray:
    """Angles of `count` points from pi on, `half` of them on half a turn."""
    return np.pi * (1 - np.arange(count) / half)
