"""How far probabilities can be believed: calibration, a temperature that mends it, and what abstaining would give.

The expected calibration error and temperature scaling are those of Guo et al. 2017, "On Calibration of Modern Neural
Networks", sections 2 and 4.2; coverage against accuracy is that of Geifman and El-Yaniv 2017, "Selective
Classification for Deep Neural Networks". N clips, C classes; all of it is numpy in float64.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BINS = 15
"""Of equal width over (0, 1], as in the paper's tables."""
COVERAGES = (1.0, 0.9, 0.8, 0.5)
"""Shares of clips that are answered, of the table."""
RANGE = (0.05, 20.0)
"""Temperatures that are believed: where the best one lies outside, the clips do not tell it."""
SMALLEST = 5e-7
"""No probability counts as less: predictions.csv has six decimals."""
_HALVINGS = 60


class Bins(NamedTuple):
    """The reliability diagram: what each of `BINS` bins of confidence holds."""

    clips: np.ndarray
    """int64 (BINS,)."""
    confidence: np.ndarray
    """float64 (BINS,): the mean probability of what was told; NaN of an empty bin."""
    accuracy: np.ndarray
    """float64 (BINS,): the share that was right; NaN of an empty bin."""

    @property
    def error(self) -> float:
        """The expected calibration error: the mean over clips of their bin's |accuracy - confidence|."""
        some = self.clips > 0
        gaps = np.abs(self.accuracy[some] - self.confidence[some])
        return float((self.clips[some] * gaps).sum() / self.clips.sum())


class Abstaining(NamedTuple):
    """Answering only the surest clips."""

    coverage: float
    """The share of clips that are answered."""
    clips: int
    accuracy: float
    """Of these."""
    threshold: float
    """The lowest confidence among them."""


def bins(confidence: np.ndarray, right: np.ndarray) -> Bins:
    """Sort clips into bins, the m-th of which holds confidences in ((m - 1) / BINS, m / BINS].

    Args:
        confidence: float (N,), the probability of the class that was told.
        right: bool (N,), whether that is the truth.
    """
    place = np.clip(np.ceil(np.asarray(confidence, np.float64) * BINS).astype(np.int64) - 1, 0, BINS - 1)
    clips = np.bincount(place, minlength=BINS)

    def mean(values: np.ndarray) -> np.ndarray:
        sums = np.bincount(place, np.asarray(values, np.float64), BINS)
        return np.divide(sums, clips, out=np.full(BINS, np.nan), where=clips > 0)

    return Bins(clips, mean(confidence), mean(right))


def cross_entropy(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """The mean of `losses`."""
    return float(losses(probabilities, truth).mean())


def losses(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """float64 (N,): -log p of the true class, of probabilities (N, C) and labels int64 (N,)."""
    found = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    return -np.log(np.maximum(found, SMALLEST))


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities float64 (N, C) of the same logits divided by a temperature; the largest in each row stays that.

    Exact where none is below `SMALLEST`, which is what counts in its place.
    """
    return softmax(np.log(np.maximum(probabilities.astype(np.float64), SMALLEST)) / temperature)


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float | None:
    """The temperature T with the least cross-entropy of softmax(logits / T); None where it is not in `RANGE`.

    The cross-entropy is convex in 1 / T, and its derivative there is the mean of E_p[logit] - logit of the truth: its
    zero is found by halving.

    Args:
        logits: float (N, C), finite.
        truth: int64 (N,).
    """
    z = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    own = z[np.arange(len(truth)), truth]
    low, high = (float(np.log(1 / end)) for end in RANGE[::-1])
    if not len(truth) or not _slope(z, own, np.exp(low)) < 0 < _slope(z, own, np.exp(high)):
        return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _slope(z, own, np.exp(middle)) < 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))


def _slope(z: np.ndarray, own: np.ndarray, inverse: float) -> float:
    return float(((softmax(z * inverse) * z).sum(1) - own).mean())


def coverage_curve(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and accuracy, float64 (K,) each, where the surest clips are answered; K distinct confidences.

    Clips of one confidence are answered together.
    """
    order = np.argsort(-np.asarray(confidence, np.float64), kind="stable")
    sure, hits = np.asarray(confidence)[order], np.cumsum(np.asarray(right)[order])
    last = np.flatnonzero(np.append(sure[1:] != sure[:-1], True))
    return (last + 1) / len(order), hits[last] / (last + 1)


def abstaining(confidence: np.ndarray, right: np.ndarray, shares: Sequence[float] = COVERAGES) -> list[Abstaining]:
    """What answering the surest clips gives: at least each of these shares, with all clips of the last confidence."""
    coverage, accuracy = coverage_curve(confidence, right)
    levels, clips = np.unique(confidence)[::-1], len(confidence)
    found = []
    for share in shares:
        k = int(np.searchsorted(coverage, share - 1e-12))
        found.append(Abstaining(float(coverage[k]), round(coverage[k] * clips), float(accuracy[k]), float(levels[k])))
    return found


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities float64 (..., C) of logits (..., C)."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
