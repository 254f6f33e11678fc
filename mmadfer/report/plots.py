"""Drawings as SVG, such as curves over the epochs, that take the colours of the page they stand in."""

import io
import re
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from mmadfer.evaluation.fold_result import FoldResult
from mmadfer.utils.colours import PALETTE
from mmadfer.utils.files import atomic
from mmadfer.utils.optional import need

NAMED_FOLDS = 14
"""Of more, such as a fold for each subject, only the mean is named."""
INK = "#010203"
"""Stands for the page's own text colour."""


def curve(folds: Sequence[FoldResult], value: str, title: str, scale: float = 1.0) -> str:
    """One line per fold of `value` (`loss`, a score) times `scale`, and their mean; "" without any."""
    series = {fold.fold: points for fold in folds if (points := _points(fold, value, scale))}
    if not series:
        return ""
    usable = {fold.fold for fold in folds if fold.usable}
    return drawing(value, f"{title} per epoch", lambda figure: _draw(figure.add_subplot(), series, usable, title))


def drawing(name: str, label: str, draw: Callable[[Any], None], size: tuple[float, float] = (5.2, 3.2)) -> str:
    """An `<svg>` element of what `draw` puts into a figure of matplotlib's.

    Args:
        name: a word that no other drawing of the page has.
        label: for those who cannot see it.
        draw: is given the figure; text is in the page's own colour, `INK` stands for that.
        size: width and height in inches.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    need("matplotlib", extra="train")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 11, "font.family": "sans-serif"}
    with rc_context({**style, **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK)}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(buffer.getvalue(), label, name)


def save(figure: Any, out: Path) -> None:
    """Write a figure of matplotlib's as its name ends, .png or .svg, atomically."""
    from matplotlib import rc_context

    svg = out.suffix.lower() == ".svg"
    with atomic(out) as temporary, rc_context({"svg.hashsalt": out.name, "svg.fonttype": "none"}):
        figure.savefig(temporary, format=out.suffix[1:].lower(), dpi=150, metadata={"Date": None} if svg else None)


def plain(axes: Any) -> None:
    """Without a frame, with a faint grid."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)


def _draw(axes: Any, series: dict[int, dict[int, float]], usable: set[int], title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    few = len(series) <= NAMED_FOLDS
    for fold, points in series.items():
        style = {"linewidth": 1.4, "label": f"fold {fold}"} if few else {"linewidth": 0.7, "alpha": 0.6}
        colour = PALETTE[(fold - 1) % len(PALETTE)]
        marker = "o" if len(points) == 1 else None
        axes.plot(list(points), list(points.values()), color=colour, marker=marker, **style)
    mean = _mean({fold: points for fold, points in series.items() if fold in usable})
    if mean:
        axes.plot(list(mean), list(mean.values()), color=INK, linewidth=2.4, label="mean")
    axes.set_title(title, fontsize=12, loc="left")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    plain(axes)
    if few or mean:
        axes.legend(fontsize=9, frameon=False, ncols=2)


def _points(fold: FoldResult, value: str, scale: float) -> dict[int, float]:
    found = {event["epoch"]: event.get(value) for event in fold.curves}
    return {epoch: scale * number for epoch, number in found.items() if isinstance(number, int | float)}


def _mean(series: dict[int, dict[int, float]]) -> dict[int, float]:
    if len(series) < 2:
        return {}
    epochs = sorted(set.intersection(*(set(points) for points in series.values())))
    return {epoch: sum(points[epoch] for points in series.values()) / len(series) for epoch in epochs}


def _inline(svg: str, label: str, name: str) -> str:
    """The `<svg>` element alone, flexible in size, its names made unique in the page."""
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
