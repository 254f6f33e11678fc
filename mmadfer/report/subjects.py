"""Subjects in reports: a table of runs side by side on the same clips, and what one gains over the others."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from mmadfer.errors import RunError
from mmadfer.evaluation.bootstrap import OverUnits
from mmadfer.evaluation.fold_result import FoldResult
from mmadfer.evaluation.saved_predictions import read_answers
from mmadfer.evaluation.subjects import SubjectTable, subject_table, subjects_of
from mmadfer.report.cells import likely
from mmadfer.run.directory import Run
from mmadfer.tasks.spec import Score

_SHOWN = 24
"""Subjects of a table on a terminal; of more, those with the lowest scores."""
GAIN_HEADINGS = ("over", "score", "difference", "95 % interval", "p", "better / equal / worse")
"""Over the cells of `gains`."""
Folds = Sequence[FoldResult]


def side_by_side(runs: Mapping[str, tuple[Run, Folds]]) -> tuple[SubjectTable | None, str]:
    """The table of these runs, of which the first is the one reported on; or None, and why, where a person wonders."""
    (first, folds), *_ = runs.values()
    store = first.config.data.store
    try:
        if not subjects_of(store, ()):
            return None, ""
        said = {name: [_said(run, usable)] for name, (run, usable) in runs.items()}
        subjects = subjects_of(store, [one for each in said.values() for one in each])
        return subject_table(subjects, said, folds[0].names, first.config.task.spec), ""
    except RunError as error:
        return None, str(error)


def _said(run: Run, folds: Folds) -> dict[int, Mapping[str, Any]]:
    return {one.fold: read_answers(run.fold(one.fold) / "predictions.csv", one) for one in folds}


def subject_list(table: SubjectTable) -> Table:
    """For a terminal: every subject, or those with the lowest scores in the first column; of several runs one score."""
    scores = table.spec.scores[: 1 if len(table.columns) > 1 else None]
    order, every = worst_first(table, table.columns[0])[:_SHOWN], len(table.names) <= _SHOWN
    told = " and ".join(score.title for score in scores) + table.spec.unit
    which = "" if every else f", the {_SHOWN} of {len(table.names)} with the lowest {table.spec.primary.title}"
    shown = Table(title=f"Subjects: {told}{which}", title_justify="left")
    for k, heading in enumerate(subject_headings(table, scores)):
        shown.add_column(escape(heading), justify="right" if k else "left")
    for k in sorted(order) if every else order:
        name, *cells = subject_cells(table, k, scores)
        shown.add_row(escape(name), *cells)
    shown.add_section()
    shown.add_row("mean", "", str(sum(table.clips)), *mean_cells(table, scores), style="bold")
    return shown


def worst_first(table: SubjectTable, column: str) -> list[int]:
    """Places of the subjects in the order of the primary score in a column."""
    primary = table.spec.primary
    order = np.argsort(table.of(column, primary.name) * (-1 if primary.smaller else 1), kind="stable")
    return [int(k) for k in order]


def subject_cells(table: SubjectTable, k: int, scores: Sequence[Score]) -> list[str]:
    """Of subject k: name, folds, clips, and these scores of each column."""
    told = [score.number(table.of(column, score.name)[k]) for column in table.columns for score in scores]
    return [table.names[k], ", ".join(map(str, table.folds[k])), str(table.clips[k]), *told]


def subject_headings(table: SubjectTable, scores: Sequence[Score]) -> list[str]:
    """Over `subject_cells`."""
    if len(table.columns) == 1:
        titles = [score.title for score in scores]
    else:
        titles = [f"{name}: {s.title}" if len(scores) > 1 else name for name in table.columns for s in scores]
    return ["subject", "fold", "clips", *titles]


def mean_cells(table: SubjectTable, scores: Sequence[Score]) -> list[str]:
    """The mean over subjects with its standard deviation, below the scores."""
    return [
        score.number(table.mean(column, score.name)) + score.spread(table.std(column, score.name))
        for column in table.columns
        for score in scores
    ]


def gains(table: SubjectTable) -> list[list[str]]:
    """What the first column gains over each other: its name, score, difference, interval, p, and counts of subjects."""
    first, *others = table.columns
    if len(table.names) < 2:
        return []
    return [
        [column, score.title, *gain_cells(score, table.difference(score.name, column, first))]
        for column in others
        for score in table.spec.scores
    ]


def gain_cells(score: Score, found: OverUnits) -> list[str]:
    """Difference, interval, p, and subjects with a better, an equal and a worse score."""
    better, worse = (found.lower, found.higher) if score.smaller else (found.higher, found.lower)
    interval = f"{score.signed(found.low)} to {score.signed(found.high)}"
    return [score.signed(found.value), interval, likely(found.p), f"{better} / {found.equal} / {worse}"]


def left_out_words(table: SubjectTable) -> str:
    """How many clips the table is of, and which it leaves out."""
    total = sum(table.clips)
    told = ", ".join(f"{count} of {count + total} of {column}" for column, count in table.left_out.items())
    clips = f"{total} clips of {len(table.names)} subjects"
    return f"{clips} that all these runs tested; left out: {told}." if told else f"{clips}."
