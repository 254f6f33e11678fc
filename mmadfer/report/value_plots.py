"""Values for a person: predictions against the truth, and traces of clips over time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmadfer.data.draws import evenly
from mmadfer.data.traces import Trace
from mmadfer.errors import RunError
from mmadfer.evaluation.saved_predictions import read_traces
from mmadfer.report.plots import INK, NAMED_FOLDS, drawing, plain, save
from mmadfer.report.summary import RunReport
from mmadfer.run import directory as runs
from mmadfer.utils.colours import PALETTE
from mmadfer.utils.optional import need
from mmadfer.utils.terminal import shown

_MOST_POINTS = 4000
"""Of each fold in a plot of points; of more, evenly spread ones are drawn."""
CLIPS = 4
"""Whose traces are drawn."""
_MOST_VALUES = 6
"""That a trace has room for."""
Range = tuple[float, float]


def value_plots(report: RunReport) -> tuple[list[str], list[str], str]:
    """Points of each value, traces of some clips, and why there is none of them, if so; of a task that gives values."""
    try:
        folds = {
            fold.fold: read_traces(runs.fold_dir(report.run, fold.fold) / "predictions.csv", fold)
            for fold in report.usable
        }
    except RunError as error:
        return [], [], str(error)
    ranges = dict(report.config.task.values)
    points = [_points(folds, k, name, ranges[name]) for k, name in enumerate(ranges)]
    chosen = [(clip, trace) for clips in folds.values() for clip, trace in clips.items()]
    traces = [trace_plot(f"trace-{k}", *one, ranges) for k, one in enumerate(_spread(chosen))]
    return points, traces, ""


def _spread(clips: Sequence[tuple[str, Trace]]) -> list[tuple[str, Trace]]:
    """From the clip with the smallest error to that with the largest, evenly; of clips over time."""
    told = [(clip, trace) for clip, trace in clips if len(trace.seconds) > 1 and not np.isnan(trace.truth).all()]
    told.sort(key=lambda one: (float(np.nanmean(np.square(one[1].output - one[1].truth))), one[0]))
    return [told[k] for k in evenly(len(told), CLIPS)]


def _points(folds: Mapping[int, Mapping[str, Trace]], k: int, name: str, bounds: Range) -> str:
    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        axes.plot(bounds, bounds, color=INK, linewidth=1, alpha=0.5)
        for fold, clips in folds.items():
            truth, output = (np.concatenate([one[place][:, k] for one in clips.values()]) for place in (1, 2))
            kept = np.flatnonzero(~np.isnan(truth))
            some = kept[evenly(len(kept), _MOST_POINTS)]
            style = {"s": 9, "alpha": 0.5, "linewidths": 0, "rasterized": True}
            axes.scatter(truth[some], output[some], color=_colour(fold), label=f"fold {fold}", **style)
        axes.set(xlim=_wider(bounds), ylim=_wider(bounds), xlabel="truth", ylabel="prediction", aspect="equal")
        axes.set_title(shown(name), fontsize=12, loc="left", parse_math=False)
        plain(axes)
        if 1 < len(folds) <= NAMED_FOLDS:
            axes.legend(fontsize=9, frameon=False)

    return drawing(f"points-{k}", f"{name}: predictions against the truth", draw, (4.2, 4.2))


def trace_plot(name: str, clip: str, trace: Trace, ranges: Mapping[str, Range]) -> str:
    """A clip over time, a row for each value, as `<svg>`; `name` as for `drawing`."""
    return drawing(name, f"{clip} over time", lambda figure: draw_trace(figure, clip, trace, ranges), _size(ranges))


def _size(ranges: Mapping[str, Range]) -> tuple[float, float]:
    return 8.0, 0.8 + 1.7 * min(len(ranges), _MOST_VALUES)


def draw_trace(figure: Any, title: str, trace: Trace, ranges: Mapping[str, Range]) -> None:
    """Draw a clip into a figure of matplotlib's: the prediction, and the truth where there is one."""
    drawn = list(ranges.items())[:_MOST_VALUES]
    rows = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
    for k, (axes, (name, bounds)) in enumerate(zip(rows, drawn, strict=True)):
        if not np.isnan(trace.truth[:, k]).all():
            axes.plot(trace.seconds, trace.truth[:, k], color=INK, linewidth=1.6, label="truth")
        axes.plot(trace.seconds, trace.output[:, k], color=PALETTE[0], linewidth=1.6, label="prediction")
        axes.set_ylim(_wider(bounds))
        axes.set_ylabel(shown(name), parse_math=False)
        plain(axes)
    rows[0].set_title(shown(title), fontsize=12, loc="left", parse_math=False)
    if len(rows[0].get_lines()) > 1:
        rows[0].legend(fontsize=9, frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 0.97), borderpad=0)
    rows[-1].set_xlabel("seconds")


def write_trace(out: Path, title: str, trace: Trace, ranges: Mapping[str, Range]) -> None:
    """Write `draw_trace` as a file, .png or .svg, atomically.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    need("matplotlib", extra="train")
    from matplotlib.figure import Figure

    figure = Figure(figsize=_size(ranges), layout="constrained", facecolor="white")
    draw_trace(figure, title, trace, ranges)
    save(figure, out)


def _colour(fold: int) -> str:
    return PALETTE[(fold - 1) % len(PALETTE)]


def _wider(bounds: Range) -> Range:
    margin = 0.04 * (bounds[1] - bounds[0])
    return bounds[0] - margin, bounds[1] + margin
