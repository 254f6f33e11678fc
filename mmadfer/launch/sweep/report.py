"""The report on a sweep: each row's own, and DIR/report/sweep.json and sweep.md with one line for each row."""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from mmadfer.config import sweep
from mmadfer.errors import MmadferError
from mmadfer.launch.jobs import Requeued
from mmadfer.launch.sweep import seeds as sweep_seeds
from mmadfer.run import code_snapshot
from mmadfer.run import directory as runs
from mmadfer.tasks.classification import CLASSIFICATION
from mmadfer.tasks.spec import TaskSpec
from mmadfer.utils.console import Console
from mmadfer.utils.files import own_folder, write_json, write_text
from mmadfer.utils.terminal import say

_ROW_KEYS = ("complete", "folds_expected", "folds_used", "mean", "std", "problems")
"""Of a row's report.json."""


@dataclass(frozen=True)
class SweepReport(Requeued):
    """The report of a sweep, as a job of its own."""

    folder: str

    def __call__(self) -> None:
        """Write DIR/report and each row's."""
        code_snapshot.verify(Path(self.folder))
        say(write_sweep_report(Path(self.folder)))


def write_sweep_report(folder: Path) -> str:
    """Report on every row, and on all together; a row without a finished fold is named. Returns sweep.md's text.

    Raises:
        RunError: it is not a sweep.
    """
    table = sweep.table_of(folder)
    spec = spec_of_sweep(folder, table)
    rows = {row: _row(folder / row, spec) for row in table.rows}
    found = {"sweep": str(folder), "name": table.name, "base": table.base, "made": runs.now()}
    told = {row: {"keys": table.rows[row], **numbers} for row, numbers in rows.items()}
    seeds = sweep_seeds.join_seeds(table, rows, spec)
    own_folder(folder / "report")
    write_json(folder / "report" / "sweep.json", {**found, "rows": told, **({"seeds": seeds} if seeds else {})})
    text = _page(table, rows, spec, [*sweep_seeds.seed_lines(seeds, spec), *_validation(table, rows, spec)])
    write_text(folder / "report" / "sweep.md", text)
    return text


def spec_of_sweep(folder: Path, table: sweep.SweepTable) -> TaskSpec:
    """The task of its rows: of the first one that is there."""
    there = [folder / row for row in table.rows if (folder / row / "config.yaml").is_file()]
    return runs.read(there[0]).config.task.spec if there else CLASSIFICATION


def _row(run: Path, spec: TaskSpec) -> dict[str, Any]:
    """The numbers of a row's own report, which is written beside."""
    from mmadfer.report import report

    try:
        made = report(run, {}, Console(quiet=True)).to_dict()
        folds = [
            {key: fold.get(key) for key in ("fold", *spec.names)}
            for fold in made["folds"]
            if fold.get(spec.primary.name) is not None
        ]
        kept = {"validation": made["validation"]} if "validation" in made else {}
        return {**{key: made[key] for key in _ROW_KEYS}, "each_fold": folds, **kept}
    except (MmadferError, OSError) as error:  # the other rows have theirs
        expected, problems = _lacking(run, error)
        nothing = dict.fromkeys(spec.names)
        return {**dict(zip(_ROW_KEYS, (False, expected, [], nothing, nothing, problems), strict=True)), "each_fold": []}


def _lacking(run: Path, error: Exception) -> tuple[int | None, list[str]]:
    """How many folds a row without a report should have, and what is the matter."""
    from mmadfer.report.summary import gather

    try:
        found = gather(run)
    except (MmadferError, OSError):
        return None, [str(error)]
    return len(found.folds), [str(error)] if found.usable else found.problems


def _page(table: sweep.SweepTable, rows: dict[str, dict[str, Any]], spec: TaskSpec, more: list[str]) -> str:
    lines = [
        f"# {table.name}",
        "",
        f"Base {table.basis}. {' and '.join(spec.titles)}{spec.unit}: last epoch, mean ± sample standard deviation "
        "over folds.",
        "",
        f"| row | folds | {' | '.join(spec.titles)} | keys |",
        "|---|---" + "|---" * len(spec.scores) + "|---|",
        *(_line(row, numbers, table.own(row), spec) for row, numbers in rows.items()),
        *more,
    ]
    told = {row: " ".join("; ".join(numbers["problems"]).split()) for row, numbers in rows.items()}
    missing = [f"- {row}: {words}" for row, words in told.items() if words]
    return "\n".join([*lines, *(["", "Not in these numbers:", "", *missing] if missing else []), ""])


def _validation(table: sweep.SweepTable, rows: dict[str, dict[str, Any]], spec: TaskSpec) -> list[str]:
    """Lines of Markdown: rows, and the mean over a row's seeds, on clips kept for validation; none without these."""
    from mmadfer.report.terminal import together

    found = {row: numbers["validation"] for row, numbers in rows.items() if "validation" in numbers}
    for name, seeds in table.groups.items():
        each = [found[row] for row in seeds if row in found]
        if len({tuple(rows[row]["folds_used"]) for row in seeds if row in found}) == 1:  # other folds, other means
            found[name] = {score: fmean(one[score] for one in each) for score in spec.names}
    if not found:
        return []
    what = (
        "On the training clips that were kept for validation, after the last epoch: to choose a row by, not a result."
    )
    lines = [f"| {row} | {together(spec, numbers)} |" for row, numbers in found.items()]
    return ["", what, "", f"| row | {' / '.join(spec.titles)} |", "|---|---|", *lines]


def _line(row: str, numbers: dict[str, Any], keys: dict[str, Any], spec: TaskSpec) -> str:
    used, expected = len(numbers["folds_used"]), numbers["folds_expected"]
    mean, std = numbers["mean"], numbers["std"]
    scores = [one.number(mean.get(one.name)) + one.spread(std.get(one.name)) for one in spec.scores]
    shown = sweep.keys_in_words(keys).replace("|", "\\|")
    return f"| {row} | {used}{f' of {expected}' if expected else ''} | {' | '.join(scores)} | {shown} |"
