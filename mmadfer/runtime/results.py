"""Predictions for a person (a table) and for a program (JSON, CSV)."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmadfer.files import write_json as write
from mmadfer.files import write_text
from mmadfer.runtime.answer import Failure, Prediction

BAR = 10  # characters of a full bar


def print_predictions(results: Sequence[Prediction | Failure], console: Console | None = None) -> None:
    """A table with one row per video and the probabilities as bars, in label order; failures below it.

    Windows next to each other that have one label are told together.
    """
    console = console or Console()
    predictions = [result for result in results if isinstance(result, Prediction)]
    if predictions:
        console.print(_table(predictions))
    for result in results:
        if isinstance(result, Failure):
            console.print(f"[red]{escape(_shown(str(result.error)))}", soft_wrap=True, highlight=False)
        else:
            for note in result.notes:
                told = f"{_shown(result.video)}: {note}"
                console.print(f"[yellow]{escape(told)}", soft_wrap=True, highlight=False)


def _table(predictions: Sequence[Prediction]) -> Table:
    windows = any(len(prediction.segments) > 1 for prediction in predictions)
    table = Table("video", "label", "probabilities", *(["windows"] if windows else []))
    for prediction in predictions:
        bars = "\n".join(_bar(label, share, prediction) for label, share in prediction.probabilities.items())
        row = [escape(_shown(prediction.video)), f"[bold]{escape(prediction.label)}", bars]
        table.add_row(*row, *(["\n".join(_stretches(prediction.segments))] if windows else []))
    return table


def _bar(label: str, share: float, prediction: Prediction) -> str:
    width = max(map(len, prediction.probabilities))
    line = escape(f"{label:<{width}} ") + f"{share:6.1%} {'█' * round(share * BAR)}"
    return f"[bold]{line}[/]" if label == prediction.label else line


def _stretches(segments: Sequence[dict[str, Any]]) -> Iterator[str]:
    for label, same in groupby(segments, key=lambda one: one["label"]):
        run = list(same)
        yield escape(f"{run[0]['start']:.1f} - {run[-1]['end']:.1f} s  {label or run[0]['notes'][0]}")


def write_json(path: Path | str, results: Sequence[Prediction | Failure], labels: Sequence[str] = ()) -> None:
    """Write a list with one object per video, atomically; a failure is {video, error}."""
    write(path, [_object(result) for result in results])


def _object(result: Prediction | Failure) -> dict[str, object]:
    return result.to_dict() if isinstance(result, Prediction) else {"video": result.video, "error": str(result.error)}


def write_csv(path: Path | str, results: Sequence[Prediction | Failure], labels: Sequence[str]) -> None:
    """Write `video,start,end,label,p_<label>…,error,notes`, atomically.

    There is one row per video, or per window; one that lacks a face or sound says so as its error.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["video", "start", "end", "label", *(f"p_{label}" for label in labels), "error", "notes"])
    writer.writerows(row for result in results for row in _rows(result, labels))
    write_text(path, text.getvalue())


WRITERS: dict[str, Callable[[Path, Sequence[Prediction | Failure], Sequence[str]], None]] = {
    ".json": write_json,
    ".csv": write_csv,
}
"""A file's ending -> what writes it."""


def _rows(result: Prediction | Failure, labels: Sequence[str]) -> Iterator[list[str]]:
    if isinstance(result, Failure):
        yield [_cell(result.video, "./"), "", "", "", *("" for _ in labels), _cell(str(result.error)), ""]
        return
    single = len(result.segments) == 1
    for one in result.segments:
        shares = [f"{one['probabilities'][label]:.6f}" if one["label"] else "" for label in labels]
        notes = _cell("; ".join(result.notes if single else one["notes"]))
        place = [_cell(result.video, "./"), f"{one['start']:.3f}", f"{one['end']:.3f}", _cell(one["label"] or "")]
        yield [*place, *shares, *(("", notes) if one["label"] else (notes, ""))]


def _shown(text: str) -> str:
    """Text in UTF-8, whatever bytes a file name has."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _cell(text: str, guard: str = "'") -> str:
    """Text that a spreadsheet does not take for a formula."""
    text = _shown(text)
    return guard + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
