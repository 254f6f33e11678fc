"""The report for a terminal."""

from collections.abc import Mapping
from statistics import fmean, stdev

import numpy as np
from rich.box import SIMPLE
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from mmadfer.evaluation.fold_result import FoldResult
from mmadfer.evaluation.subjects import OVER_SUBJECTS
from mmadfer.report.cells import percent, span
from mmadfer.report.subjects import GAIN_HEADINGS, gains, left_out_words, subject_list
from mmadfer.report.summary import RESULT, STD_OVER_FOLDS, RunReport
from mmadfer.tasks.spec import Score, TaskSpec
from mmadfer.utils.console import Console


def show_report(report: RunReport, console: Console) -> None:
    """Print the folds, the classes and the comparison; loudly what is not there."""
    if not report.complete:
        console.print(_banner(report))
    console.print(_folds(report))
    console.print(f"Result: {RESULT}. ± is the {STD_OVER_FOLDS}.", style="dim", highlight=False)
    for line in _of_clips(report):
        console.print(line, style="dim", highlight=False, markup=False)
    if report.confusion is not None:
        console.print(_classes(report, report.confusion))
    if report.values:
        console.print(_values(report))
    if report.beside:
        console.print(_beside(report))
    _show_subjects(report, console)


def _of_clips(report: RunReport) -> list[str]:
    """Intervals, calibration and abstaining in three lines; or why there are none."""
    found = report.of_clips
    if found is None:
        return [f"No intervals and no calibration: {report.of_clips_note}"] if report.of_clips_note else []
    spans = [f"{score.title} {span(found.intervals.scores[score.name])}" for score in report.spec.scores]
    scaled = "" if found.ece_after is None else f", {percent(found.ece_after)} % by temperatures"
    answered = ", ".join(f"{percent(one.accuracy)} % at {one.coverage:.0%}" for one in found.abstaining)
    return [
        f"95 % intervals over test clips: {', '.join(spans)}.",
        f"Expected calibration error, mean over folds: {percent(found.ece)} %{scaled}.",
        f"Accuracy by coverage, the surest clips first: {answered}.",
    ]


def _show_subjects(report: RunReport, console: Console) -> None:
    if report.subjects_note:
        console.print(f"No table of subjects: {report.subjects_note}", style="dim", highlight=False, markup=False)
    if report.subjects is None:
        return
    console.print(subject_list(report.subjects))
    console.print(left_out_words(report.subjects), style="dim", highlight=False, markup=False)
    if rows := gains(report.subjects):
        table = Table(title="What this run gains, mean over subjects", title_justify="left")
        for heading in GAIN_HEADINGS:
            table.add_column(heading, justify="left" if heading in GAIN_HEADINGS[:2] else "right")
        for name, *cells in rows:
            table.add_row(escape(name), *cells)
        console.print(table)
        console.print(OVER_SUBJECTS, style="dim", highlight=False, markup=False)


def extra_headings(report: RunReport) -> list[str]:
    """Headings of what stands beside the result, and is none: the teacher's, of validation clips, of the best epoch."""
    titles = " / ".join(report.spec.titles)
    there = {"teacher": bool(report.teacher), "validation": report.validated}
    return [*(f"{what}: {titles}" for what, told in there.items() if told), f"best epoch: {titles} *"]


def beside_of(report: RunReport, fold: FoldResult) -> list[str]:
    """The cells of a fold under `extra_headings`."""
    taught = [together(report.spec, report.taught(fold.fold))] if report.teacher else []
    kept = [together(report.spec, fold.validation)] if report.validated else []
    return [*taught, *kept, f"{fold.best['epoch']}: {together(report.spec, fold.best)}" if fold.best else ""]


def beside_mean(report: RunReport) -> list[str]:
    """The cells of the mean under `extra_headings`."""
    names = report.spec.names
    taught = [together(report.spec, {name: report.mean_taught(name) for name in names})] if report.teacher else []
    kept = [together(report.spec, {name: report.validation(name) for name in names})] if report.validated else []
    return [*taught, *kept, together(report.spec, {name: report.best(name) for name in names})]


