"""A group against the rest within folds: the difference, and how it varies where clips or people are exchanged.

A stratum is a fold and a true class. Of each, a group has some clips and some hits (clips that are right).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import lgamma

import numpy as np

from mmadfer.evaluation.bootstrap import uniforms

_IN_MEMORY = 2**20
"""Units of drawn permutations that are in memory at a time."""
_ROUNDING = 1e-12
Stream = tuple[str, int, int]
"""A name, a seed and a number, which draws depend on."""


@dataclass(frozen=True)
class Strata:
    """Clips and hits of each stratum, (..., folds x classes)."""

    clips: np.ndarray
    hits: np.ndarray
    classes: int

    @classmethod
    def of(cls, strata: np.ndarray, right: np.ndarray, count: int, classes: int) -> "Strata":
        """Of N clips: their strata int64 (N,), and whether each is right."""
        clips = np.bincount(strata, minlength=count)
        return cls(clips, np.bincount(strata[right], minlength=count), classes)

    def by_class(self, values: np.ndarray) -> np.ndarray:
        """Sums over the folds, (..., classes)."""
        return np.asarray(values.reshape(*values.shape[:-1], -1, self.classes).sum(-2))

    @property
    def uar(self) -> float:
        """Over the classes that are there."""
        clips, hits = self.by_class(self.clips), self.by_class(self.hits)
        return float((hits[clips > 0] / clips[clips > 0]).mean())

    def difference(self, clips: np.ndarray, hits: np.ndarray) -> np.ndarray:
        """UAR within folds of a group less that of the rest; NaN where no fold has both. These are all clips.

        Of a class, it is the mean over folds of the difference of recalls, with the weights n m / (n + m) of n clips in
        the group and m in the rest (Mantel and Haenszel; Greenland and Robins 1985, "Estimation of a common effect
        parameter from sparse follow-up data"): the group's hits, less as many as its share of the stratum.

        Args:
            clips: of the group, (..., strata).
            hits: of the group, in the same shape.
        """
        there = np.maximum(self.clips, 1)
        gained = self.by_class(hits - clips * self.hits / there)
        weights = self.by_class(clips * (self.clips - clips) / there)
        known = weights > 0
        each = np.divide(gained, weights, out=np.zeros_like(gained), where=known)
        counted = known.sum(-1)
        none = np.full(each.shape[:-1], np.nan)
        return np.asarray(np.divide(each.sum(-1), counted, out=none, where=counted > 0))


def p_of_clips(whole: Strata, group: Strata, permutations: int, stream: Stream) -> float:
    """Where any clips of a stratum are as likely the group's: its hits are hypergeometric there."""
    drawn = whole.difference(group.clips, _drawn_hits(whole, group, permutations, stream))
    return _p(whole.difference(group.clips, group.hits), [drawn], permutations)


def p_of_units(whole: Strata, units: Strata, mine: np.ndarray, blocks: np.ndarray, draws: int, stream: Stream) -> float:
    """Where whole units, such as people with all their clips, are exchanged with others of their block.

    Args:
        whole: all clips.
        units: of each of U units its clips and hits, (U, strata).
        mine: which units are the group's, bool (U,).
        blocks: number of each unit's block, int64 (U,).
        draws: permutations.
        stream: of these.
    """

    def difference(members: np.ndarray) -> np.ndarray:
        return whole.difference(members @ units.clips, members @ units.hits)

    drawn = map(difference, _exchanged(mine, blocks, draws, stream))
    return _p(difference(mine.astype(np.float64)), drawn, draws)


def _p(found: np.ndarray, drawn: Iterator[np.ndarray] | list[np.ndarray], permutations: int) -> float:
    """The share of differences as far from 0; one that is not there is as near as can be."""
    far = float(abs(found)) - _ROUNDING
    return (sum(int((np.abs(some) >= far).sum()) for some in drawn) + 1) / (permutations + 1)


def _exchanged(mine: np.ndarray, blocks: np.ndarray, draws: int, stream: Stream) -> Iterator[np.ndarray]:
    """Members of the group after each permutation within the blocks, float64 (some, U)."""
    name, seed, number = stream
    members = mine[np.argsort(blocks, kind="stable")].astype(np.float64)
    for start in range(0, draws, rows := max(1, _IN_MEMORY // len(mine))):
        some = min(rows, draws - start)
        keys = uniforms(f"{name}\0{number}", seed, start, some * len(mine)).reshape(some, len(mine))
        found = np.empty((some, len(mine)))
        np.put_along_axis(found, np.argsort(blocks + keys, axis=1), members[None], axis=1)
        yield found


def _drawn_hits(whole: Strata, group: Strata, permutations: int, stream: Stream) -> np.ndarray:
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
