"""Paired bootstrap: how the difference of two models varies with the test clips, in numpy only.

Clips are drawn with replacement within each fold, as many as it has, and every run is scored on the same draws, so what
makes a clip hard for all runs does not count as a difference (Efron and Tibshirani 1993, "An Introduction to the
Bootstrap"; Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance evaluation").
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import comb

import numpy as np

from mmadfer.tasks.spec import TaskSpec

_DRAWS_IN_MEMORY = 2**20
"""Drawn clips that are in memory at a time, of which each takes some 40 bytes."""
LEVEL = 0.95
_TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
_DECIMALS = 12
"""Decimals of a difference that count: what is smaller is the rounding of means, and no clip."""

Told = np.ndarray | list[np.ndarray]


@dataclass(frozen=True)
class Paired:
    """What the runs of both sides say of the N clips of one fold, in one order."""

    fold: int
    truth: Told
    """int64 (N,) class numbers; or values over time, for each clip float (L, C)."""
    a: Sequence[Told]
    """What each run of A says, in the same form."""
    b: Sequence[Told]
    """What each run of B says."""

    def statistics(self, run: Told, classes: int, spec: TaskSpec) -> np.ndarray:
        """Of a run: float64 (N, K), what of each clip adds up to scores."""
        if isinstance(self.truth, np.ndarray):
            return spec.statistics(self.truth, np.asarray(run), classes)
        return spec.statistics_over_time(self.truth, [*run], classes)


@dataclass(frozen=True)
class Estimate:
    """A difference, B minus A, as a fraction."""

    value: float
    low: float
    """Of the 95 % percentile interval."""
    high: float
    p: float
    """Twice the smaller share of resamples in which the difference is <= 0, or >= 0; see `estimate_difference`."""


@dataclass(frozen=True)
class OverUnits:
    """The mean difference over units such as subjects, B minus A; see `estimate_over_units`."""

    value: float
    low: float
    high: float
    p: float
    higher: int
    """Units with a larger number in B."""
    equal: int
    lower: int


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


def resampled_sums(tables: Mapping[int, np.ndarray], resamples: int, seed: int) -> np.ndarray:
    """Sums over drawn clips of what adds up to scores: the draws of each fold are those of `score_differences`.

    Args:
        tables: fold -> float64 (N, K), a row for each clip.
        resamples: how often N clips are drawn.
        seed: of the draws.

    Returns:
        float64 (resamples, folds, K).
    """
    each = [
        np.concatenate([counts @ table for counts in _draws(len(table), resamples, seed, fold, _DRAWS_IN_MEMORY)])
        for fold, table in tables.items()
    ]
    return np.stack(each, axis=1)


def interval(drawn: np.ndarray) -> tuple[float, float] | None:
    """The 95 % percentile interval of what was drawn, float64 (resamples,), without NaN; None where it is all NaN."""
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return None
    low, high = np.quantile(known, _TAILS).tolist()
    return low, high


def estimate_difference(value: float, drawn: np.ndarray) -> Estimate:
    """The difference that was found, with what `drawn`, float64 (resamples,), says of it.

    The interval is between the percentiles 2.5 and 97.5. The p-value is 2 min(share <= 0, share >= 0), at most 1, each
    share as (count + 1) / (resamples + 1) so that it is never 0: it goes below 0.05 where the interval leaves 0 out.
    """
    value, drawn = round(value, _DECIMALS) + 0.0, np.round(drawn, _DECIMALS) + 0.0  # + 0.0: no -0
    low, high = np.quantile(drawn, _TAILS).tolist()
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum()) + 1
    return Estimate(value, low, high, min(1.0, float(2 * tail / (len(drawn) + 1))))


def estimate_over_units(differences: np.ndarray, resamples: int, seed: int) -> OverUnits:
    """The mean of the units' differences, float64 (n,), with a sign-flip test and an interval of resampled units.

    Where nothing tells A from B, each difference is as likely with the other sign; p is the share of the 2^n sign
    patterns whose mean is at least as far from 0, of all where these are no more than `resamples`, else of so many
    that are drawn, as (count + 1) / (resamples + 1). The interval is as of `estimate_difference`.

    Source: Fisher 1935, "The Design of Experiments", section 21; drawn patterns: Dwass 1957.
    """
    found, n = np.round(differences, _DECIMALS), len(differences)
    draws = _draws(n, resamples, seed, 0, _DRAWS_IN_MEMORY)
    low, high = np.quantile(np.concatenate([counts @ found for counts in draws]) / n, _TAILS).tolist()
    tallies = ((found > 0).sum(), (found == 0).sum(), (found < 0).sum())
    return OverUnits(float(found.mean()), low, high, _sign_flips(found, resamples, seed), *map(int, tallies))


def _sign_flips(found: np.ndarray, resamples: int, seed: int) -> float:
    n, far = len(found), abs(found.sum()) - 10.0**-_DECIMALS * len(found)  # rounding is no distance
    if 2**n <= resamples:
        signs = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return float((np.abs(signs @ found) >= far).mean())
    stream, count = _stream("signs", seed, 0), 0
    for start in range(0, resamples, rows := max(1, _DRAWS_IN_MEMORY // n)):
        some = min(rows, resamples - start)
        signs = 1.0 - 2.0 * (stream.random_raw(some * n) >> np.uint64(63)).reshape(some, n)
        count += int((np.abs(signs @ found) >= far).sum())
    return (count + 1) / (resamples + 1)


def mcnemar(only_a: int, only_b: int) -> float:
    """The exact two-sided p-value that clips which one side alone has right fall to either with equal chance.

    Source: McNemar 1947, with the binomial distribution instead of its approximation.
    """
    n = only_a + only_b
    tail = sum(comb(n, k) for k in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / 2**n)


def _table(one: Paired, classes: int, spec: TaskSpec) -> np.ndarray:
    """float64 (N, runs x K): what of each clip and run adds up to scores."""
    return np.concatenate([one.statistics(run, classes, spec) for run in (*one.a, *one.b)], axis=1)


def _draws(clips: int, resamples: int, seed: int, fold: int, chunk: int) -> Iterator[np.ndarray]:
    """How often each clip is drawn: float64 (some, clips), `resamples` rows in all."""
    stream, rows = _stream("compare", seed, fold), max(1, chunk // clips)
    for start in range(0, resamples, rows):
        some = min(rows, resamples - start)
        drawn = (stream.random_raw(some * clips) % np.uint64(clips)).astype(np.int64).reshape(some, clips)
        drawn += clips * np.arange(some)[:, None]
        yield np.bincount(drawn.ravel(), minlength=some * clips).reshape(some, clips).astype(np.float64)


def uniforms(name: str, seed: int, number: int, count: int) -> np.ndarray:
    """So many numbers in [0, 1), float64, that depend on the other arguments only."""
    return np.asarray((_stream(name, seed, number).random_raw(count) >> np.uint64(11)) * 2.0**-53)


def _stream(name: str, seed: int, fold: int) -> np.random.Philox:
    """Of which only the raw output is taken: numpy keeps that the same in all its versions."""
    key = blake2b(f"{name}\0{seed}\0{fold}".encode(), digest_size=16).digest()
    return np.random.Philox(key=int.from_bytes(key, "little"))


def _differences(sums: np.ndarray, of_a: int, of_b: int, spec: TaskSpec) -> np.ndarray:
    """float64 (some, scores) from the summed columns of `_table`."""
    each = spec.from_sums(sums.reshape(len(sums), of_a + of_b, -1))
    return np.asarray(each[:, of_a:].mean(1) - each[:, :of_a].mean(1))
