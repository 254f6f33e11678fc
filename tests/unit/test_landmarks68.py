"""The 68 points: each belongs to one part, and mirroring twice changes nothing."""

import math

import numpy as np

from mmadfer.data.faces.landmarks68 import GROUPS, MIRROR, POINTS


def test_every_point_belongs_to_one_part():
    assert [point for group in GROUPS.values() for point in group] == list(range(POINTS))


def test_mirroring_twice_is_the_identity():
    assert sorted(MIRROR) == list(range(POINTS))
    assert [MIRROR[MIRROR[point]] for point in range(POINTS)] == list(range(POINTS))


def test_mirroring_exchanges_left_and_right():
    for name, group in GROUPS.items():
        other = name.replace("left", "*").replace("right", "left").replace("*", "right")
        assert {MIRROR[point] for point in group} == {*GROUPS[other]}


def test_a_symmetric_face_is_its_own_mirror_image():
    face = _face()
    assert np.abs(face[list(MIRROR)] * (-1, 1) - face).max() < 1e-12


def _face() -> np.ndarray:
    """(68, 2) a face of circles, ellipses and lines, symmetric to x = 0, with the points in their usual order."""
    jaw = [math.pi * (1 - i / 16) for i in range(17)]
    eye = [math.pi * turn for turn in (1, 2 / 3, 1 / 3, 0, -1 / 3, -2 / 3)]
    outer, inner = ([math.pi * (1 - i / n) for i in range(2 * n)] for n in (6, 4))
    points = [(math.cos(a), math.sin(a)) for a in jaw]
    points += [(x + 0.15 * i, -0.5) for x in (-0.8, 0.2) for i in range(5)]
    points += [(0, 0.1 * i) for i in range(4)] + [(0.1 * i - 0.2, 0.5) for i in range(5)]
    points += [(x + 0.1 * math.cos(a), -0.3 - 0.05 * math.sin(a)) for x in (-0.5, 0.5) for a in eye]
    points += [(0.4 * math.cos(a), 0.7 - 0.2 * math.sin(a)) for a in outer]
    points += [(0.3 * math.cos(a), 0.7 - 0.1 * math.sin(a)) for a in inner]
    return np.array(points)
