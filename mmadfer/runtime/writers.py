"""Predictions for a person (a table) and for a program (JSON, CSV; captions.py has WebVTT and SRT)."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from mmadfer.contract import Contract
from mmadfer.errors import ConfigError
from mmadfer.runtime.captions import write_srt, write_vtt
from mmadfer.runtime.prediction import Failure, Prediction
from mmadfer.runtime.stretches import by_person
from mmadfer.utils.console import Console
from mmadfer.utils.csv_cells import cell, to_csv
from mmadfer.utils.files import check_place, write_text
from mmadfer.utils.files import write_json as write
from mmadfer.utils.terminal import shown

BAR = 10  # characters of a full bar
_MODEL_COLUMNS = {"file": "model", "fold": "fold", "weights_hash": "weights_hash"}
"""What CSV says of the model: key of `Prediction.model` -> column."""


def print_predictions(results: Sequence[Prediction | Failure], console: Console | None = None) -> None:
    """A table with one row per video, or person in it, and the probabilities as bars, in label order, or the values;
    failures below it.

    Windows next to each other that have one label are told together.
    """
    console = console or Console()
    predictions = [one for result in results if isinstance(result, Prediction) for one in _by_person(result)]
    if predictions:
        show = _table_of_series if predictions[0].series else _table_of_values if predictions[0].values else _table
        console.print(show(predictions))
    for result in results:
        if isinstance(result, Failure):
            console.print(f"[red]{escape(shown(str(result.error)))}", soft_wrap=True, highlight=False)
        else:
            if result.sentence:
                told = f"{shown(result.video)} was read as: {shown(result.sentence)}"
                console.print(escape(told), soft_wrap=True, highlight=False)
            for note in result.notes:
                told = f"{shown(result.video)}: {shown(note)}"
                console.print(f"[yellow]{escape(told)}", soft_wrap=True, highlight=False)


def _by_person(prediction: Prediction) -> list[Prediction]:
    """A prediction of each person, under the video's name and theirs; or the one of the video."""
    segments = by_person(prediction.people, prediction.segments)
    return [_of_person(prediction, one, segments[one["person"]]) for one in prediction.people] or [prediction]


def _of_person(prediction: Prediction, one: dict[str, Any], own: list[dict[str, Any]]) -> Prediction:
    name, label, shares = f"{prediction.video}, person {one['person']}", one.get("label"), one.get("probabilities", {})
    return Prediction(name, label, shares, own, prediction.model, one["notes"], one.get("values", {}))


def _table(predictions: Sequence[Prediction]) -> Table:
    windows = any(len(prediction.segments) > 1 for prediction in predictions)
    table = Table("video", "label", "probabilities", *(["windows"] if windows else []))
    for prediction in predictions:
        bars = "\n".join(_bar(label, share, prediction) for label, share in prediction.probabilities.items())
        row = [escape(shown(prediction.video)), f"[bold]{escape(prediction.label or '')}", bars]
        table.add_row(*row, *(["\n".join(_stretches(prediction.segments))] if windows else []))
    return table


def _table_of_values(predictions: Sequence[Prediction]) -> Table:
    """A column for each value, and a line for each window where there are some."""
    table = Table("video", "time", *map(escape, predictions[0].values))
    for prediction in predictions:
        lines = [("whole", prediction.values)] if len(prediction.segments) > 1 else []
        lines += [(f"{one['start']:.1f} - {one['end']:.1f} s", one["values"]) for one in prediction.segments]
        for number, (time, values) in enumerate(lines):
            video = "" if number else escape(shown(prediction.video))
            table.add_row(video, time, *(f"{values[name]:.3f}" if values else "-" for name in prediction.values))
    return table


def _table_of_series(predictions: Sequence[Prediction]) -> Table:
    """A line for each video: over what time, and the mean of each value with its lowest and highest."""
    table = Table("video", "time", *map(escape, predictions[0].values), title="Mean over time (lowest to highest)")
    for prediction in predictions:
        seconds, values = prediction.series["seconds"], prediction.series["values"]
        cells = [f"{prediction.values[name]:.3f} ({min(row):.3f} to {max(row):.3f})" for name, row in values.items()]
        table.add_row(escape(shown(prediction.video)), f"{seconds[0]:.1f} - {seconds[-1]:.1f} s", *cells)
    return table


def _bar(label: str, share: float, prediction: Prediction) -> str:
    width = max(map(len, prediction.probabilities))
    line = escape(f"{label:<{width}} ") + f"{share:6.1%} {'█' * round(share * BAR)}"
    return f"[bold]{line}[/]" if label == prediction.label else line


def _stretches(segments: Sequence[dict[str, Any]]) -> Iterator[str]:
    for label, same in groupby(segments, key=lambda one: one["label"]):
        run = list(same)
        yield escape(f"{run[0]['start']:.1f} - {run[-1]['end']:.1f} s  {label or run[0]['notes'][0]}")


def write_predictions_json(path: Path | str, results: Sequence[Prediction | Failure], *_: object) -> None:
    """Write a list with one object per video, atomically; a failure is {video, error}."""
    write(path, [_object(result) for result in results])


def _object(result: Prediction | Failure) -> dict[str, object]:
    return result.to_dict() if isinstance(result, Prediction) else {"video": result.video, "error": str(result.error)}


