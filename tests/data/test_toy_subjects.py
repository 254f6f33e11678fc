"""The toy set of people: shifted or turned, each in a way of their own; it is made once."""

from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest

from mmadfer.data.sets import table, toy_subjects
from mmadfer.data.sets.toy_subjects import CLIPS, LABELS, PEOPLE, Clip, content, point
from mmadfer.errors import DataError

POINTS: list[Clip] = [*product(range(PEOPLE), range(len(LABELS)), range(CLIPS))]


def _accuracy(points: np.ndarray) -> float:
    """Of each person's points by the fifteen nearest of other people."""
    person, label = np.array([clip[:2] for clip in POINTS]).T
    right = 0
    for k, one in enumerate(points):
        far = np.square(points - one).sum(1) + 1e9 * (person == person[k])
        right += np.bincount(label[np.argsort(far)[:15]]).argmax() == label[k]
    return right / len(points)


def _centred(points: np.ndarray) -> np.ndarray:
    """Without each person's mean."""
    each = points.reshape(PEOPLE, -1, 2)
    return (each - each.mean(1, keepdims=True)).reshape(-1, 2)


def test_a_shift_can_be_mended_without_labels_and_a_turn_cannot() -> None:
    shifted, turned = (np.array([point(clip, turned) for clip in POINTS]) for turned in (False, True))
    assert _accuracy(shifted) < 0.8
    assert _accuracy(_centred(shifted)) > 0.95
    assert _accuracy(turned) < 0.85
    assert abs(_accuracy(_centred(turned)) - _accuracy(turned)) < 0.05


def test_people_show_the_same_thing_in_other_ways() -> None:
    one, again, other = (content(clip) for clip in ((0, 1, 2), (0, 1, 2), (1, 1, 2)))
    assert one[0].shape == (toy_subjects.FRAMES, 160, 160, 3)
    assert len(one[1]) == toy_subjects.FRAMES * 16000 // toy_subjects.FPS
    np.testing.assert_array_equal(one[0], again[0])
    np.testing.assert_array_equal(one[1], again[1])
    assert (one[0] != other[0]).mean() > 0.5


def test_a_clip_shows_whose_it_is_and_not_which_class(monkeypatch: pytest.MonkeyPatch) -> None:
    def colours(person: int, label: int) -> np.ndarray:
        red, green, blue = content((person, label, 0))[0].mean((0, 1, 2))
        return np.array([red, green]) / (red + green + blue)

    def apart() -> tuple[float, float]:
        """The largest difference between two classes of a person, and the smallest between two people."""
        each = np.array([[colours(person, label) for label in (1, 3)] for person in range(PEOPLE)])
        people = [np.abs(one - other).max() for one, other in combinations(each.mean(1), 2)]
        return float(np.abs(each[:, 0] - each[:, 1]).max()), float(min(people))

    within, between = apart()
    assert between > within
    monkeypatch.setattr(toy_subjects, "CAST", 0)
    assert apart()[1] < between / 2


@pytest.mark.slow
def test_it_is_made_once_and_nobody_is_in_two_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy_subjects, "PEOPLE", 3)
    toy_subjects.make(tmp_path / "media", clips=1, jobs=1)
    files = sorted((tmp_path / "media").glob("*/*.mp4"))
    times = [file.stat().st_mtime_ns for file in files]
    found = table("toy_subjects", tmp_path / "media")
    assert [file.stat().st_mtime_ns for file in files] == times
    assert sorted(clip.media for clip in found.clips) == files
    assert sorted({(clip.subject, clip.fold) for clip in found.clips}) == [(f"person-{k}", k) for k in (1, 2, 3)]
    with pytest.raises(DataError, match="holds another toy set than toy_subjects_turned"):
        table("toy_subjects_turned", tmp_path / "media")
