"""How the rows of a sweep stand, one line for each; SLURM is asked once for all."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.markup import escape
from rich.table import Table

from mmadfer.config import sweep
from mmadfer.launch import launching
from mmadfer.launch import status as states
from mmadfer.launch.sweep.launch import left_in
from mmadfer.tasks.classification import CLASSIFICATION
from mmadfer.tasks.spec import Score
from mmadfer.utils.console import Console

ALWAYS = ("finished", "running", "queued", "failed")
"""States of folds that have a column also where no fold is in them; others have one where there are some."""
_MAX_SHOWN_FOLDS = 10
"""Folds whose last words are shown; the status of a row has all of its own."""


@dataclass(frozen=True)
class SweepStatus:
    """A sweep."""

    folder: Path
    cluster: str
    rows: dict[str, states.RunStatus]
    report: str
    note: str = ""

    @property
    def folds(self) -> list[tuple[str, states.FoldStatus]]:
        """All folds, each with its row."""
        return [(row, fold) for row, one in self.rows.items() for fold in one.folds]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rows = {row: one.to_dict() for row, one in self.rows.items()}
        last = {"report": self.report, "note": self.note}
        return {"sweep": str(self.folder), "cluster": self.cluster, "rows": rows, **last}


def read_status(folder: Path) -> SweepStatus:
    """How a sweep stands; where SLURM does not answer, what lies on disk.

    Raises:
        RunError: it is not a sweep, or a row is damaged.
    """
    table = sweep.table_of(folder)
    left, told = left_in(folder, table.rows)
    rows = {row: states.read_status(folder / row, told) for row in table.rows}
    own = left.get(folder)
    if own and own.launching:
        rows = {row: _awaited(one, own.folds) for row, one in rows.items()}
    page = folder / "report" / "sweep.md"
    written, note = str(page) if page.is_file() else "", next((one.note for one in rows.values() if one.note), "")
    report = written
    if own and not note:
        jobs = told.query(own.jobs.values(), own.folder(folder))
        report = states.follower(folder, own.folder(folder), own.jobs.get("report", ""), jobs, written)
    return SweepStatus(folder, own.cluster if own else "", rows, report, note)


def _awaited(row: states.RunStatus, folds: list[int]) -> states.RunStatus:
    """With the folds that a launcher on this machine still comes to."""
    awaited = [one.state == "not begun" and one.fold in folds for one in row.folds]
    return replace(
        row, folds=[replace(one, state="queued") if yes else one for one, yes in zip(row.folds, awaited, strict=True)]
    )


def show_status(found: SweepStatus, console: Console | None = None) -> None:
    """Print the table, then the last words of what failed."""
    told = [f"{row} fold {fold.fold}: {fold.words}" for row, fold in found.folds if fold.words]
    more = (
        [f"... and {len(told) - _MAX_SHOWN_FOLDS} more: `{launching.command('status', found.folder)}/ROW`"]
        if told[_MAX_SHOWN_FOLDS:]
        else []
    )
    last = {"report": found.report, "note": found.note}
    folds = [fold for _, fold in found.folds]
    states.print_status(found.folder, _table(found), [*told[:_MAX_SHOWN_FOLDS], *more], last, folds, console)


def _table(found: SweepStatus) -> Table:
    where = f"{found.folder}" + (f", launched on {found.cluster}" if found.cluster else "")
    table = Table(title=escape(where), title_justify="left")
    shown = list(dict.fromkeys([*ALWAYS, *(fold.state for _, fold in found.folds)]))
    table.add_column("row")
    spec = next((one.spec for one in found.rows.values()), CLASSIFICATION)
    for heading in (*shown, *spec.titles):
        table.add_column(heading, justify="right")
    for row, one in found.rows.items():
        count = Counter(fold.state for fold in one.folds)
        table.add_row(row, *(str(count[state] or "") for state in shown), *(_mean(one, score) for score in spec.scores))
    return table


def _mean(row: states.RunStatus, score: Score) -> str:
    """Over the finished folds; the report checks them, and has the spread."""
    values = [fold.scores[score.name] for fold in row.folds if fold.state == "finished" and score.name in fold.scores]
    return score.shown(fmean(values)) if values else ""
