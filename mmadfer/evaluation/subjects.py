"""Subjects as the units of a result: the scores of each on clips that all runs tested, and a test over subjects."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmadfer.data.store.store import Clip, Store
from mmadfer.data.traces import Trace
from mmadfer.errors import DataError, RunError
from mmadfer.evaluation.bootstrap import OverUnits, estimate_over_units
from mmadfer.tasks.spec import TaskSpec

Said = Mapping[int, Mapping[str, Any]]
"""Fold -> clip -> its label and the predicted one, or a `Trace`: what a run says of its test clips."""
OVER_SUBJECTS = (
    "p: share of sign patterns of the subjects' differences whose mean is as far from 0 or farther (all 2^n patterns "
    "where these are no more than the resamples, else so many at random). The interval is between the percentiles 2.5 "
    "and 97.5 of resamples of whole subjects. Both cover the choice of subjects, and not training."
)


@dataclass(frozen=True)
class SubjectTable:
    """S subjects by name, the scores of each in R columns, on clips that all columns tested."""

    spec: TaskSpec
    columns: tuple[str, ...]
    """A run, or a row of a sweep with all its seeds."""
    names: tuple[str, ...]
    folds: tuple[tuple[int, ...], ...]
    """That tested each subject."""
    clips: tuple[int, ...]
    """Of each subject."""
    scores: np.ndarray
    """float64 (S, R, scores); of several seeds their mean."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Column -> clips that it tested and another did not."""

    def of(self, column: str, score: str) -> np.ndarray:
        """A score of each subject, float64 (S,)."""
        return np.asarray(self.scores[:, self.columns.index(column), self.spec.names.index(score)])

    def mean(self, column: str, score: str) -> float:
        """Over the subjects, each of which counts the same."""
        return float(self.of(column, score).mean())

    def std(self, column: str, score: str) -> float | None:
        """Sample standard deviation over subjects; None for one subject."""
        return float(self.of(column, score).std(ddof=1)) if len(self.names) > 1 else None

    def difference(self, score: str, before: str, after: str, resamples: int = 10_000, seed: int = 0) -> OverUnits:
        """How much `after` gains over `before`, with the paired test over subjects."""
        return estimate_over_units(self.of(after, score) - self.of(before, score), resamples, seed)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        keys = self.spec.names
        rows = [
            {
                "subject": name,
                "folds": list(self.folds[k]),
                "clips": self.clips[k],
                **{col: dict(zip(keys, self.scores[k, r].tolist(), strict=True)) for r, col in enumerate(self.columns)},
            }
            for k, name in enumerate(self.names)
        ]
        means = {
            column: {key: {"mean": self.mean(column, key), "std": self.std(column, key)} for key in keys}
            for column in self.columns
        }
        return {"columns": list(self.columns), "left_out": self.left_out, "over_subjects": means, "each": rows}

    def gain(self, before: str, after: str, resamples: int = 10_000, seed: int = 0) -> dict[str, Any]:
        """`difference` of every score, for JSON; nothing of one subject."""
        if len(self.names) < 2:
            return {}
        return {key: asdict(self.difference(key, before, after, resamples, seed)) for key in self.spec.names}


def subjects_of(store: Path | None, said: Iterable[Said]) -> dict[str, str]:
    """Clip -> subject, of the clips that runs say something of; empty where the store knows no subjects.

    Raises:
        RunError: the store cannot be read, lacks a clip, or has another label for one.
    """
    if store is None:
        return {}
    clips = clips_of(store)
    if not any(clip.subject for clip in clips.values()):
        return {}
    check_same_clips(store, clips, said)
    return {name: clip.subject for name, clip in clips.items() if clip.subject}


def clips_of(store: Path) -> dict[str, Clip]:
    """What a store says of its clips.

    Raises:
        RunError: it cannot be read.
    """
    try:
        with Store(store) as opened:
            return opened.clips
    except DataError as error:
        raise RunError(str(error)) from error


def check_same_clips(store: Path, clips: Mapping[str, Clip], said: Iterable[Said]) -> None:
    """Raise a RunError where a store lacks a clip that runs say something of, or has another label for it."""
    for one in said:
        for name, answer in ((name, answer) for told in one.values() for name, answer in told.items()):
            if name not in clips or (isinstance(answer, tuple) and clips[name].label != answer[0]):
                raise RunError(f"{store} is another store than that of the run: clip {name!r} is not the same there")


def subject_table(
    subjects: Mapping[str, str], columns: Mapping[str, Sequence[Said]], labels: tuple[str, ...], spec: TaskSpec
) -> SubjectTable | None:
    """The scores of every subject, on the clips that all runs have tested; None where there is no such clip.

    Args:
        subjects: clip -> subject; clips without one are left out.
        columns: name -> what its runs say, one for each seed.
        labels: in the order of the classes, or names of values.
        spec: the task of all.
    """
    tested = {column: [_tested(one, subjects) for one in runs] for column, runs in columns.items()}
    common = sorted(set.intersection(*({*one} for runs in tested.values() for one in runs)))
    if not common:
        return None
    names, place = np.unique([subjects[clip] for clip in common], return_inverse=True)
    scores = [
        np.mean([_scores([one[clip] for clip in common], place, labels, spec) for one in runs], axis=0)
        for runs in tested.values()
    ]
    left_out = {column: len(runs[0]) - len(common) for column, runs in tested.items()}
    return SubjectTable(
        spec,
        tuple(columns),
        tuple(names.tolist()),
        _folds(next(iter(columns.values()))[0], dict(zip(common, place.tolist(), strict=True)), len(names)),
        tuple(np.bincount(place).tolist()),
        np.stack(scores, axis=1),
        {column: count for column, count in left_out.items() if count},
    )


def _tested(said: Said, subjects: Mapping[str, str]) -> dict[str, Any]:
    """What is said of the clips that have a subject, and a true value; a clip is tested in one fold."""
    whole = {clip: answer for told in said.values() for clip, answer in told.items() if clip in subjects}
    return {clip: one for clip, one in whole.items() if not (isinstance(one, Trace) and np.isnan(one.truth).all())}


def _folds(said: Said, place: Mapping[str, int], count: int) -> tuple[tuple[int, ...], ...]:
    """The folds that test each subject."""
    found = [set[int]() for _ in range(count)]
    for fold, told in said.items():
        for clip in told.keys() & place.keys():
            found[place[clip]].add(fold)
    return tuple(tuple(sorted(one)) for one in found)


def _scores(answers: Sequence[Any], place: np.ndarray, labels: tuple[str, ...], spec: TaskSpec) -> np.ndarray:
    """float64 (S, scores) of clips whose subjects stand at these places."""
    if isinstance(answers[0], Trace):
        each = spec.statistics_over_time([a.truth for a in answers], [a.output for a in answers], len(labels))
    else:
        number = {label: k for k, label in enumerate(labels)}
        truth, said = (np.array([number[answer[k]] for answer in answers]) for k in (0, 1))
        each = spec.statistics(truth, said, len(labels))
    sums = np.zeros((place.max() + 1, each.shape[1]))
    np.add.at(sums, place, each)
    return spec.from_sums(sums)