def together(spec: TaskSpec, scores: Mapping[str, float | None]) -> str:
    """All scores of a task in one cell."""
    return " / ".join(score.number(scores.get(score.name)) for score in spec.scores)


def scores_of(report: RunReport, scores: Mapping[str, float | None]) -> list[str]:
    """A cell for each score of the task."""
    return [score.number(scores[score.name]) for score in report.spec.scores]


def means(report: RunReport) -> list[str]:
    """The mean of each score over the folds, with its deviation."""
    return [
        score.number(report.mean(score.name)) + score.spread(report.std(score.name)) for score in report.spec.scores
    ]


def _banner(report: RunReport) -> Panel:
    lines = [f"{len(report.usable)} of {len(report.folds)} folds count; the mean is not the result of the whole run."]
    return Panel("\n".join(escape(line) for line in [*lines, *report.problems]), title="INCOMPLETE", style="bold red")


def _folds(report: RunReport) -> Table:
    spec = report.spec
    title = f"{report.about.get('name')}: {' and '.join(spec.titles)}{spec.unit}"
    table = Table(title=escape(title), title_justify="left")
    for heading in ("fold", "clips", "epoch", *spec.titles):
        table.add_column(heading, justify="right")
    for heading in extra_headings(report):
        table.add_column(heading, justify="right", style="dim")
    for fold in report.folds:
        if not fold.usable:
            table.add_row(str(fold.fold), "", f"{fold.epoch}/{fold.epochs}", fold.state, style="red")
            continue
        cells = [str(fold.fold), str(fold.clips), f"{fold.epoch}/{fold.epochs}", *scores_of(report, fold.scores)]
        table.add_row(*cells, *beside_of(report, fold))
    table.add_section()
    table.add_row("mean", str(report.clips), "", *means(report), *beside_mean(report), style="bold")
    table.caption = f"* {report.picked}"
    table.caption_justify = "left"
    return table


def _classes(report: RunReport, confusion: np.ndarray) -> Table:
    """Columns are numbered as the rows, so that eleven classes fit on a narrow terminal."""
    table = Table(title="Confusion over all test folds (rows: truth)", title_justify="left", box=SIMPLE, min_width=44)
    table.add_column("class", no_wrap=True)
    for number in range(1, len(report.labels) + 1):
        table.add_column(str(number), justify="right", no_wrap=True)
    table.add_column("recall", justify="right", style="bold", no_wrap=True)
    lines = zip(report.labels, confusion, report.recall, strict=True)
    for number, (label, row, recall) in enumerate(lines, 1):
        table.add_row(f"{number} {escape(label)}", *map(str, row), percent(recall))
    return table


def value_rows(report: RunReport) -> list[list[str]]:
    """A row for each value: its name, and the mean over folds of each score, with its deviation."""
    return [
        [name, *(_over_folds(score, report.by_value(f"{score.name}_{name}")) for score in report.spec.scores)]
        for name in report.values
    ]


def _over_folds(score: Score, found: list[float]) -> str:
    if not found:
        return score.number(None)
    return score.number(fmean(found)) + score.spread(stdev(found) if len(found) > 1 else None)


def _values(report: RunReport) -> Table:
    table = Table(title="Each value, mean over folds", title_justify="left", min_width=48)
    for heading in ("value", *report.spec.titles):
        table.add_column(heading, justify="right" if heading in report.spec.titles else "left")
    for name, *cells in value_rows(report):
        table.add_row(escape(name), *cells)
    return table


def _beside(report: RunReport) -> Table:
    table = Table(title="Beside other runs, on the folds that all have", title_justify="left", min_width=48)
    for heading in ("run", "folds", *report.spec.titles, "differs in"):
        table.add_column(heading, justify="right" if heading in report.spec.titles else "left")
    for row in report.beside:
        differs = row.note or ", ".join(f"{key}={value}" for key, value in row.differs.items())
        folds = ", ".join(map(str, row.folds))
        table.add_row(escape(row.name), folds, *scores_of(report, row.scores), escape(differs))
    return table
