"""Predictions for a person (a table) and for a program (JSON, CSV)."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmadfer.files import write_json as write
from mmadfer.files import write_text
from mmadfer.runtime.recogniser import Failure, Prediction

BAR = 10  # characters of a full bar


def print_predictions(results: Sequence[Prediction | Failure], console: Console | None = None) -> None:
    """A table with one row per video and the probabilities as bars, in label order; failures below it."""
    console = console or Console()
    predictions = [result for result in results if isinstance(result, Prediction)]
    if predictions:
        console.print(_table(predictions))
    for result in results:
        if isinstance(result, Failure):
            console.print(f"[red]{escape(str(result.error))}", soft_wrap=True, highlight=False)
        else:
            for note in result.notes:
                console.print(f"[yellow]{escape(result.video)}: {escape(note)}", soft_wrap=True, highlight=False)


def _table(predictions: Sequence[Prediction]) -> Table:
    table = Table("video", "label", "probabilities")
    for prediction in predictions:
        rows = (_bar(label, share, prediction) for label, share in prediction.probabilities.items())
        table.add_row(escape(prediction.video), f"[bold]{escape(prediction.label)}", "\n".join(rows))
    return table


def _bar(label: str, share: float, prediction: Prediction) -> str:
    width = max(map(len, prediction.probabilities))
    line = escape(f"{label:<{width}} ") + f"{share:6.1%} {'█' * round(share * BAR)}"
    return f"[bold]{line}[/]" if label == prediction.label else line


def write_json(path: Path | str, results: Sequence[Prediction | Failure]) -> None:
    """Write a list with one object per video, atomically; a failure is {video, error}."""
    write(path, [_object(result) for result in results])


def _object(result: Prediction | Failure) -> dict[str, object]:
    return result.to_dict() if isinstance(result, Prediction) else {"video": result.video, "error": str(result.error)}


def write_csv(path: Path | str, results: Sequence[Prediction | Failure], labels: Sequence[str]) -> None:
    """Write `video,label,p_<label>…,error,notes` with one row per video, atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["video", "label", *(f"p_{label}" for label in labels), "error", "notes"])
    writer.writerows(_row(result, labels) for result in results)
    write_text(path, text.getvalue())


def _row(result: Prediction | Failure, labels: Sequence[str]) -> list[str]:
    if isinstance(result, Failure):
        return [_cell(result.video, "./"), "", *("" for _ in labels), _cell(str(result.error)), ""]
    shares = (f"{result.probabilities[label]:.6f}" for label in labels)
    return [_cell(result.video, "./"), _cell(result.label), *shares, "", _cell("; ".join(result.notes))]


def _cell(text: str, guard: str = "'") -> str:
    """Text that a spreadsheet does not take for a formula, in UTF-8 whatever bytes the file name has."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return guard + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
