"""Intervals of one run's scores: how they vary with the choice of test clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np

from mmadfer.evaluation.bootstrap import LEVEL, interval, resampled_sums
from mmadfer.evaluation.saved_predictions import ToldClips
from mmadfer.tasks.spec import TaskSpec

RESAMPLES = 2000
SEED = 0
COVERS = (
    f"95 % intervals are between the percentiles 2.5 and 97.5 of {RESAMPLES:,} resamples: clips drawn with replacement "
    "within each fold, as mmadfer compare draws them. Those of recalls are Wilson's (1927). They cover the choice of "
    "test clips, taken as independent, and not training"
)
Pair = tuple[float, float]


@dataclass(frozen=True)
class Intervals:
    """Low and high end as fractions."""

    scores: dict[str, Pair | None]
    """Of each score, its mean over the folds."""
    recall: list[Pair | None]
    """Of each class, in all folds' clips together; None of a class without clips."""


def intervals(folds: Sequence[ToldClips], spec: TaskSpec, resamples: int = RESAMPLES, seed: int = SEED) -> Intervals:
    """The intervals of a task of classes.

    Args:
        folds: one or more, of the same classes.
        spec: the task, which knows its scores.
        resamples: of the bootstrap.
        seed: of its draws.
    """
    classes = folds[0].probabilities.shape[1]
    tables = {one.fold: spec.statistics(one.truth, one.told, classes) for one in folds}
    scores = spec.from_sums(resampled_sums(tables, resamples, seed)).mean(1)
    truth, right = (np.concatenate(each) for each in zip(*((one.truth, one.right) for one in folds), strict=True))
    counts = [(int(right[truth == k].sum()), int((truth == k).sum())) for k in range(classes)]
    return Intervals(
        {name: interval(scores[:, k]) for k, name in enumerate(spec.names)},
        [wilson(hits, clips) if clips else None for hits, clips in counts],
    )


def wilson(hits: int, clips: int) -> Pair:
    """The 95 % interval of a share, of which so many of 1 or more clips are hits; it has a width at 0 and 1, too.

    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
    """
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    middle = (hits + z * z / 2) / (clips + z * z)
    half = z / (clips + z * z) * sqrt(hits * (clips - hits) / clips + z * z / 4)
    return middle - half if hits else 0.0, middle + half if hits < clips else 1.0
