"""Maps of action units: sizes, faces without a map, the two forms of Disgust, and class labels of the data sets.

Their values are compared with the published program's in tests/related.
"""

import numpy as np
import pytest
import torch
from torch import Tensor

from mmadfer.config.label_orders import DFEW, MAFW
from mmadfer.data.sets import crema_d, ravdess
from mmadfer.data.sets.drawn_face import placed, unit_points
from mmadfer.tasks.action_units import GROUND, class_map, expression_maps, unit_maps, whole_maps
from mmadfer.tasks.codebook import EXPRESSIONS, FACS, NONE, UNIT_NAMES, expression_of, units_of

SIZE = (224, 224)


def face(x: float = 112, y: float = 100, size: float = 80, tilt: float = 0) -> Tensor:
    return torch.from_numpy(placed(unit_points(0.05, 0.02), x, y, size, tilt)).float()


def test_a_map_is_bright_where_the_units_are() -> None:
    maps, valid = class_map(face(), SIZE, "happy")
    assert valid
    assert (maps.min(), maps.max()) == (0, 1)
    corner, brow = face()[48].long(), face()[19].long()
    assert maps[corner[1], corner[0]] > 0.9
    assert maps[brow[1], brow[0]] == 0


def test_landmarks_of_other_sizes_are_scaled_first() -> None:
    middles = face().trunc() + 0.5  # rounding moves no point to another pixel
    small = class_map(middles, SIZE, "fear", (14, 14))[0]
    other = class_map(middles * torch.tensor([160, 480]) / 224, (480, 160), "fear", (14, 14))[0]
    torch.testing.assert_close(other, small)


def test_frames_of_clips_are_made_at_once() -> None:
    faces = torch.stack([face(x, tilt=t) for x, t in ((90, 0), (112, 10), (130, -20), (100, 5))])
    maps, valid = class_map(faces.view(2, 2, 68, 2), SIZE, "anger", (10, 10))
    assert maps.shape == (2, 2, 10, 10)
    assert valid.all()
    assert valid.shape == (2, 2)
    mixed, _ = expression_maps(faces, SIZE, torch.tensor([0, 3, 4, NONE]), (10, 10))
    for k, name in enumerate(("Anger", "Happiness", "Sadness")):
        torch.testing.assert_close(mixed[k], class_map(faces[k], SIZE, name, (10, 10))[0])
    assert not mixed[3].any()
    empty, none = expression_maps(faces[:0], SIZE, torch.zeros(0, dtype=torch.int64), (10, 10))
    assert empty.shape == (0, 10, 10)
    assert none.shape == (0,)


@pytest.mark.parametrize(
    ("points", "label"), [(face() * torch.nan, "happy"), (face(), "neutral"), (face(y=500), "sad")]
)
def test_faces_without_a_map(points: Tensor, label: str) -> None:
    maps, valid = class_map(points, SIZE, label, (10, 10))
    assert not valid
    assert not maps.any()


def test_one_point_that_is_not_known_is_enough() -> None:
    points = face()
    points[5, 1] = torch.nan
    assert not class_map(points, SIZE, "happy")[1]


def test_a_map_without_contrast_is_none() -> None:
    units = torch.full((1, len(FACS), 28, 28), GROUND)
    inside = torch.ones(1, len(FACS), dtype=torch.bool)
    assert not whole_maps(units, inside, torch.tensor([0]), SIZE, (10, 10))[1]


def test_disgust_has_two_forms() -> None:
    lid, lip = FACS.index(5), FACS.index(10)
    assert (UNIT_NAMES[lid], UNIT_NAMES[lip]) == ("Upper Lid Raiser", "Upper Lip Raiser")
    assert set(units_of("Disgust")) ^ set(units_of("Disgust", "facs10")) == {lid, lip}
    program, printed = (class_map(face(), SIZE, "disgust", disgust=form)[0] for form in ("program", "facs10"))  # type: ignore[arg-type]
    eye = face()[[38, 41]].mean(0).long()
    assert program[eye[1], eye[0]] > 0.2
    assert program[eye[1], eye[0]] > printed[eye[1], eye[0]] + 0.1
    assert torch.equal(*(class_map(face(), SIZE, "fear", disgust=form)[0] for form in ("program", "facs10")))  # type: ignore[arg-type]


def test_a_tilted_face_loses_its_brow_lowerer() -> None:
    """Its ellipse hangs on the difference in height of two points: 10 pixels where that is 0, a line where it is 1."""
    units, inside = unit_maps(torch.stack([face(), face(tilt=3)]), SIZE)
    brow = FACS.index(4)
    assert inside[:, brow].all()
    level, tilted = (units[:, brow] > 100).sum(dim=(1, 2)).tolist()
    assert level > 15
    assert tilted < 5


def test_labels_of_the_data_sets() -> None:
    known = {name: [label for label in labels if expression_of(label) != NONE] for name, labels in SETS.items()}
    assert known["dfew"] == ["happy", "sad", "angry", "surprise", "disgust", "fear"]
    assert known["mafw"] == ["happiness", "sadness", "anger", "surprise", "disgust", "fear"]
    assert known["ravdess"] == ["happy", "sad", "angry", "fearful", "disgust", "surprised"]
    assert {expression_of(label) for label in known["ravdess"]} == set(range(len(EXPRESSIONS)))
    assert len(known["crema_d"]) == 5
    assert expression_of(" Happy ") == EXPRESSIONS.index("Happiness")
    assert {expression_of(label) for label in ("neutral", "contempt", "anger_disgust", "anxiety", "")} == {NONE}


SETS = {"dfew": DFEW, "mafw": MAFW, "ravdess": ravdess.LABELS, "crema_d": tuple(crema_d.CODES.values())}


def test_the_drawn_face_is_whole() -> None:
    points = unit_points(0, 0)
    assert points.shape == (68, 2)
    np.testing.assert_allclose(points[[36, 45]], [[-0.63, -0.18], [0.63, -0.18]])
    np.testing.assert_allclose(placed(points, 10, 20, 2, 90)[8], (10 - 2 * 1.15, 20))
