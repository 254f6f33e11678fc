"""Calibration, temperature and abstaining against sklearn, scipy and counting by hand."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import log_loss

from mmadfer.tasks import calibration
from mmadfer.tasks.calibration import BINS, abstaining, bins, coverage_curve, fit_temperature, with_temperature


def clips(seed: int = 0, count: int = 400, sharp: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, 4) of a model that is too sure by `sharp`, and the truth, drawn from what it should have said."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (count, 4))
    truth = np.array([rng.choice(4, p=row) for row in softmax(logits, axis=1)])
    return sharp * logits, truth


def test_the_error_is_that_of_the_paper_counted_bin_by_bin() -> None:
    logits, truth = clips()
    told = softmax(logits, axis=1)
    confidence, right = told.max(1), told.argmax(1) == truth
    expected = 0.0
    for m in range(1, BINS + 1):
        inside = (confidence > (m - 1) / BINS) & (confidence <= m / BINS)
        if inside.any():
            expected += inside.sum() / len(truth) * abs(right[inside].mean() - confidence[inside].mean())
    assert bins(confidence, right).error == pytest.approx(expected)


def test_bins_by_hand() -> None:
    found = bins(np.array([1 / 15, 0.5, 0.5, 0.52, 1.0]), np.array([False, True, False, True, True]))
    assert found.clips.tolist() == [1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1]
    assert found.accuracy[[0, 7, 14]].tolist() == pytest.approx([0, 2 / 3, 1])
    assert found.confidence[7] == pytest.approx((0.5 + 0.5 + 0.52) / 3)
    assert np.isnan(found.accuracy[1])
    assert found.error == pytest.approx((1 / 15 + 3 * abs(2 / 3 - 1.52 / 3) + 0) / 5)
    assert bins(np.array([0.0]), np.array([False])).error == 0


def test_cross_entropy_is_sklearns() -> None:
    logits, truth = clips()
    told = softmax(logits, axis=1)
    assert calibration.cross_entropy(told, truth) == pytest.approx(log_loss(truth, told, labels=range(4)), rel=1e-4)
    assert calibration.cross_entropy(np.array([[0.0, 1.0]]), np.array([0])) == pytest.approx(-np.log(5e-7))


@pytest.mark.parametrize("sharp", [0.3, 1.0, 3.0])
def test_the_temperature_is_the_one_that_scipy_finds(sharp: float) -> None:
    logits, truth = clips(1, sharp=sharp)

    def loss(temperature: float) -> float:
        return log_loss(truth, softmax(logits / temperature, axis=1), labels=range(4))

    found = fit_temperature(logits.astype(np.float32), truth)
    assert found == pytest.approx(minimize_scalar(loss, bounds=calibration.RANGE, method="bounded").x, rel=1e-3)
    assert found == pytest.approx(sharp, rel=0.2)
    told = softmax(logits, axis=1)
    again, known = with_temperature(told, found), told.min(1) > calibration.SMALLEST
    np.testing.assert_allclose(again[known], softmax(logits[known] / found, axis=1), rtol=1e-9)
    np.testing.assert_allclose(again, softmax(logits / found, axis=1), atol=0.02)
    assert (again.argmax(1) == logits.argmax(1)).all()


def test_clips_that_do_not_tell_a_temperature_give_none() -> None:
    right = np.array([[2.0, 0.0], [0.0, 1.0]])
    assert fit_temperature(right, np.array([0, 1])) is None, "all right: the surer the better"
    assert fit_temperature(right, np.array([1, 0])) is None, "all wrong"
    assert fit_temperature(np.zeros((3, 2)), np.array([0, 1, 0])) is None, "it says nothing"
    assert fit_temperature(np.zeros((0, 2)), np.zeros(0, np.int64)) is None


def test_coverage_and_accuracy_by_hand() -> None:
    confidence = np.array([0.9, 0.8, 0.8, 0.6, 0.5])
    right = np.array([True, True, False, True, False])
    coverage, accuracy = coverage_curve(confidence, right)
    assert coverage.tolist() == pytest.approx([0.2, 0.6, 0.8, 1.0])
    assert accuracy.tolist() == pytest.approx([1, 2 / 3, 3 / 4, 3 / 5])
    rows = dict(zip((1, 0.9, 0.8, 0.5), abstaining(confidence, right), strict=True))
    assert rows[1] == pytest.approx((1.0, 5, 0.6, 0.5))
    assert rows[0.9] == pytest.approx((1.0, 5, 0.6, 0.5))
    assert rows[0.8] == pytest.approx((0.8, 4, 0.75, 0.6))
    assert rows[0.5] == pytest.approx((0.6, 3, 2 / 3, 0.8)), "clips that are as sure are answered together"


def test_abstaining_by_brute_force() -> None:
    logits, truth = clips(2, 200)
    told = softmax(logits, axis=1)
    confidence, right = told.max(1), told.argmax(1) == truth
    for one in abstaining(confidence, right):
        answered = confidence >= one.threshold
        assert one.clips == answered.sum()
        assert one.coverage == pytest.approx(answered.mean())
        assert one.accuracy == pytest.approx(right[answered].mean())
