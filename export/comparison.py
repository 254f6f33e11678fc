"""How far exported forms of a model are from PyTorch on the same clips: numbers, tables, and a verdict on each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from mmadfer.errors import ParityError
from mmadfer.export.tolerance import TOLERANCES, Tolerance
from mmadfer.metrics import confusion, uar, war

WORST = 5
"""Clips of each form that the report names."""
STORE = "torch, from the store"
NOT_A_NUMBER = "not finite"
"""How a difference is told where a logit is no finite number."""


@dataclass(frozen=True)
class Form:
    """One form of the model, and what it said of the clips."""

    name: str
    """The file's name; `torch` for the reference."""
    logits: np.ndarray
    """float32 (clips, classes), from the media files."""
    arithmetic: str = "fp32"
    """By which its tolerance is chosen."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Which model it is: file, hashes, backend, scores in training."""
    note: str = ""
    """What a person should know of how it was run."""

    @property
    def tolerance(self) -> Tolerance:
        """How far from the reference it may be."""
        return TOLERANCES[self.arithmetic]


@dataclass(frozen=True)
class Comparison:
    """The same clips through all forms; classes are in the order of the labels."""

    labels: tuple[str, ...]
    ids: list[str]
    media: list[str]
    truth: list[int]
    reference: Form
    """PyTorch, from the media files."""
    forms: list[Form]
    stored: np.ndarray
    """float32 (clips, classes), PyTorch, from the store."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Which clips these are."""
    not_run: dict[str, str] = field(default_factory=dict)
    """Files that could not be run here, and why."""

    @property
    def passed(self) -> bool:
        """Whether every form is within its tolerance."""
        return not any(self.faults(form) for form in self.forms)

    def faults(self, form: Form) -> list[str]:
        """What is beyond the form's tolerance, in words."""
        apart, off = self.apart(form), self._score(form)["uar"] - self._score(self.reference)["uar"]
        equal = (len(self.ids) - len(self.flips(form))) / len(self.ids)
        return list(form.tolerance.faults(float(apart.max()), equal, abs(off)))

    def flips(self, form: Form) -> list[str]:
        """Ids of the clips that get another label."""
        differ = self.reference.logits.argmax(1) != form.logits.argmax(1)
        return [name for name, differs in zip(self.ids, differ, strict=True) if differs]

    def apart(self, form: Form) -> np.ndarray:
        """Absolute differences of the logits, float64 (clips, classes); infinite where one is not finite."""
        return distance(self.reference.logits, form.logits)

    def to_dict(self) -> dict[str, Any]:
        """The report, ready for JSON."""
        return {
            "passed": self.passed,
            "clips": len(self.ids),
            **self.facts,
            "reference": {**self.reference.facts, "scores": self._score(self.reference)},
            "forms": [self._told(form) for form in self.forms],
            "not_run": self.not_run,
            "file_vs_store": {
                **differences(self.reference.logits, self.stored),
                "scores": self._score(Form(STORE, self.stored)),
            },
        }

    def _told(self, form: Form) -> dict[str, Any]:
        limits = {name: value if isfinite(value) else None for name, value in vars(form.tolerance).items()}
        columns = zip(self.labels, self.reference.logits.T, form.logits.T, strict=True)
        return {
            "name": form.name,
            "arithmetic": form.arithmetic,
            **form.facts,
            "note": form.note,
            "passed": not self.faults(form),
            "faults": self.faults(form),
            "tolerance": limits,
            "logit_difference": differences(self.reference.logits, form.logits),
            "by_label": {label: spread(distance(one, other)) for label, one, other in columns},
            "scores": self._score(form),
            "label_flips": self.flips(form),
            "worst": self.worst(form),
        }

    def worst(self, form: Form) -> list[dict[str, Any]]:
        """The clips that are furthest apart, the furthest first."""
        largest = self.apart(form).max(1)
        order = np.argsort(-largest, kind="stable")[:WORST]
        return [{"id": self.ids[i], "media": self.media[i], "difference": _finite(largest[i])} for i in order]

    def _score(self, form: Form) -> dict[str, float]:
        table = confusion(self.truth, form.logits.argmax(1), len(self.labels))
        return {"uar": float(uar(table)), "war": float(war(table))}


