"""Groups of test clips, such as people, sex or language: the scores of each, and tests with correction for many.

A group is tested against the rest by permutation: within each fold and true class, which clips are the group's is as
good as drawn where the model treats all alike. So how many clips of the group it has right there is hypergeometric, as
in Fisher's exact test, and neither an easy fold nor a mix of classes counts as a difference. Several tests are
corrected as in Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import lgamma

import numpy as np

from mmadfer.evaluation.bootstrap import mcnemar, uniforms
from mmadfer.evaluation.saved_predictions import ToldClips

FEWEST = 10
"""Clips that a group and the rest must have to be tested."""
PERMUTATIONS = 10_000
RULE = (
    f"too few: fewer than {FEWEST} clips in the group or the rest, or a class that one of them lacks; these are not "
    "tested, and UAR is over the classes that are there"
)
TEST = (
    f"p: {PERMUTATIONS:,} permutations of the clips between group and rest, within each fold and true class, of the "
    "difference in UAR; a column with two groups is one test. Holm: p corrected for all tests of this table"
)


@dataclass(frozen=True)
class Group:
    """The test clips with one value in a column; scores are fractions."""

    column: str
    value: str
    clips: int
    accuracy: float
    uar: float
    """Over the classes that the group has."""
    difference: float | None = None
    """UAR of the group less that of the column's other clips; None where it is not tested."""
    p: float | None = None
    holm: float | None = None
    note: str = ""
    """Why it is not tested."""


@dataclass(frozen=True)
class PairedGroup:
    """A group in two runs, of the same clips."""

    column: str
    value: str
    clips: int
    only_first: int
    """Clips that the first run alone has right."""
    only_second: int
    p: float | None = None
    """Of the exact McNemar test; None where there are too few clips."""
    holm: float | None = None


def groups(
    folds: Sequence[ToldClips],
    columns: Mapping[str, Mapping[str, str]],
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> list[Group]:
    """Every group of every column, in the order of the columns and of their values.

    Args:
        folds: what the model says of the test clips.
        columns: name -> clip -> value; clips without a value are in no group, and not in the rest.
        permutations: of each test.
        seed: of their draws.
    """
    found = [one for name, values in columns.items() for one in _column(folds, name, values, permutations, seed)]
    first = {one.column: one for one in reversed(found)}  # of two groups, both rows tell one test
    own = [one for one in found if _count(found, one.column) != 2 or one is first[one.column]]
    tested = [one for one in own if one.p is not None]
    corrected = dict(zip(map(_key, tested), holm([one.p for one in tested if one.p is not None]), strict=True))
    return [_corrected(one, corrected, first[one.column]) for one in found]


def _key(one: Group) -> tuple[str, str]:
    return one.column, one.value


def _count(found: Sequence[Group], column: str) -> int:
    return sum(one.column == column for one in found)


def _corrected(one: Group, corrected: Mapping[tuple[str, str], float], first: Group) -> Group:
    if one.p is None:
        return one
    if _key(one) in corrected:
        return replace(one, holm=corrected[_key(one)])
    return replace(one, p=first.p, holm=corrected[_key(first)])


def paired_groups(
    first: Sequence[ToldClips], second: Sequence[ToldClips], columns: Mapping[str, Mapping[str, str]]
) -> list[PairedGroup]:
    """Every group in two runs, on the clips that both have tested; correction as in `groups`."""
    one, other = (
        {clip: right for fold in run for clip, right in zip(fold.ids, fold.right.tolist(), strict=True)}
        for run in (first, second)
    )
    found = []
    for column, values in columns.items():
        for value in sorted({values[clip] for clip in one if clip in values}):
            pairs = [(one[clip], other[clip]) for clip in one if values.get(clip) == value and clip in other]
            alone = (sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs))
            p = mcnemar(*alone) if len(pairs) >= FEWEST else None
            found.append(PairedGroup(column, value, len(pairs), *alone, p))
    corrected = iter(holm([one.p for one in found if one.p is not None]))
    return [one if one.p is None else replace(one, holm=next(corrected)) for one in found]


def holm(p: Sequence[float]) -> list[float]:
    """Corrected p-values, in the order given: the k-th smallest of n times n - k + 1, at most 1, and never falling."""
    order, found, least = np.argsort(p, kind="stable"), [0.0] * len(p), 0.0
    for k, place in enumerate(order):
        least = max(least, min(1.0, (len(p) - k) * p[place]))
        found[place] = least
    return found


