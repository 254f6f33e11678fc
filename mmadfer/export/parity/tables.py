"""A comparison for a person: its tables."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

from mmadfer.export.parity.comparison import ParityComparison
from mmadfer.tasks.classification import CLASSIFICATION
from mmadfer.utils.console import Console

NOT_A_NUMBER = "not finite"
"""How a difference is told where a logit is no finite number."""
_VERDICT_COLOURS = {"passes": "green", "differs": "red", "simulated": "yellow"}


def show_parity(comparison: ParityComparison, console: Console | None = None) -> None:
    """Print the comparison: scores, differences, clips that are furthest apart, and what was not run."""
    report, console = comparison.to_dict(), console or Console()
    for table in (_scores_table(report), _differences_table(report)):
        if table.row_count:  # the first is of classes alone
            console.print(table)
    for form in report["forms"]:
        clips = ", ".join(f"{_place(clip)} {_number(clip['difference'])}" for clip in form["worst"][:3])
        _say(console, f"{form['name']}, furthest apart: {clips}")
    for line in _warnings(report):
        _say(console, line, "yellow")


def _place(clip: dict[str, Any]) -> str:
    return f"{clip['id']} step {clip['step']}" if "step" in clip else str(clip["id"])


def _warnings(report: dict[str, Any]) -> Iterable[str]:
    for form in report["forms"]:
        if form["note"]:
            yield f"{form['name']}: {form['note']}"
    told = {"not_run": "was not run", "unusable": "cannot be used", "unread": "could not be read"}
    for what, said in told.items():
        for name, reason in report[what].items():
            yield f"{name} {said}: {reason}"
    yield from report["remarks"]


def _say(console: Console, text: str, colour: str = "default") -> None:
    console.print(f"[{colour}]{escape(text)}", soft_wrap=True, highlight=False)


def _readings(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [report["served"], report["file_vs_store"]]


def _scores_table(report: dict[str, Any]) -> Table:
    table = Table(
        "form", *CLASSIFICATION.titles, "labels as torch's", title=f"{report['clips']} clips, from file to label"
    )
    rows = [("torch", report["reference"]["scores"], "")]
    rows += [(one["name"], one["scores"], _share(one["label_agreement"])) for one in _readings(report)]
    rows += [(one["name"], one["scores"], _share(one["from_the_file"]["label_agreement"])) for one in report["forms"]]
    rows += [("recorded in training, whole fold", report["reference"].get("recorded", {}), "")]
    for name, score, agreement in rows:
        if set(CLASSIFICATION.names) <= set(score):
            table.add_row(escape(name), *(one.shown(score[one.name]) for one in CLASSIFICATION.scores), agreement)
    return table


def _differences_table(report: dict[str, Any]) -> Table:
    """Forms against torch on the very same arrays; other readings of the files against torch's own."""
    table = Table(Column("output - torch", overflow="fold"), title="Differences")
    for title in ("in", "max", "mean", "median", "99 %", "labels", ""):
        table.add_column(title, no_wrap=True)
    rows = [(one, one["arithmetic"], one["logit_difference"], one["verdict"]) for one in report["forms"]]
    rows += [(one, "fp32", one, "passes" if one["passed"] else "differs") for one in _readings(report)]
    for one, arithmetic, found, verdict in rows:
        table.add_row(escape(one["name"]), arithmetic, *_numbers(found), f"[{_VERDICT_COLOURS[verdict]}]{verdict}")
    return table


def _numbers(found: dict[str, Any]) -> Sequence[str]:
    agreement = found["label_agreement"]
    return [*(_number(found[kind]) for kind in ("max", "mean", "median", "p99")), _share(agreement)]


def _share(value: float | None) -> str:
    """Of equal labels; nothing where there are values."""
    return "" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return NOT_A_NUMBER if value is None else f"{value:.1e}"
