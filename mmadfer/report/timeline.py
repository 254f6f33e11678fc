"""What is said of a video over time, as a picture: a row for each person, with the probabilities of the classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmadfer.report.plots import INK, plain, save
from mmadfer.runtime.prediction import Prediction
from mmadfer.runtime.stretches import Stretch, by_person, longest_shown, stretches
from mmadfer.utils.colours import PALETTE
from mmadfer.utils.optional import need
from mmadfer.utils.terminal import shown

_NAMED = len(PALETTE)
"""Classes or values that get a colour and a name, those with the highest mean; the others are grey."""
Range = tuple[float, float]


def write_timeline(out: Path, title: str, prediction: Prediction, ranges: Mapping[str, Range]) -> None:
    """Draw the probabilities of each person's windows over time, or their values, and write them as PNG or SVG; of more
    than `MOST_PEOPLE`, those who are shown longest.

    Each window is drawn over its own stretch (`stretches`); where nothing could be predicted there is a gap. Above them
    stands the label of each window by its colour.

    Args:
        out: the file, .png or .svg, written atomically.
        title: stands above it.
        prediction: of a model of classes, or of values of whole clips or windows.
        ranges: of the values, by name; none of classes.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    need("matplotlib", extra="train")
    from matplotlib.figure import Figure

    own = by_person(prediction.people, prediction.segments)
    told = {number: stretches(segments) for number, segments in own.items()}
    people = longest_shown(told)
    figure = Figure(figsize=(9.0, 0.9 + 2.1 * len(people)), layout="constrained", facecolor="white")
    rows = figure.subplots(len(people), 1, sharex=True, squeeze=False)[:, 0]
    for axes, number in zip(rows, people, strict=True):
        _draw(axes, told[number], ranges)
        axes.set_title("" if number is None else f"person {number}", fontsize=10, loc="left")
    figure.suptitle(shown(title), fontsize=12, x=0.01, ha="left", parse_math=False)
    rows[-1].set_xlabel("seconds")
    save(figure, out)


def _draw(axes: Any, told: Sequence[Stretch], ranges: Mapping[str, Range]) -> None:
    key = "values" if ranges else "probabilities"
    names = list(next(one.segment[key] for one in told if one.segment[key]))
    table = np.array([[one.segment[key].get(name, np.nan) for name in names] for one in told])
    colours = _colours(names, table)
    for name, column in zip(names, table.T, strict=True):
        _steps(axes, told, column, colours[name], name if colours[name] != INK else None)
    low, high = (min(low for low, _ in ranges.values()), max(high for _, high in ranges.values())) if ranges else (0, 1)
    axes.set_ylim(low - 0.03 * (high - low), high + 0.12 * (high - low))
    axes.set_ylabel("value" if ranges else "probability")
    if not ranges:
        _strip(axes, told, colours)
    plain(axes)
    legend = axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for text in legend.get_texts():
        text.set_parse_math(False)


def _colours(names: Sequence[str], table: np.ndarray) -> dict[str, str]:
    order = np.argsort(-np.nan_to_num(np.nanmean(table, axis=0)), kind="stable")
    named = sorted(order[:_NAMED].tolist())
    return dict.fromkeys(names, INK) | {names[k]: PALETTE[place] for place, k in enumerate(named)}


def _steps(axes: Any, told: Sequence[Stretch], column: np.ndarray, colour: str, label: str | None) -> None:
    """A level line over each stretch, joined to the next one where there is no time between the two."""
    x, y = list[float](), list[float]()
    for one, level in zip(told, column.tolist(), strict=True):
        if x and one.start > x[-1]:
            x.append(x[-1])
            y.append(np.nan)
        x += [one.start, one.end]
        y += [level, level]
    faint = {"linewidth": 0.6, "alpha": 0.3} if label is None else {"linewidth": 1.6}
    line = axes.plot(x, y, color=colour, **faint)[0]
    if label is not None:
        label = shown(label)
        line.set_label(label if not label.startswith("_") else f" {label}")  # matplotlib hides the names that begin so


def _strip(axes: Any, told: Sequence[Stretch], colours: Mapping[str, str]) -> None:
    for one in told:
        if one.segment["label"]:
            axes.axvspan(one.start, one.end, ymin=0.93, ymax=1.0, color=colours[one.segment["label"]], linewidth=0)
