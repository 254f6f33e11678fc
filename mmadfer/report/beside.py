"""Runs side by side: their scores on the folds that all have, and paired tests of each against the first."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from mmadfer.config import identity
from mmadfer.errors import RunError
from mmadfer.evaluation.bootstrap import Estimate
from mmadfer.evaluation.compare import compare_sides
from mmadfer.evaluation.compared_runs import ComparedRun, read_side
from mmadfer.evaluation.fold_result import FoldResult, class_recalls
from mmadfer.evaluation.groups import PairedGroup, holm, paired_groups
from mmadfer.report.cells import likely, percent
from mmadfer.report.of_clips import SUBJECT, OfClips, of_clips
from mmadfer.run.directory import Run
from mmadfer.tasks.calibration import abstaining
from mmadfer.tasks.spec import Score, TaskSpec

THIS = "this run"
COVERAGE = 0.8
"""At which the accuracy of answered clips is compared."""


@dataclass(frozen=True)
class Beside:
    """One run of a comparison, on the folds that all of them have."""

    name: str
    folds: tuple[int, ...]
    scores: dict[str, float | None]
    differs: dict[str, Any]
    """Configuration keys that are other than in the run reported on, with their values here."""
    note: str = ""
    std: dict[str, float | None] = field(default_factory=dict)
    """Sample standard deviation of the scores over these folds; None for fewer than two."""
    recall: list[float | None] = field(default_factory=list)
    """Of each class, in the clips of these folds together."""
    seconds: float | None = None
    """Of training these folds; None where one does not tell."""
    clips: OfClips | None = None
    gains: dict[str, Estimate] = field(default_factory=dict)
    """Each score less that of the run reported on, over the folds that both have (`mmadfer compare`)."""
    holm: dict[str, float] = field(default_factory=dict)
    """The p-values of `gains`, corrected for all runs and scores of the table."""
    gains_note: str = ""
    """Why there are none."""
    groups: list[PairedGroup] = field(default_factory=list)
    """This run first, then that reported on; subjects have a table of their own."""

    @property
    def ece(self) -> float | None:
        """The mean over folds of the expected calibration error."""
        return self.clips.ece if self.clips else None

    @property
    def answered(self) -> float | None:
        """The accuracy where the surest clips are answered, `COVERAGE` of all."""
        return abstaining(self.clips.confidence, self.clips.right, [COVERAGE])[0].accuracy if self.clips else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        told: dict[str, Any] = {"name": self.name, "folds": list(self.folds), **self.scores}
        told |= {
            "differs": self.differs,
            "note": self.note,
            "std": self.std,
            "recall": self.recall,
            "seconds": self.seconds,
        }
        told |= {"ece": self.ece, f"accuracy_at_{COVERAGE:.0%}": self.answered} if self.clips else {}
        gains = {name: {**asdict(one), "holm": self.holm[name]} for name, one in self.gains.items()}
        return {**told, "difference": gains, "groups": [asdict(one) for one in self.groups]} if gains else told


Found = dict[int, FoldResult]
Other = tuple[Run, Found, str]
"""A run, its usable folds by number, and why it cannot be compared, or ""."""


def set_beside(this: Run, mine: Found, others: Mapping[str, Other]) -> tuple[Beside, ...]:
    """The run reported on, then the others; nothing where there are none.

    Args:
        this: the run reported on.
        mine: its usable folds.
        others: by name.
    """
    if not others:
        return ()
    common = sorted(set(mine).intersection(*(found for _, found, doubt in others.values() if not doubt)))
    first, rows = _row(THIS, this, mine, common, {}), []
    side = cache(partial(read_side, this.path))
    for name, (run, found, doubt) in others.items():
        differs = {key: theirs for key, (_, theirs) in identity.differences(this.config, run.config).items()}
        row = _row(name, run, {} if doubt else found, common, differs, doubt)
        rows.append(_compared(row, first, side, run) if row.folds else row)
    return first, *_corrected(rows)


def _row(name: str, run: Run, found: Found, common: Iterable[int], differs: dict[str, Any], note: str = "") -> Beside:
    used = [found[fold] for fold in common if fold in found]
    spec, folds = run.config.task.spec, tuple(fold.fold for fold in used)
    values = {score: [fold.scores[score] for fold in used] for score in spec.names}
    scores = {score: statistics.fmean(each) if each else None for score, each in values.items()}
    note = note or ("" if used else "no fold in common")
    return Beside(name, folds, scores, differs, note, **_more(run, used, values))


def _more(run: Run, used: Sequence[FoldResult], values: Mapping[str, list[float]]) -> dict[str, Any]:
    tables = [fold.confusion for fold in used if fold.confusion is not None]
    seconds = [fold.seconds for fold in used if fold.seconds is not None]
    return {
        "std": {score: statistics.stdev(each) if len(each) > 1 else None for score, each in values.items()},
        "recall": class_recalls(np.sum(tables, axis=0)) if tables else [],
        "seconds": sum(seconds) if used and len(seconds) == len(used) else None,
        "clips": of_clips(run, used)[0],
    }


def _compared(row: Beside, first: Beside, side: Callable[[], ComparedRun], run: Run) -> Beside:
    """With its difference to the run reported on; that of groups where the store has any."""
    groups = _groups(row.clips, first.clips) if row.clips and first.clips else []
    try:
        return replace(row, gains=compare_sides(side(), read_side(run.path)).overall, groups=groups)
    except RunError as error:
        return replace(row, gains_note=str(error), groups=groups)


def _groups(one: OfClips, first: OfClips) -> list[PairedGroup]:
    columns = {name: told for name, told in first.columns.items() if name != SUBJECT}
    return paired_groups(one.folds, first.folds, columns, first.subjects)


def _corrected(rows: list[Beside]) -> list[Beside]:
    """With p-values corrected for all of them."""
    tests = [(k, name, one.p) for k, row in enumerate(rows) for name, one in row.gains.items()]
    corrected = holm([p for _, _, p in tests])
    found: list[dict[str, float]] = [{} for _ in rows]
    for (k, name, _), value in zip(tests, corrected, strict=True):
        found[k][name] = value
    return [replace(row, holm=one) for row, one in zip(rows, found, strict=True)]


def rows_of(beside: Sequence[Beside], labels: Sequence[str], spec: TaskSpec) -> list[tuple[str, list[str]]]:
    """The table: a heading, and a cell for each run."""
    rows = [("Folds", [", ".join(map(str, one.folds)) or "-" for one in beside])]
    for score in spec.scores:
        told = [score.number(one.scores[score.name]) + score.spread(one.std.get(score.name)) for one in beside]
        rows.append((score.heading, told))
    for k, label in enumerate(labels):
        rows.append((f"Recall of {label} %", [percent(one.recall[k] if one.recall else None) for one in beside]))
    if any(one.clips for one in beside):
        rows.append(("ECE %", [percent(one.ece) for one in beside]))
        rows.append((f"Accuracy % at {COVERAGE:.0%} coverage", [percent(one.answered) for one in beside]))
    if any(one.gains for one in beside):
        rows += [row for score in spec.scores for row in _gains(beside, score)]
    return [*rows, ("Hours", ["-" if one.seconds is None else f"{one.seconds / 3600:.2f}" for one in beside])]


def _gains(beside: Sequence[Beside], score: Score) -> list[tuple[str, list[str]]]:
    """Difference, interval and p of one score, of each run."""
    found = [one.gains.get(score.name) for one in beside]
    corrected = [one.holm.get(score.name) for one in beside]
    spans = ["" if one is None else f"{score.signed(one.low)} to {score.signed(one.high)}" for one in found]
    return [
        (f"{score.heading} less {THIS}", ["" if one is None else score.signed(one.value) for one in found]),
        ("95 % interval", spans),
        ("p", ["" if one is None else likely(one.p) for one in found]),
        ("p by Holm", ["" if one is None else likely(one) for one in corrected]),
    ]


def named(paths: Sequence[Path]) -> dict[str, Path]:
    """Runs by their names, told apart by their folders where two have one name."""
    names = [path.name for path in paths]
    return {path.name if names.count(path.name) == 1 else str(path): path for path in paths}