def _column(
    folds: Sequence[ToldClips], name: str, values: Mapping[str, str], permutations: int, seed: int
) -> list[Group]:
    """The groups of one column, each with its own p."""
    classes = folds[0].probabilities.shape[1]
    rows = [(k, row) for k, one in enumerate(folds) for row, clip in enumerate(one.ids) if clip in values]
    if not rows:
        return []
    told = [values[folds[k].ids[row]] for k, row in rows]
    truth = np.array([folds[k].truth[row] for k, row in rows])
    right = np.array([folds[k].right[row] for k, row in rows])
    strata = np.array([k for k, _ in rows]) * classes + truth
    counts = _Strata.of(strata, right, len(folds) * classes, classes)
    found = []
    for place, value in enumerate(sorted({*told})):
        mine = np.array([one == value for one in told])
        group = _Strata.of(strata[mine], right[mine], len(folds) * classes, classes)
        basis = Group(name, value, int(mine.sum()), float(right[mine].mean()), group.uar)
        found.append(_tested(basis, counts, group, permutations, (name, seed, place)))
    return found


@dataclass(frozen=True)
class _Strata:
    """Clips and hits of each fold and class, int64 (folds x classes,)."""

    clips: np.ndarray
    hits: np.ndarray
    classes: int

    @classmethod
    def of(cls, strata: np.ndarray, right: np.ndarray, count: int, classes: int) -> "_Strata":
        clips = np.bincount(strata, minlength=count)
        return cls(clips, np.bincount(strata[right], minlength=count), classes)

    def by_class(self, values: np.ndarray) -> np.ndarray:
        """Sums over the folds, (..., classes)."""
        return np.asarray(values.reshape(*values.shape[:-1], -1, self.classes).sum(-2))

    @property
    def uar(self) -> float:
        clips, hits = self.by_class(self.clips), self.by_class(self.hits)
        return float((hits[clips > 0] / clips[clips > 0]).mean())


def _tested(basis: Group, whole: _Strata, group: _Strata, permutations: int, stream: tuple[str, int, int]) -> Group:
    """With its difference and p, or why there is none."""
    clips, all_clips = group.by_class(group.clips), whole.by_class(whole.clips)
    there = all_clips > 0
    rest = all_clips - clips
    if min(clips.sum(), rest.sum()) < FEWEST or (clips[there] == 0).any() or (rest[there] == 0).any():
        return replace(basis, note="too few")
    if not ((group.clips > 0) & (group.clips < whole.clips)).any():
        return replace(basis, note="no other clips in its folds")

    def difference(hits: np.ndarray) -> np.ndarray:
        mine, every = group.by_class(hits)[..., there], whole.by_class(whole.hits)[there]
        return np.asarray((mine / clips[there] - (every - mine) / rest[there]).mean(-1))

    share = np.divide(group.clips, whole.clips, out=np.zeros(len(whole.clips)), where=whole.clips > 0)
    usual, found = difference(whole.hits * share), difference(group.hits.astype(np.float64))
    far = abs(found - usual) - 1e-12
    drawn = difference(_drawn_hits(whole, group, permutations, stream))
    p = (int((np.abs(drawn - usual) >= far).sum()) + 1) / (permutations + 1)
    return replace(basis, difference=float(found), p=p)


def _drawn_hits(whole: _Strata, group: _Strata, permutations: int, stream: tuple[str, int, int]) -> np.ndarray:
    """Hits of as many clips as the group has, drawn out of each stratum; float64 (permutations, strata)."""
    drawn = np.tile(group.hits.astype(np.float64), (permutations, 1))
    open_ = (group.clips > 0) & (group.clips < whole.clips) & (whole.hits > 0) & (whole.hits < whole.clips)
    places = np.flatnonzero(open_)
    chance = uniforms(*stream, len(places) * permutations).reshape(len(places), permutations)
    for row, k in zip(chance, places, strict=True):
        least, cumulative = _hypergeometric(int(whole.clips[k]), int(whole.hits[k]), int(group.clips[k]))
        drawn[:, k] = least + np.searchsorted(cumulative, row, side="right").clip(max=len(cumulative) - 1)
    return drawn


def _hypergeometric(clips: int, hits: int, taken: int) -> tuple[int, np.ndarray]:
    """The least number of hits among `taken` of so many clips, and the cumulative chances from it on."""
    least, most = max(0, taken - (clips - hits)), min(taken, hits)

    def choose(n: int, k: int) -> float:
        return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)

    logs = np.array([choose(hits, k) + choose(clips - hits, taken - k) for k in range(least, most + 1)])
    chances = np.exp(logs - logs.max())
    return least, np.cumsum(chances / chances.sum())
