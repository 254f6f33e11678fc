"""One output of a clip out of those of its windows, in NumPy; `pooling_torch` has the same with gradients.

Softmax pooling (Ayral et al. 2021, "Temporal Stochastic Softmax for 3D CNNs"): with s_c(t) the logit of class c for
window t, z_c = sum over t of p_c(t) s_c(t), where p_c is the softmax over t of gamma s_c. Each class has its own
weights. gamma 0 is the mean of the logits, infinity their maximum.
"""

import math
from typing import Literal, Protocol

import numpy as np

from mmadfer.errors import ConfigError


class Pooling(Protocol):
    """What pools look at in a section `data.window`."""

    @property
    def pool(self) -> Literal["mean", "softmax"]:
        """Which pool."""

    @property
    def gamma(self) -> float:
        """Of `softmax`."""


def check_gamma(gamma: float) -> None:
    """Raises ConfigError where it is no inverse temperature of a pool."""
    if not gamma >= 0:
        raise ConfigError(f"gamma is {gamma:g}: give 0 (the mean over windows), a larger number, or inf (the maximum)")


def pooled(logits: np.ndarray, gamma: float) -> np.ndarray:
    """z, float64 (..., C), of logits (..., K, C) of K windows.

    Raises:
        ConfigError: gamma is negative or no number.
    """
    check_gamma(gamma)
    scores = np.asarray(logits, np.float64)
    best = scores.max(-2, keepdims=True)
    if math.isinf(gamma):  # of equal ones the mean, which is each of them
        return np.asarray(best.squeeze(-2))
    with np.errstate(over="ignore"):  # a product that is too large is infinite, and its weight 0
        weights = np.exp(gamma * (scores - best))
    return np.asarray((weights * scores).sum(-2) / weights.sum(-2))


def mean_probabilities(logits: np.ndarray) -> np.ndarray:
    """The logarithm of the mean probabilities, float64 (..., C), of logits (..., K, C)."""
    scores = np.asarray(logits, np.float64)
    scores = scores - scores.max(-1, keepdims=True)
    shares = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    # In logarithms throughout, since the share of a class that is far behind is too small for a number.
    return np.asarray(np.logaddexp.reduce(shares, axis=-2) - math.log(shares.shape[-2]))


def clip_logits(logits: np.ndarray, window: Pooling) -> np.ndarray:
    """Logits of a clip, float64 (..., C), of those of its windows (..., K, C); of a single one they are its own.

    Raises:
        ConfigError: gamma is negative or no number.
    """
    if logits.shape[-2] == 1:
        return np.asarray(logits, np.float64)[..., 0, :]
    return pooled(logits, window.gamma) if window.pool == "softmax" else mean_probabilities(logits)
