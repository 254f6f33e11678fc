import numpy as np
import pytest

from mmadfer.tasks.metrics import confusion, recalls, uar, war

TRUTH, PREDICTED = [0, 0, 0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 0, 2, 2]


def test_confusion_counts_truth_in_rows() -> None:
    table = confusion(TRUTH, PREDICTED, 3)
    assert table.tolist() == [[3, 1, 0], [1, 1, 0], [0, 0, 2]]
    assert table.dtype == np.int64


def test_numbers_by_hand() -> None:
    table = confusion(np.array(TRUTH), np.array(PREDICTED), 3)
    assert recalls(table).tolist() == [0.75, 0.5, 1.0]
    assert uar(table) == pytest.approx(0.75)
    assert war(table) == pytest.approx(6 / 8)


def test_as_counted_clip_by_clip() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 7, 500), rng.integers(0, 7, 500)
    table = confusion(truth, predicted, 7)
    right = truth == predicted
    assert uar(table) == pytest.approx(np.mean([right[truth == k].mean() for k in range(7)]), abs=1e-12)
    assert war(table) == pytest.approx(right.mean(), abs=1e-12)


def test_classes_without_clips_do_not_count() -> None:
    table = confusion([0, 0, 2], [0, 1, 2], 4)
    assert np.isnan(recalls(table)[[1, 3]]).all()
    assert uar(table) == pytest.approx(0.75)


def test_nothing_gives_no_number() -> None:
    table = confusion([], [], 3)
    assert table.tolist() == [[0] * 3] * 3
    assert np.isnan([uar(table), war(table)]).all()


@pytest.mark.parametrize(
    ("truth", "predicted", "words"),
    [
        ([0, 3], [0, 0], "label is outside 0..2: 0..3"),
        ([0], [-1], "prediction is outside"),
        ([0, 1], [0], "one length"),
    ],
)
def test_wrong_input_is_refused(truth: list[int], predicted: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        confusion(truth, predicted, 3)
