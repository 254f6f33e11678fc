"""Intervals of one run's scores: how they vary with the choice of test clips, drawn within each fold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmadfer.evaluation.bootstrap import interval, resampled_sums
from mmadfer.evaluation.saved_predictions import ToldClips
from mmadfer.tasks.spec import TaskSpec

RESAMPLES = 2000
SEED = 0
COVERS = (
    f"95 % intervals are between the percentiles 2.5 and 97.5 of {RESAMPLES:,} resamples: clips drawn with replacement "
    "within each fold, as mmadfer compare draws them. They cover the choice of test clips, not training"
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
    tables = {one.fold: np.concatenate([spec.statistics(one.truth, one.told, classes), _hits(one)], 1) for one in folds}
    sums = resampled_sums(tables, resamples, seed)
    scores = spec.from_sums(sums[..., : -2 * classes]).mean(1)
    clips, hits = np.split(sums[..., -2 * classes :].sum(1), 2, axis=1)
    recall = np.divide(hits, clips, out=np.full_like(hits, np.nan), where=clips > 0)
    return Intervals(
        {name: interval(scores[:, k]) for k, name in enumerate(spec.names)}, [interval(one) for one in recall.T]
    )


def _hits(one: ToldClips) -> np.ndarray:
    """float64 (N, 2 C): 1 in a clip's class, and again where it was told."""
    found = np.eye(one.probabilities.shape[1])[one.truth]
    return np.concatenate([found, found * one.right[:, None]], axis=1)
