"""Curves over the epochs as SVG that takes the colours of the page it stands in."""

import io
import re
from collections.abc import Sequence
from typing import Any

from mmadfer.evaluation.fold_result import FoldResult
from mmadfer.utils.optional import need

FOLD_COLOURS = ("#3b82c4", "#e0812b", "#2f9e6e", "#c2557f", "#8a6fd1", "#9a8b25", "#2aa5b8")
"""Of the folds; each stands out on white and on black."""
_TEXT = "#010203"
"""Stands for the page's own text colour."""


def curve(folds: Sequence[FoldResult], value: str, title: str, scale: float = 1.0) -> str:
    """One line per fold of `value` (`loss`, a score) times `scale`, and their mean; "" without any."""
    series = {fold.fold: points for fold in folds if (points := _points(fold, value, scale))}
    if not series:
        return ""
    need("matplotlib", extra="train")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": value,
        "font.size": 11,
        "font.family": "sans-serif",
    }
    with rc_context({**style, **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), _TEXT)}):
        figure = Figure(figsize=(5.2, 3.2), layout="constrained")
        _draw(figure.add_subplot(), series, {fold.fold for fold in folds if fold.usable}, title)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(buffer.getvalue(), title, value)


def _draw(axes: Any, series: dict[int, dict[int, float]], usable: set[int], title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for fold, points in series.items():
        colour = FOLD_COLOURS[(fold - 1) % len(FOLD_COLOURS)]
        marker = "o" if len(points) == 1 else None
        axes.plot(list(points), list(points.values()), color=colour, linewidth=1.4, marker=marker, label=f"fold {fold}")
    mean = _mean({fold: points for fold, points in series.items() if fold in usable})
    if mean:
        axes.plot(list(mean), list(mean.values()), color=_TEXT, linewidth=2.4, label="mean")
    axes.set_title(title, fontsize=12, loc="left")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_TEXT)
    axes.legend(fontsize=9, frameon=False, ncols=2)


def _points(fold: FoldResult, value: str, scale: float) -> dict[int, float]:
    found = {event["epoch"]: event.get(value) for event in fold.curves}
    return {epoch: scale * number for epoch, number in found.items() if isinstance(number, int | float)}


def _mean(series: dict[int, dict[int, float]]) -> dict[int, float]:
    if len(series) < 2:
        return {}
    epochs = sorted(set.intersection(*(set(points) for points in series.values())))
    return {epoch: sum(points[epoch] for points in series.values()) / len(series) for epoch in epochs}


def _inline(svg: str, title: str, value: str) -> str:
    """The `<svg>` element alone, flexible in size, its names made unique in the page."""
    svg = svg[svg.index("<svg") :].replace(_TEXT, "currentColor")
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{value}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return svg.replace("<svg", f'<svg role="img" aria-label="{title} per epoch"', 1)