def write_csv(
    path: Path | str,
    results: Sequence[Prediction | Failure],
    labels: Sequence[str],
    values: Sequence[str] = (),
    people: bool = False,
) -> None:
    """Write `video,start,end,label,video_label,p_<label>…,error,notes,model,fold,weights_hash`, atomically.

    `video_label` is that of the whole video, beside those of its windows. Of a model that gives values, these stand by
    their names in the place of labels and probabilities.

    With `people`, the number of the person follows `video`, and `person_label`, that of all of their windows, is in the
    place of `video_label`.

    There is one row per video, or per window; one that lacks a face or sound says so as its error. The last three say
    which model it was, so that rows of several can be put together.
    """
    whole = "person_label" if people else "video_label"
    own = list(map(cell, values)) or ["label", whole, *(f"p_{label}" for label in labels)]
    head = ["video", *(["person"] if people else []), "start", "end"]
    header = [*head, *own, "error", "notes", *_MODEL_COLUMNS.values()]
    write_text(path, to_csv([header, *(row for result in results for row in _rows(result, labels, values, people))]))


def write_series_csv(path: Path | str, results: Sequence[Prediction | Failure], values: Sequence[str]) -> None:
    """Write `video,seconds,<value>…,error,notes,model,fold,weights_hash`, atomically: one row per frame of each video.

    The notes of a video stand in its first row. A window that lacks a face or sound has a row of its own, with its
    start and the reason as its error.
    """
    header = ["video", "seconds", *map(cell, values), "error", "notes", *_MODEL_COLUMNS.values()]
    write_text(path, to_csv([header, *(row for result in results for row in _series_rows(result, values))]))


def _series_rows(result: Prediction | Failure, values: Sequence[str]) -> Iterator[list[str]]:
    video, none = cell(result.video, "./"), [""] * len(values)
    if isinstance(result, Failure):
        yield [video, "", *none, cell(str(result.error)), "", *("" for _ in _MODEL_COLUMNS)]
        return
    model = [cell(str(result.model.get(key) or "")) for key in _MODEL_COLUMNS]
    for one in result.segments:
        if not one["values"]:
            yield [video, f"{one['start']:.3f}", *none, cell("; ".join(one["notes"])), "", *model]
    columns = [result.series["values"][name] for name in values]
    for k, (seconds, *row) in enumerate(zip(result.series["seconds"], *columns, strict=True)):
        notes = "" if k else cell("; ".join(result.notes))
        yield [video, f"{seconds:.3f}", *(f"{value:.6f}" for value in row), "", notes, *model]


WRITERS: dict[str, Callable[[Path, Sequence[Prediction | Failure], Sequence[str], Sequence[str], bool], None]] = {
    ".json": write_predictions_json,
    ".csv": write_csv,
    ".vtt": write_vtt,
    ".srt": write_srt,
}
"""A file's ending -> what writes it."""


def write_results(path: Path, results: Sequence[Prediction | Failure], contract: Contract, people: bool) -> None:
    """Write what a model says in the form that the file's ending names, atomically.

    Args:
        path: the file to write.
        results: of videos.
        contract: the model's.
        people: whether they were told apart.
    """
    values = list(contract.values)
    if contract.per_step and path.suffix.lower() == ".csv":
        write_series_csv(path, results, values)
    else:
        WRITERS[path.suffix.lower()](path, results, contract.labels, values, people)


def check_names(paths: Sequence[Path]) -> None:
    """Ask before hours of work, not after them.

    Raises:
        ConfigError: nothing can be written under these names.
    """
    others = {partial_path(path).resolve(): path for path in paths}
    for path in paths:
        if path.suffix.lower() not in WRITERS:
            raise ConfigError(f"--out {path}: the name must end in one of {', '.join(WRITERS)}")
        if other := others.get(path.resolve()):
            raise ConfigError(f"--out {path} is where --out {other} is kept until it is whole: give another name")
        check_place(path)


def partial_path(path: Path) -> Path:
    """Where results lie that are not all: answers.partial.csv for answers.csv."""
    return path.with_suffix(f".partial{path.suffix}")


def _rows(
    result: Prediction | Failure, labels: Sequence[str], values: Sequence[str], people: bool
) -> Iterator[list[str]]:
    video = cell(result.video, "./")
    if isinstance(result, Failure):
        none = [""] * (people + 2 + (len(values) or 2 + len(labels)))
        yield [video, *none, cell(str(result.error)), "", *("" for _ in _MODEL_COLUMNS)]
        return
    model = [cell(str(result.model.get(key) or "")) for key in _MODEL_COLUMNS]
    of_people = {one["person"]: one.get("label") for one in result.people}
    for one in result.segments:
        person = one["person"] if people else None
        told, own = _said(one, (of_people.get(person) if people else result.label) or "", labels, values)
        notes = cell("; ".join(one["notes"]))
        place = [video, *([str(person or "")] if people else []), f"{one['start']:.3f}", f"{one['end']:.3f}"]
        yield [*place, *own, *(("", notes) if told else (notes, "")), *model]


def _said(one: dict[str, Any], whole: str, labels: Sequence[str], values: Sequence[str]) -> tuple[bool, list[str]]:
    """Whether a segment could be predicted, and the cells of what was said."""
    if values:
        return bool(one["values"]), [f"{one['values'][name]:.6f}" if one["values"] else "" for name in values]
    shares = [f"{one['probabilities'][label]:.6f}" if one["label"] else "" for label in labels]
    return bool(one["label"]), [cell(one["label"] or ""), cell(whole), *shares]
