"""Groups of test clips, such as people, sex or language: the scores of each, and tests with correction for many.

A group is tested against the rest by permutation within each fold. Where the subjects of clips are known, and each has
one value of the column, whole subjects are exchanged, for clips of one person are alike. Else clips of one fold and
true class are, as in Fisher's exact test. So neither an easy fold nor a mix of classes counts as a difference. Several
tests are corrected as in Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeVar

import numpy as np

from mmadfer.evaluation.bootstrap import estimate_over_units, mcnemar
from mmadfer.evaluation.permutations import Strata, p_of_clips, p_of_units
from mmadfer.evaluation.saved_predictions import ToldClips

FEWEST = 10
"""Clips that a group and the rest must have to be tested."""
FEWEST_SUBJECTS = 5
"""Subjects that both must have, in folds with subjects of both, where whole subjects are exchanged."""
PERMUTATIONS = 10_000
INDEPENDENT = "p is too small where clips of one person are alike"
RULE = (
    f"too few: fewer than {FEWEST} clips in the group or the rest, fewer than {FEWEST_SUBJECTS} subjects where these "
    "are exchanged, or a class that one of them lacks; these are not tested, and UAR is over the classes that are there"
)
TEST = (
    "Within folds: difference of the recalls of group and rest within each fold and true class, mean over folds "
    "(with Mantel-Haenszel weights), then over classes. "
    f"p: {PERMUTATIONS:,} permutations between group and rest (the least p is 0.0001), of whole subjects within their "
    "fold where the store knows subjects and each has one value in the column; else of clips within each fold and "
    f"true class, as if they were independent ({INDEPENDENT}). A column with two groups is one test. "
    "Holm: p corrected for all tests of the column"
)
PAIRED_TEST = (
    "p: sign-flip test over subjects of the difference of their accuracies where the store knows subjects "
    f"(too few: under {FEWEST} clips or {FEWEST_SUBJECTS} subjects); else the exact McNemar test of clips, as if they "
    f"were independent ({INDEPENDENT}). Holm: p corrected for all groups of the column"
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
    within_folds: float | None = None
    """What is tested: UAR less that of the column's other clips, within folds (`Strata.difference`); None: nothing."""
    p: float | None = None
    holm: float | None = None
    """p corrected for all tests of the column."""
    note: str = ""
    """Why it is not tested."""
    subjects: int | None = None
    """In the group, where whole subjects are exchanged; None: clips, as if they were independent."""


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
    """Over subjects, or of the exact McNemar test of clips; None where there are too few."""
    holm: float | None = None
    """p corrected for all groups of the column."""
    subjects: int | None = None
    """In the group, where the test is over them; None: over clips, as if they were independent."""


G = TypeVar("G", Group, PairedGroup)


