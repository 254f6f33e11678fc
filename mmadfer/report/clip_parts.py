"""The parts of the page that come from the predictions of every clip, as cells."""

from itertools import groupby
from statistics import fmean
from typing import Any

from mmadfer.evaluation.groups import PAIRED_TEST, RULE, TEST, Group, PairedGroup
from mmadfer.evaluation.intervals import COVERS
from mmadfer.report.cells import gain, likely, percent, span
from mmadfer.report.clip_plots import coverage_plot, reliability_plots
from mmadfer.report.hardest import hardest
from mmadfer.report.of_clips import OfClips
from mmadfer.report.summary import RunReport

MOST_GROUPS = 40
"""Of one column that the page shows: those with most clips."""
OPEN_GROUPS = 12
"""A column with more is shut until it is asked for."""
GROUP_HEADINGS = ("Group", "Clips", "Accuracy %", "UAR %", "Less the rest, within folds", "Exchanged", "p", "Holm")
CALIBRATION_HEADINGS = ("Fold", "ECE %", "Cross-entropy", "Temperature", "ECE % with it", "Cross-entropy with it")


def clip_parts(report: RunReport, private: bool = True) -> dict[str, Any]:
    """What the template needs; nothing where predictions cannot be read. `private`: with the hardest clips."""
    found = report.of_clips
    if found is None:
        return {}
    return {
        "covers": COVERS,
        "scores": {name: span(ends) for name, ends in found.intervals.scores.items()},
        "calibration": _calibration(found),
        "calibration_headings": CALIBRATION_HEADINGS,
        "reliability": reliability_plots(found),
        "abstaining": [
            [f"{100 * one.coverage:.1f} %", one.clips, percent(one.accuracy), f"{one.threshold:.4f}"]
            for one in found.abstaining
        ],
        "coverage": coverage_plot(found),
        "hardest": hardest(found) if private else [],
        "groups": _columns(found),
        "open_groups": OPEN_GROUPS,
        "group_headings": GROUP_HEADINGS,
        "group_words": f"{RULE[0].upper()}{RULE[1:]}. {TEST}.",
        "paired": _paired(report),
        "paired_words": f"{PAIRED_TEST}.",
        "store_note": found.store_note,
    }


def _calibration(found: OfClips) -> dict[str, Any]:
    """A row for each fold, the mean where there are several, and why folds have no temperature."""
    rows = found.calibration
    cells = [
        [
            str(row.fold),
            *(percent(row.ece), f"{row.cross_entropy:.4f}"),
            "-" if row.temperature is None else f"{row.temperature:.3f}",
            percent(row.ece_after),
            "-" if row.cross_entropy_after is None else f"{row.cross_entropy_after:.4f}",
        ]
        for row in rows
    ]
    notes = {row.note for row in rows if row.note}
    told = [f"fold {', '.join(str(row.fold) for row in rows if row.note == note)}: {note}" for note in sorted(notes)]
    loss = [row.cross_entropy_after for row in rows if row.cross_entropy_after is not None]
    mean = ["Mean", percent(found.ece), f"{fmean(row.cross_entropy for row in rows):.4f}"]
    mean += ["", percent(found.ece_after), f"{fmean(loss):.4f}" if len(loss) == len(rows) else "-"]
    return {"rows": cells, "mean": mean if len(rows) > 1 else [], "notes": told}


def _columns(found: OfClips) -> list[tuple[str, list[list[str]], int]]:
    """Name of a column, the rows of its groups, and how many there are in all."""
    return [_column(name, list(some)) for name, some in groupby(found.groups, key=lambda one: one.column)]


def _column(name: str, groups: list[Group]) -> tuple[str, list[list[str]], int]:
    kept = {id(one) for one in sorted(groups, key=lambda one: -one.clips)[:MOST_GROUPS]}
    return name, [_cells(one) for one in groups if id(one) in kept], len(groups)


def _cells(one: Group) -> list[str]:
    told = [one.value, str(one.clips), percent(one.accuracy), percent(one.uar)]
    if one.within_folds is None:
        return [*told, one.note, "", "", ""]
    return [*told, gain(one.within_folds), _exchanged(one), likely(one.p), likely(one.holm)]


def _exchanged(one: Group | PairedGroup) -> str:
    return "clips" if one.subjects is None else f"{one.subjects} subjects"


def _paired(report: RunReport) -> list[tuple[str, list[list[str]]]]:
    """Name of another run, and what it gains in each group over this one."""
    return [
        (
            run.name,
            [
                [f"{one.column}: {one.value}", str(one.clips), str(one.only_first), str(one.only_second)]
                + ([_exchanged(one), likely(one.p), likely(one.holm)] if one.p is not None else ["too few", "", ""])
                for one in run.groups[:MOST_GROUPS]
            ],
        )
        for run in report.beside
        if run.groups
    ]
