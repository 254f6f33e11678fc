"""The table to paste into a paper or a sheet: a row for each run, as Markdown, LaTeX (booktabs) and CSV."""

from typing import NamedTuple

from mmadfer.report.cells import percent
from mmadfer.report.summary import STD_OVER_FOLDS, RunReport
from mmadfer.tasks.spec import Score
from mmadfer.utils.csv_cells import cell, to_csv

Row = tuple[str, list[float | None], list[tuple[float | None, float | None]]]
"""Name, recall of each class, and mean and deviation of each score."""
_TEX = {
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


class Pasted(NamedTuple):
    """One form of the table."""

    name: str
    text: str


def tables(report: RunReport) -> list[Pasted]:
    """All three forms; of CSV, the deviations have columns of their own, and all numbers are as in the other forms."""
    rows, scores = _rows(report), report.spec.scores
    labels = list(report.labels)
    return [
        Pasted("Markdown", _markdown(rows, labels, scores)),
        Pasted("LaTeX", _latex(rows, labels, scores)),
        Pasted("CSV", _csv(rows, labels, scores)),
    ]


def _rows(report: RunReport) -> list[Row]:
    names = report.spec.names
    if report.beside and report.beside[0].folds:  # else no fold is common to all
        there = [one for one in report.beside if one.folds]
        told = [[(one.scores[name], one.std.get(name)) for name in names] for one in there]
        runs = [_name(report) if one is report.beside[0] else one.name for one in there]
        return list(zip(runs, [one.recall for one in there], told, strict=True))
    return [(_name(report), report.recall, [(report.mean(name), report.std(name)) for name in names])]


def _name(report: RunReport) -> str:
    return str(report.about.get("name") or report.run.name)


def _headings(labels: list[str], scores: tuple[Score, ...]) -> list[str]:
    return ["Run", *labels, *(score.title for score in scores)]


def _cells(row: Row, scores: tuple[Score, ...], sign: str) -> list[str]:
    _, recall, told = row
    shown = [
        score.number(mean) + ("" if std is None else f" {sign} {score.number(std)}")
        for score, (mean, std) in zip(scores, told, strict=True)
    ]
    return [*map(percent, recall), *shown]


def _markdown(rows: list[Row], labels: list[str], scores: tuple[Score, ...]) -> str:
    heads = _headings(labels, scores)
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *([row[0], *_cells(row, scores, "±")] for row in rows)]
    told = [" | ".join(one.replace("|", "\\|") for one in line) for line in lines]
    return "".join(f"| {line} |\n" for line in told) + f"\n{_legend(labels)}\n"


def _latex(rows: list[Row], labels: list[str], scores: tuple[Score, ...]) -> str:
    heads = [_tex(head) for head in _headings(labels, scores)]
    body = [" & ".join([_tex(row[0]), *_cells(row, scores, "$\\pm$")]) for row in rows]
    return "\n".join(
        [
            f"% {_legend(labels)} Needs \\usepackage{{booktabs}}.",
            f"\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
            "\\toprule",
            " & ".join(heads) + " \\\\",
            "\\midrule",
            *(f"{line} \\\\" for line in body),
            "\\bottomrule",
            "\\end{tabular}",
            "",
        ]
    )


def _csv(rows: list[Row], labels: list[str], scores: tuple[Score, ...]) -> str:
    heads = ["run", *(f"recall_{label}" for label in labels)]
    heads += [name for score in scores for name in (score.name, f"{score.name}_std")]
    lines = [[cell(head) for head in heads]]
    for name, recall, told in rows:
        numbers = [("" if one is None else percent(one)) for one in recall]
        for score, pair in zip(scores, told, strict=True):
            numbers += ["" if one is None else score.number(one) for one in pair]
        lines.append([cell(name), *numbers])
    return to_csv(lines)


def _legend(labels: list[str]) -> str:
    recall = "Recall of each class over the clips of all folds, in percent. " if labels else ""
    return f"{recall}After ±: {STD_OVER_FOLDS}."


def _tex(text: str) -> str:
    return "".join(_TEX.get(mark, mark) for mark in text)
