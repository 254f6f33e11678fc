"""Drawings of what predictions of every clip tell: reliability, and coverage against accuracy."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmadfer.report.of_clips import OfClips
from mmadfer.report.plots import INK, NAMED_FOLDS, drawing, plain
from mmadfer.tasks.calibration import BINS, bins, coverage_curve
from mmadfer.utils.colours import PALETTE

_POINTS = 400
"""Of a line over coverage, at most."""
_Line = tuple[int, np.ndarray, np.ndarray]


def reliability_plots(found: OfClips) -> list[str]:
    """Accuracy against confidence of each fold, as the model is, and by its temperature where all folds have one."""
    plots = [_reliability("reliability", "As the model is", found, [one.probabilities for one in found.folds])]
    scaled = [found.calibrated(k) for k in range(len(found.folds))]
    known = [one for one in scaled if one is not None]
    if known and len(known) == len(scaled):
        plots.append(_reliability("calibrated", "By the temperature of each fold", found, known))
    return plots


def coverage_plot(found: OfClips) -> str:
    """Accuracy of the clips that are answered, against their share, of each fold and of all."""
    lines = [(one.fold, *_thin(*coverage_curve(one.confidence, one.right))) for one in found.folds]
    whole = _thin(*coverage_curve(found.confidence, found.right))
    return drawing(
        "coverage", "Accuracy against coverage", lambda figure: _draw_coverage(figure.add_subplot(), lines, whole)
    )


def _reliability(name: str, title: str, found: OfClips, shares: Sequence[np.ndarray]) -> str:
    sure = [one.confidence_of(each) for one, each in zip(found.folds, shares, strict=True)]
    lines = []
    for one, confidence in zip(found.folds, sure, strict=True):
        held = bins(confidence, one.right)
        lines.append((one.fold, held.confidence[held.clips > 0], held.accuracy[held.clips > 0]))
    all_clips = bins(np.concatenate(sure), found.right)
    return drawing(
        name,
        f"{title}: accuracy against confidence in {BINS} bins",
        lambda figure: _draw_reliability(figure.add_subplot(), lines, all_clips.confidence, all_clips.accuracy, title),
        (4.4, 4.0),
    )


def _draw_reliability(
    axes: Any, lines: Sequence[_Line], confidence: np.ndarray, accuracy: np.ndarray, title: str
) -> None:
    axes.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle="--", alpha=0.6)
    _draw_folds(axes, lines, marker="o")
    known = ~np.isnan(accuracy)
    if len(lines) > 1:
        style: dict[str, Any] = {"linewidth": 2.4, "marker": "o", "markersize": 4, "label": "all clips"}
        axes.plot(100 * confidence[known], 100 * accuracy[known], color=INK, **style)
    axes.set_title(title, fontsize=12, loc="left")
    axes.set_xlabel("mean confidence of a bin, %")
    axes.set_ylabel("accuracy, %")
    axes.set_xlim(0, 102)
    axes.set_ylim(-2, 102)
    plain(axes)
    axes.legend(fontsize=9, frameon=False, loc="upper left")


def _draw_coverage(axes: Any, lines: Sequence[_Line], whole: tuple[np.ndarray, np.ndarray]) -> None:
    _draw_folds(axes, lines, marker=None)
    if len(lines) > 1:
        axes.plot(100 * whole[0], 100 * whole[1], color=INK, linewidth=2.4, label="all clips")
    axes.set_title("Answering the surest clips only", fontsize=12, loc="left")
    axes.set_xlabel("coverage: clips answered, %")
    axes.set_ylabel("accuracy of these, %")
    axes.set_xlim(0, 102)
    plain(axes)
    axes.legend(fontsize=9, frameon=False)


def _draw_folds(axes: Any, lines: Sequence[_Line], marker: str | None) -> None:
    few = len(lines) <= NAMED_FOLDS
    for fold, across, up in lines:
        style: dict[str, Any] = {"linewidth": 1.2, "label": f"fold {fold}"} if few else {"linewidth": 0.7, "alpha": 0.6}
        colour = PALETTE[(fold - 1) % len(PALETTE)]
        axes.plot(100 * across, 100 * up, color=colour, marker=marker, markersize=3, **style)


def _thin(coverage: np.ndarray, accuracy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Evenly chosen points, the last one among them."""
    kept = np.unique(np.linspace(0, len(coverage) - 1, min(_POINTS, len(coverage))).round().astype(int))
    return coverage[kept], accuracy[kept]
