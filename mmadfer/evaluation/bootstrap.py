"""Paired bootstrap: how the difference of two models varies with the test clips, in numpy only.

Clips are drawn with replacement within each fold, as many as it has, and every run is scored on the same draws, so what
makes a clip hard for all runs does not count as a difference (Efron and Tibshirani 1993, "An Introduction to the
Bootstrap"; Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance evaluation").
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import comb

import numpy as np

from mmadfer.tasks.spec import TaskSpec

_DRAWS_IN_MEMORY = 2**20
"""Drawn clips that are in memory at a time, of which each takes some 40 bytes."""
LEVEL = 0.95
_DECIMALS = 12
"""Decimals of a difference that count: what is smaller is the rounding of means, and no clip."""


@dataclass(frozen=True)
class Paired:
    """What the runs of both sides say of the N clips of one fold, in one order."""

    fold: int
    truth: np.ndarray
    """int64 (N,) class numbers, or float (N, C) values."""
    a: np.ndarray
    """(runs, ...): what each run of A says, in the same form."""
    b: np.ndarray
    """(runs, ...)."""


@dataclass(frozen=True)
class Estimate:
    """A difference, B minus A, as a fraction."""

    value: float
    low: float
    """Of the 95 % percentile interval."""
    high: float
    p: float
    """Twice the smaller share of resamples in which the difference is <= 0, or >= 0; see `estimate_difference`."""


def score_differences(
    folds: Sequence[Paired], classes: int, resamples: int, seed: int, spec: TaskSpec, chunk: int = _DRAWS_IN_MEMORY
) -> np.ndarray:
    """The task's scores of B minus those of A, each the mean over the side's runs, on drawn clips.

    The draws of a fold depend on (seed, fold) only: not on the runs,
    on the other folds or on `chunk`.

    Returns:
        float64 (resamples, folds, scores).
    """
    out = np.empty((resamples, len(folds), len(spec.scores)))
    for k, one in enumerate(folds):
        table = _table(one, classes, spec)
        done = 0
        for counts in _draws(len(one.truth), resamples, seed, one.fold, chunk):
            out[done : done + len(counts), k] = _differences(counts @ table, len(one.a), len(one.b), spec)
            done += len(counts)
    return out


def estimate_difference(value: float, drawn: np.ndarray) -> Estimate:
    """The difference that was found, with what `drawn`, float64 (resamples,), says of it.

    The interval is between the percentiles 2.5 and 97.5. The p-value is 2 min(share <= 0, share >= 0), at most 1, each
    share as (count + 1) / (resamples + 1) so that it is never 0: it goes below 0.05 where the interval leaves 0 out.
    """
    value, drawn = round(value, _DECIMALS) + 0.0, np.round(drawn, _DECIMALS) + 0.0  # + 0.0: no -0
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum()) + 1
    return Estimate(value, low, high, min(1.0, float(2 * tail / (len(drawn) + 1))))


def mcnemar(only_a: int, only_b: int) -> float:
    """The exact two-sided p-value that clips which one side alone has right fall to either with equal chance.

    Source: McNemar 1947, with the binomial distribution instead of its approximation.
    """
    n = only_a + only_b
    tail = sum(comb(n, k) for k in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / 2**n)


def _table(one: Paired, classes: int, spec: TaskSpec) -> np.ndarray:
    """float64 (N, runs x K): what of each clip and run adds up to scores."""
    return np.concatenate([spec.statistics(one.truth, run, classes) for run in (*one.a, *one.b)], axis=1)


def _draws(clips: int, resamples: int, seed: int, fold: int, chunk: int) -> Iterator[np.ndarray]:
    """How often each clip is drawn: float64 (some, clips), `resamples` rows in all."""
    # Only the raw output of Philox: numpy keeps that the same in all its versions.
    key = blake2b(f"compare\0{seed}\0{fold}".encode(), digest_size=16).digest()
    stream, rows = np.random.Philox(key=int.from_bytes(key, "little")), max(1, chunk // clips)
    for start in range(0, resamples, rows):
        some = min(rows, resamples - start)
        drawn = (stream.random_raw(some * clips) % np.uint64(clips)).astype(np.int64).reshape(some, clips)
        drawn += clips * np.arange(some)[:, None]
        yield np.bincount(drawn.ravel(), minlength=some * clips).reshape(some, clips).astype(np.float64)


def _differences(sums: np.ndarray, of_a: int, of_b: int, spec: TaskSpec) -> np.ndarray:
    """float64 (some, scores) from the summed columns of `_table`."""
    each = spec.from_sums(sums.reshape(len(sums), of_a + of_b, -1))
    return np.asarray(each[:, of_a:].mean(1) - each[:, :of_a].mean(1))
