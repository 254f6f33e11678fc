"""The toy set of drawn faces: landmarks where the drawing has them, and as the store keeps them."""

from pathlib import Path

import numpy as np
import pytest

from mmadfer.config.schema import load
from mmadfer.data.faces.landmarks68 import GROUPS
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.sets import toy_units
from mmadfer.data.store.store import Store
from mmadfer.errors import DataError


def height(points: np.ndarray, part: str) -> np.ndarray:
    """Of a part above the nose's tip, in each frame."""
    found: np.ndarray = points[:, 33, 1] - points[:, list(GROUPS[part]), 1].mean(axis=1)
    return found


@pytest.mark.parametrize("label", list(toy_units.UNITS_CLASSES))
def test_a_class_moves_its_units(label: str) -> None:
    frames, points = toy_units.content(label, 3)
    assert frames.shape == (toy_units.FRAMES, 64, 64, 3)
    assert points.shape == (toy_units.FRAMES, 68, 2)
    again = toy_units.content(label, 3)[0]
    np.testing.assert_array_equal(frames, again)
    wide = points.astype(np.float64)
    brows = height(wide, "left_brow") + height(wide, "right_brow")
    opened = wide[:, 57, 1] - wide[:, 51, 1]
    risen = wide[:, [51, 57], 1].mean(axis=1) - wide[:, [48, 54], 1].mean(axis=1)
    for motion, wanted in zip((brows, opened, risen), toy_units.UNITS_CLASSES[label], strict=True):
        if abs(wanted) > 0.05:
            assert (motion[-1] - motion[0]) * np.sign(wanted) > 0.2
        elif not wanted:
            assert abs(motion[-1] - motion[0]) < 0.2


def test_the_picture_has_its_parts_at_the_landmarks() -> None:
    frames, points = toy_units.content("surprise", 1)
    x, y = points[-1, [62, 66]].astype(float).mean(axis=0)
    assert frames[-1, int(y), int(x)].max() < 80, "the open mouth is dark"
    x, y = points[-1, [48, 3]].astype(float).mean(axis=0)
    assert frames[-1, int(y), int(x)].min() > 150, "the cheek is skin"


def test_prepared_it_has_its_landmarks(tmp_path: Path) -> None:
    toy_units.make(tmp_path / "set", clips_per_class=1, jobs=1)
    table = toy_units.table(tmp_path / "set", 1)
    prepare(table, tmp_path / "toy.store", load("aus_toy").prepare)
    with Store(tmp_path / "toy.store") as store:
        assert len(store.clips) == 5
        record = store.read("happy-000")
        frames, points = toy_units.content("happy", 0)
        np.testing.assert_array_equal(record.tensors["landmarks"], points)
        assert len(record.jpegs) == len(frames)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is not a toy_units set and not empty"):
        toy_units.table(tmp_path)
