"""A comparison as a picture: for each form, how far every clip is from PyTorch, beside what is accepted."""

from pathlib import Path
from typing import Any

import numpy as np

from mmadfer.export.parity.comparison import Form, ParityComparison
from mmadfer.utils.colours import PALETTE
from mmadfer.utils.files import atomic
from mmadfer.utils.optional import need

_SMALLEST_DRAWN = 1e-8
"""Smaller differences are drawn as this one: the axis is logarithmic, and has no zero."""

_WHITE = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}


def check_matplotlib() -> None:
    """Raise a MissingDependencyError where no picture can be drawn."""
    need("matplotlib", extra="export")


def draw_picture(comparison: ParityComparison, out: Path) -> None:
    """Write the picture, as SVG or PNG by the name of `out`.

    Clips are sorted by their largest difference of a logit, for each form on its own. A dashed line is the tolerance of
    the forms in its colour; a cross is a clip that gets another label, a triangle one with a logit that is no number.
    """
    check_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "parity", "font.size": 10, "font.family": "sans-serif"}):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        for form, colour in zip(comparison.forms, _colours(len(comparison.forms)), strict=True):
            _curve(axes, comparison, form, colour)
        _tolerances(axes, comparison)
        _dress(axes, comparison)
        with atomic(out) as temporary:
            metadata = {"Date": None} if out.suffix == ".svg" else {}
            figure.savefig(temporary, format=out.suffix[1:], dpi=150, metadata=metadata)


def _colours(count: int) -> list[str]:
    return [PALETTE[k % len(PALETTE)] for k in range(count)]


def _curve(axes: Any, comparison: ParityComparison, form: Form, colour: str) -> None:
    largest = comparison.largest(form).max(1)
    order = np.argsort(largest, kind="stable")
    share = (np.arange(len(order)) + 1) * 100 / len(order)
    finite = np.isfinite(largest[order])
    top = largest[np.isfinite(largest)].max(initial=_SMALLEST_DRAWN)
    heights = np.maximum(np.where(finite, largest[order], 3 * top), _SMALLEST_DRAWN)
    flips = set(comparison.flips(form))
    flipped = np.array([comparison.ids[i] in flips for i in order])
    name = (
        f"{form.name} ({form.arithmetic}) {comparison.verdict(form)}, {1 - len(flips) / len(order):.1%} of labels equal"
    )
    marker = "o" if len(order) <= 40 else None
    axes.plot(share[finite], heights[finite], color=colour, linewidth=1.6, marker=marker, markersize=3.5, label=name)
    axes.plot(share[flipped], heights[flipped], "x", color=colour, markersize=9, markeredgewidth=2)
    axes.plot(share[~finite], heights[~finite], "^", color=colour, markersize=7)


def _tolerances(axes: Any, comparison: ParityComparison) -> None:
    """One line for each limit, named; forms of 8 bits have none, for them labels and the score count."""
    limits: dict[float, list[str]] = {}
    for form in comparison.forms:
        kinds = limits.setdefault(form.tolerance.difference, [])
        kinds += [] if form.arithmetic in kinds else [form.arithmetic]
    limits.pop(np.inf, None)
    for limit, kinds in limits.items():
        axes.axhline(limit, color="#666666", linestyle="--", linewidth=1)
        words = f"{', '.join(kinds)}: at most {limit:g}"
        axes.annotate(words, (0, limit), (2, 3), textcoords="offset points", fontsize=8, color="#444444", bbox=_WHITE)


def _dress(axes: Any, comparison: ParityComparison) -> None:
    axes.set_yscale("log")
    axes.set_xlim(0, 101)
    axes.set_title(
        f"Exported forms against PyTorch, {len(comparison.ids)} clips from file to label", loc="left", fontsize=11
    )
    axes.set_xlabel("% of clips, sorted by difference (cross: another label; triangle: not a number)")
    axes.set_ylabel("largest difference of a logit")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    columns = 2 if len(comparison.forms) > 2 else 1
    axes.figure.legend(loc="outside lower left", fontsize=8, frameon=False, ncols=columns)