def groups(
    folds: Sequence[ToldClips],
    columns: Mapping[str, Mapping[str, str]],
    subjects: Mapping[str, str],
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> list[Group]:
    """Every group of every column, in the order of the columns and of their values.

    Args:
        folds: what the model says of the test clips.
        columns: name -> clip -> value; clips without a value are in no group, and not in the rest.
        subjects: clip -> subject; a clip without one counts as a subject of its own. Empty: none is known.
        permutations: of each test.
        seed: of their draws.
    """
    each = (_column(folds, name, values, subjects, permutations, seed) for name, values in columns.items())
    return [one for column in each for one in _corrected(column)]


def _corrected(column: list[Group]) -> list[Group]:
    """With p corrected within the column; of two groups, both rows tell one test."""
    if len(column) == 2 and column[0].p is not None:
        return [replace(one, p=column[0].p, holm=column[0].p) for one in column]
    return _corrected_by_holm(column)


def paired_groups(
    first: Sequence[ToldClips],
    second: Sequence[ToldClips],
    columns: Mapping[str, Mapping[str, str]],
    subjects: Mapping[str, str],
    resamples: int = PERMUTATIONS,
    seed: int = 0,
) -> list[PairedGroup]:
    """Every group in two runs, on the clips that both have tested; subjects and correction as in `groups`."""
    one, other = (
        {clip: right for fold in run for clip, right in zip(fold.ids, fold.right.tolist(), strict=True)}
        for run in (first, second)
    )
    found = list[PairedGroup]()
    for column, values in columns.items():
        for value in sorted({values[clip] for clip in one if clip in values}):
            gains = {clip: one[clip] - other[clip] for clip in one if values.get(clip) == value and clip in other}
            found.append(_paired(column, value, gains, subjects, (resamples, seed)))
    return [one for _, some in groupby(found, key=lambda one: one.column) for one in _corrected_by_holm([*some])]


def _corrected_by_holm(column: list[G]) -> list[G]:
    corrected = iter(holm([one.p for one in column if one.p is not None]))
    return [one if one.p is None else replace(one, holm=next(corrected)) for one in column]


def _paired(
    column: str, value: str, gains: Mapping[str, int], subjects: Mapping[str, str], draws: tuple[int, int]
) -> PairedGroup:
    """Of clips with 1 where the first run alone is right, -1 where the second is."""
    alone = (sum(gain > 0 for gain in gains.values()), sum(gain < 0 for gain in gains.values()))
    basis = PairedGroup(column, value, len(gains), *alone)
    if not any(clip in subjects for clip in gains):
        return replace(basis, p=mcnemar(*alone) if len(gains) >= FEWEST else None)
    units = _units([*gains], subjects)
    means = np.bincount(units, weights=[*gains.values()]) / np.bincount(units)
    enough = len(gains) >= FEWEST and len(means) >= FEWEST_SUBJECTS
    return replace(basis, subjects=len(means), p=estimate_over_units(means, *draws).p if enough else None)


def _units(clips: Sequence[str], subjects: Mapping[str, str]) -> np.ndarray:
    """Number of each clip's subject, int64 (N,); one without a subject has a number of its own."""
    numbers = dict[tuple[bool, str], int]()
    return np.array(
        [numbers.setdefault((clip in subjects, subjects.get(clip, clip)), len(numbers)) for clip in clips], dtype=int
    )


def holm(p: Sequence[float]) -> list[float]:
    """Corrected p-values, in the order given: the k-th smallest of n times n - k + 1, at most 1, and never falling."""
    order, found, least = np.argsort(p, kind="stable"), [0.0] * len(p), 0.0
    for k, place in enumerate(order):
        least = max(least, min(1.0, (len(p) - k) * p[place]))
        found[place] = least
    return found


@dataclass(frozen=True)
class _Clips:
    """N test clips that have a value in a column."""

    name: str
    told: np.ndarray
    """The value of each, (N,)."""
    folds: np.ndarray
    """Number of each clip's fold, int64 (N,)."""
    truth: np.ndarray
    right: np.ndarray
    units: np.ndarray | None
    """Number of each clip's subject, int64 (N,), where whole subjects are exchanged."""
    classes: int
    count: int
    """Strata: folds times classes."""

    @property
    def strata(self) -> np.ndarray:
        """Of each clip, int64 (N,)."""
        return self.folds * self.classes + self.truth

    def counts(self, mine: np.ndarray | slice = slice(None)) -> Strata:
        """Of these clips, or some of them."""
        return Strata.of(self.strata[mine], self.right[mine], self.count, self.classes)


def _column(
    folds: Sequence[ToldClips],
    name: str,
    values: Mapping[str, str],
    subjects: Mapping[str, str],
    permutations: int,
    seed: int,
) -> list[Group]:
    """The groups of one column, each with its own p."""
    rows = [(k, row) for k, one in enumerate(folds) for row, clip in enumerate(one.ids) if clip in values]
    if not rows:
        return []
    classes, ids = folds[0].probabilities.shape[1], [folds[k].ids[row] for k, row in rows]
    clips = _Clips(
        name,
        np.array([values[clip] for clip in ids]),
        np.array([k for k, _ in rows]),
        np.array([folds[k].truth[row] for k, row in rows]),
        np.array([folds[k].right[row] for k, row in rows]),
        _exchanged(ids, values, subjects),
        classes,
        len(folds) * classes,
    )
    return [
        _tested(clips, value, permutations, (name, seed, place))
        for place, value in enumerate(sorted({*clips.told.tolist()}))
    ]


def _exchanged(ids: Sequence[str], values: Mapping[str, str], subjects: Mapping[str, str]) -> np.ndarray | None:
    """The clips' subjects, where they are what is exchanged: they are known, and each has one value."""
    pairs = {(subjects[clip], values[clip]) for clip in ids if clip in subjects}
    if not pairs or len(pairs) > len({subject for subject, _ in pairs}):
        return None
    if all(subject == value for subject, value in pairs):  # the column of subjects: are one's clips as others'?
        return None
    return _units(ids, subjects)


def _tested(clips: _Clips, value: str, permutations: int, stream: tuple[str, int, int]) -> Group:
    """A group with its difference and p, or why there is none."""
    mine = clips.told == value
    whole, group = clips.counts(), clips.counts(mine)
    basis = Group(clips.name, value, int(mine.sum()), float(clips.right[mine].mean()), group.uar)
    if clips.units is not None:
        basis = replace(basis, subjects=len({*clips.units[mine]}))
    own, all_clips = whole.by_class(group.clips), whole.by_class(whole.clips)
    lacking = (all_clips > 0) & ((own == 0) | (own == all_clips))
    if min(own.sum(), (all_clips - own).sum()) < FEWEST or lacking.any():
        return replace(basis, note="too few")
    difference = float(whole.difference(group.clips, group.hits))
    if np.isnan(difference):
        return replace(basis, note="no other clips in its folds")
    if clips.units is None:
        return replace(basis, within_folds=difference, p=p_of_clips(whole, group, permutations, stream))
    units, member, blocks = _people(clips, mine)
    if min(_open(member, blocks), _open(~member, blocks)) < FEWEST_SUBJECTS:
        return replace(basis, note="too few subjects")
    p = p_of_units(whole, units, member, blocks, permutations, stream)
    return replace(basis, within_folds=difference, p=p)


def _people(clips: _Clips, mine: np.ndarray) -> tuple[Strata, np.ndarray, np.ndarray]:
    """Clips and hits of each of U subjects, whether it is the group's, and its block: the fold, if each has one."""
    assert clips.units is not None
    count = int(clips.units.max()) + 1
    table = Strata.of(clips.units * clips.count + clips.strata, clips.right, count * clips.count, clips.classes)
    units = Strata(table.clips.reshape(count, -1), table.hits.reshape(count, -1), clips.classes)
    member, blocks = np.zeros(count, bool), np.zeros(count, int)
    member[clips.units], blocks[clips.units] = mine, clips.folds
    in_one_fold = (blocks[clips.units] == clips.folds).all()
    return units, member, blocks if in_one_fold else np.zeros_like(blocks)


def _open(member: np.ndarray, blocks: np.ndarray) -> int:
    """Members in blocks that have others, too."""
    return int((member & np.isin(blocks, blocks[~member])).sum())
