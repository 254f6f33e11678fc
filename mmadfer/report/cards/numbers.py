"""The tables of a model card: scores with their spread, recalls, calibration, groups and parity; {} where not known."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmadfer.contract import Contract
from mmadfer.contract.description import describe_contract
from mmadfer.contract.licences import NOT_KNOWN
from mmadfer.evaluation.groups import RULE, TEST, Group
from mmadfer.evaluation.intervals import COVERS
from mmadfer.report.cells import gain, likely, percent, span
from mmadfer.report.of_clips import SUBJECT, OfClips
from mmadfer.report.summary import RESULT, RunReport
from mmadfer.tasks.tables import TASKS, spec_of

Rows = Sequence[Sequence[str]]


def table(headings: Sequence[str], rows: Rows, before: Sequence[str] = (), after: Sequence[str] = ()) -> dict[str, Any]:
    """What the template makes a table of, with lines before and behind it."""
    return {"headings": headings, "rows": rows, "before": before, "after": after}


def titles(contract: Contract) -> dict[str, str]:
    """How people call the scores of a model's task; nothing where no package here has the task."""
    known = spec_of(contract.task).scores if contract.task in TASKS.names() else ()
    return {score.name: score.title for score in known}


def of_run(report: RunReport) -> dict[str, Any]:
    """The scores of each fold, their mean and spread, and the interval over test clips where it is known."""
    scores = report.spec.scores
    rows = [[str(one.fold), str(one.clips), *(s.number(one.scores[s.name]) for s in scores)] for one in report.usable]
    means = [score.number(report.mean(score.name)) + score.spread(report.std(score.name)) for score in scores]
    rows.append(["mean ± std", str(report.clips), *means])
    after = []
    if report.of_clips is not None:
        found = report.of_clips.intervals.scores
        rows.append(["95 % interval", "", *(span(found.get(score.name)) for score in scores)])
        after = [f"{COVERS}."]
    headings = ["fold", "test clips", *(score.heading for score in scores)]
    return table(headings, rows, [f"{RESULT.capitalize()}."], after)


def of_fold(contract: Contract) -> dict[str, Any]:
    """The scores that the contract carries, of this fold alone."""
    told = describe_contract(contract)
    there = [title for title in titles(contract).values() if title in told]
    if not there:
        return {}
    row = [str(contract.fold or NOT_KNOWN), *(str(told[title]) for title in there)]
    return table(
        ["fold", *there],
        [row],
        ["Of this fold alone; the scores of the other folds, and their spread, are not known."],
    )


def recalls(report: RunReport | None) -> dict[str, Any]:
    """Of each class, in the test clips of all folds together."""
    if report is None or report.confusion is None:
        return {}
    ends = report.of_clips.intervals.recall if report.of_clips else [None] * len(report.labels)
    shown = ["no test clips" if value is None else percent(value) for value in report.recall]
    counts = map(str, report.confusion.sum(axis=1).tolist())
    rows = list(zip(report.labels, shown, map(span, ends), counts, strict=True))
    return table(["class", "recall %", "95 % interval", "test clips"], rows)


def calibration(report: RunReport | None, contract: Contract) -> dict[str, Any]:
    """How often the model is right where it says that it is sure; and the temperature that it carries."""
    carried = contract.temperature
    looks = f" It is of these looks at a clip: {contract.temperature_looks}." if contract.temperature_looks else ""
    told = f"The model carries the temperature {carried:.3f}, which is applied on request.{looks}" if carried else ""
    found = report.of_clips if report else None
    if found is None:
        return table((), (), [f"{told} How well it is calibrated is not known."]) if told else {}
    rows = [
        [
            str(one.fold),
            percent(one.ece),
            NOT_KNOWN if one.temperature is None else f"{one.temperature:.3f}",
            percent(one.ece_after),
        ]
        for one in found.calibration
    ]
    rows.append(["mean", percent(found.ece), "", ""])
    what = "ECE, the expected calibration error in 15 bins of equal width, on the test clips; 0 is calibrated."
    return table(["fold", "ECE %", "temperature", "ECE % with it"], rows, [what], [told] if told else [])


def groups(report: RunReport | None) -> dict[str, Any]:
    """Scores of groups of people that the store names, and how far single people are apart; no person is named."""
    if report is None:
        return {}
    rows = _group_rows(report.of_clips) if report.of_clips else []
    people = _people(report)
    if not rows and not people:
        return {}
    headings = (
        ["column", "group", "clips", "accuracy %", "UAR %", "less the rest, within folds", "p by Holm"] if rows else []
    )
    unknown = "Of other groups (age, sex, skin, language) nothing is known."
    return table(
        headings,
        rows,
        people,
        [*([f"{TEST}. {RULE[0].upper()}{RULE[1:]}."] if rows else []), unknown],
    )


def _group_rows(found: OfClips) -> list[list[str]]:
    return [_group_row(one) for one in found.groups if one.column != SUBJECT]


def _group_row(one: Group) -> list[str]:
    numbers = [percent(one.accuracy), percent(one.uar), gain(one.within_folds)]
    return [one.column, one.value, str(one.clips), *numbers, one.note or likely(one.holm)]


def _people(report: RunReport) -> list[str]:
    """How far the people of the test clips are apart, where the store tells them apart."""
    found = report.subjects
    if found is None or len(found.names) < 2:
        return []
    score, column = found.spec.scores[0], found.columns[0]
    each = found.of(column, score.name)
    ends = {"mean": each.mean(), "lowest": each.min(), "highest": each.max()}
    told = ", ".join(f"{word} {score.shown(float(number))}" for word, number in ends.items())
    return [f"{score.title} of each of {len(found.names)} people: {told}."]


def parity(reports: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """How near exported files are to PyTorch."""
    rows = [_parity_row(report, form) for report in reports for form in report.get("forms", ())]
    if not rows:
        return {}
    headings = ["file", "arithmetic", "clips", "largest difference of a logit", "same label", "verdict"]
    what = "Outputs of the exported file against PyTorch's, on test clips from file to label:"
    return table(headings, rows, [what])


def _parity_row(report: Mapping[str, Any], form: Mapping[str, Any]) -> list[str]:
    apart = form.get("logit_difference", {})
    agreement, most = apart.get("label_agreement"), apart.get("max")
    clips = f"{report.get('clips')} of {report.get('of', NOT_KNOWN)}"
    same = NOT_KNOWN if agreement is None else f"{agreement:.2%}"
    furthest = NOT_KNOWN if most is None else f"{most:.2g}"
    return [str(form.get("name")), str(form.get("arithmetic")), clips, furthest, same, str(form.get("verdict"))]