def differences(one: np.ndarray, other: np.ndarray) -> dict[str, float | None]:
    """How far two arrays of logits (clips, classes) are apart, over all logits, and the share of equal labels."""
    agreement = float((one.argmax(1) == other.argmax(1)).mean())
    return {**spread(distance(one, other)), "label_agreement": agreement}


def spread(apart: np.ndarray) -> dict[str, float | None]:
    """Largest, mean and median difference, and the one that 99 % do not exceed; None for one that is not finite."""
    return {
        "max": _finite(apart.max()),
        "mean": _finite(apart.mean()),
        "median": _finite(np.median(apart)),
        "p99": _finite(np.quantile(apart, 0.99, method="higher")),
    }


def distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Absolute differences float64; infinite where either is not a finite number, even if both are."""
    finite = np.isfinite(one) & np.isfinite(other)
    return np.where(finite, np.abs(np.where(finite, one, 0).astype(np.float64) - np.where(finite, other, 0)), inf)


def _finite(value: Any) -> float | None:
    return float(value) if isfinite(value) else None


def check(comparison: Comparison) -> None:
    """Pass, or say what differs.

    Raises:
        ParityError: a form is beyond its tolerance.
    """
    told = [_fault(comparison, form) for form in comparison.forms if comparison.faults(form)]
    if told:
        raise ParityError(
            f"{'; '.join(told)}. Don't serve what differs; export it anew, in float32 (--precision fp32) if it is not, "
            "and if that does not help, report it with these numbers."
        )


def _fault(comparison: Comparison, form: Form) -> str:
    worst = comparison.worst(form)[0]
    return (
        f"{form.name} ({form.arithmetic}) does not give PyTorch's answer on {len(comparison.ids)} clips: "
        f"{', and '.join(comparison.faults(form))}; clip {worst['id']!r}, {worst['media']}, is furthest apart"
    )


def show(comparison: Comparison, console: Console | None = None) -> None:
    """Print the comparison: scores, differences, clips that are furthest apart, and what was not run."""
    report, console = comparison.to_dict(), console or Console()
    console.print(_scores_table(report), _differences_table(report))
    for form in report["forms"]:
        clips = ", ".join(f"{clip['id']} {_number(clip['difference'])}" for clip in form["worst"][:3])
        _say(console, f"{form['name']}, furthest apart: {clips}")
        if form["note"]:
            _say(console, f"{form['name']}: {form['note']}", "yellow")
    for name, reason in report["not_run"].items():
        _say(console, f"{name} was not run: {reason}", "yellow")


def _say(console: Console, text: str, colour: str = "default") -> None:
    console.print(f"[{colour}]{escape(text)}", soft_wrap=True, highlight=False)


def _scores_table(report: dict[str, Any]) -> Table:
    table = Table("form", "UAR", "WAR", title=f"{report['clips']} clips, from file to label")
    rows = {"torch": report["reference"]["scores"], STORE: report["file_vs_store"]["scores"]}
    rows |= {form["name"]: form["scores"] for form in report["forms"]}
    rows["recorded in training, whole fold"] = report["reference"].get("recorded", {})
    for name, score in rows.items():
        if {"uar", "war"} <= set(score):
            table.add_row(escape(name), f"{score['uar']:.2%}", f"{score['war']:.2%}")
    return table


def _differences_table(report: dict[str, Any]) -> Table:
    table = Table(Column("logits - torch", overflow="fold"), title="Differences")
    for title in ("in", "max", "mean", "median", "99 %", "labels", ""):
        table.add_column(title, no_wrap=True)
    for form in report["forms"]:
        verdict = "[green]passes" if form["passed"] else "[red]differs"
        table.add_row(escape(form["name"]), form["arithmetic"], *_numbers(form["logit_difference"]), verdict)
    table.add_row(STORE, "fp32", *_numbers(report["file_vs_store"]), "")
    return table


def _numbers(found: dict[str, float | None]) -> Sequence[str]:
    agreement = found["label_agreement"]
    return [*(_number(found[kind]) for kind in ("max", "mean", "median", "p99")), f"{agreement:.1%}"]


def _number(value: float | None) -> str:
    return NOT_A_NUMBER if value is None else f"{value:.1e}"
