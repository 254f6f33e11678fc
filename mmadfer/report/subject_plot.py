"""A picture of subjects: the score of each in every run of a report."""

from typing import Any

import numpy as np

from mmadfer.evaluation.subjects import SubjectTable
from mmadfer.report.plots import INK, drawing, plain
from mmadfer.report.subjects import worst_first
from mmadfer.utils.colours import PALETTE

_NAMED = 100
"""Subjects whose names there is room for."""
_LONGEST = 24
"""Characters of a name."""
_MARKS = "osD^vP*"
"""Of the runs; each is larger than the one before, and hollow, so that equal scores hide none."""


def subject_plot(table: SubjectTable) -> str:
    """A row for each subject, from the lowest score of the first column to the highest, with a mark for each run."""
    title = f"{table.spec.primary.title} of each subject"
    size = (7.0, 1.1 + min(0.24 * len(table.names), 24))
    return drawing("subjects", title, lambda figure: _draw(figure, table, title), size)


def _draw(figure: Any, table: SubjectTable, title: str) -> None:
    score, order, axes = table.spec.primary, worst_first(table, table.columns[0]), figure.add_subplot()
    marks = {name: (100 if score.percent else 1) * table.of(name, score.name)[order] for name in table.columns}
    together, rows = np.stack([*marks.values()]), np.arange(len(order))
    axes.hlines(rows, together.min(0), together.max(0), color=INK, alpha=0.35, linewidth=1.2)
    for k, (name, values) in enumerate(marks.items()):
        colour, fill = PALETTE[k % len(PALETTE)], "none" if k else PALETTE[0]
        style = {"s": 20 + 30 * min(k, 4), "facecolors": fill, "edgecolors": colour, "linewidths": 1.5}
        axes.scatter(values, rows, marker=_MARKS[k % len(_MARKS)], label=name, zorder=3, **style)
    named = [table.names[k][:_LONGEST] if len(order) <= _NAMED else "" for k in order]
    axes.set_yticks(rows, named, parse_math=False)
    axes.set_ylim(-0.7, len(order) - 0.3)
    axes.tick_params(axis="y", labelsize=8, length=0)
    axes.set_xlabel(score.heading)
    axes.set_title(title, fontsize=12, loc="left")
    plain(axes)
    if len(marks) > 1:
        _add_legend(figure, axes)


def _add_legend(figure: Any, axes: Any) -> None:
    place = {"loc": "outside lower center", "ncols": 3, "fontsize": 9, "frameon": False}
    for text in figure.legend(*axes.get_legend_handles_labels(), **place).get_texts():
        text.set_parse_math(False)  # names of runs are not TeX
