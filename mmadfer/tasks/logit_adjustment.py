"""Post-hoc logit adjustment: one trained model for accuracy (WAR) and for the mean recall of classes (UAR).

A model trained on many clips of some classes and few of others has their shares in its logits. Subtracting
tau * log(share) takes them out: tau 0 is the model as it is, tau 1 is what the mean recall asks for (Menon et al. 2021,
"Long-tail learning via logit adjustment", post-hoc logit adjustment).
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from mmadfer.errors import ConfigError, WeightsError


def shares(labels: Sequence[str], found: Iterable[str]) -> tuple[float, ...]:
    """The share of each label, in the order of `labels`, among those found; () where there are none."""
    counts = Counter(found)
    total = sum(counts.values())
    return tuple(counts[label] / total for label in labels) if total else ()


def check_tau(tau: float) -> None:
    """Raises ConfigError where it is no weight of an adjustment."""
    if not (math.isfinite(tau) and tau >= 0):
        raise ConfigError(f"adjust is {tau:g}: give 0 (as trained), 1 (for UAR), or another number from 0 on")


def shift(labels: Sequence[str], priors: Sequence[float], tau: float) -> np.ndarray:
    """What is subtracted from logits (..., C): tau * log(prior), float32 (C,).

    Args:
        labels: class names in the model's order.
        priors: share of each among the training clips.
        tau: how much of it is taken out.

    Raises:
        ConfigError: tau is negative or not finite.
        WeightsError: a class had no training clip, so that its share has no logarithm.
    """
    check_tau(tau)
    none = [label for label, prior in zip(labels, priors, strict=True) if prior <= 0]
    if none:
        raise WeightsError(
            f"the model was trained on no clip of {', '.join(none)}, which adjusted logits would always name: "
            "leave --adjust out, or train with clips of every label"
        )
    return (tau * np.log(np.asarray(priors, np.float64))).astype(np.float32)
