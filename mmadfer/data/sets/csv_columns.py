"""Columns of a CSV file that name what they hold, `KIND:NAME`: targets, splits and files of named tensors.

    label:NAME           one label
    labels:NAME          several labels, with | between them
    value:NAME[:A|B]     a number for each of A and B, with | between them, or one
    steps:NAME[:A|B]     a file with numbers for each step of time (.csv, .npy), a column for each of A and B, or one
    tensor:NAME          a file with numbers or text (.csv, .npy, .txt)
    split:NAME           train, validation or test; or the number of the fold that tests the clip
    group:NAME           what else is known of the clip, such as sex, age band, language or light; for reports

An empty cell says that the clip has none. `time` and `frame` cannot name values of steps, as traces have such columns.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmadfer.data.sets.trace_files import PLACES
from mmadfer.data.store.record import NAME
from mmadfer.data.store.targets import Target
from mmadfer.errors import DataError

_KINDS = ("label", "labels", "value", "steps", "tensor", "split", "group")
COLUMN = re.compile(rf"({'|'.join(_KINDS)}):({NAME.pattern})(?::(.+))?")


@dataclass(frozen=True)
class Named:
    """What the named columns say of a clip."""

    targets: dict[str, Any] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    tensors: dict[str, Path] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)


def is_named(column: str) -> bool:
    """Whether a column is of this form."""
    match = COLUMN.fullmatch(column)
    return match is not None and (match[3] is None or match[1] in ("value", "steps"))


def check_once(where: str, header: Sequence[str]) -> None:
    """Refuse a name that two columns have.

    Raises:
        DataError: names it.
    """
    own = ("split", "group")
    names = [
        (match[1] if match[1] in own else "", match[2]) for column in header if (match := COLUMN.fullmatch(column))
    ]
    if twice := next((name for kind, name in names if names.count((kind, name)) > 1), None):
        raise DataError(f"{where} names {twice!r} twice: each target, tensor, split or group has one column")


def check_steps(where: str, header: Iterable[str]) -> None:
    """Refuse values of steps that are called like what a trace calls the places of its rows.

    Raises:
        DataError: names the column.
    """
    for column in header:
        match = COLUMN.fullmatch(column)
        if match and match[1] == "steps" and {*_names(match[2], match[3])} & {*PLACES}:
            raise DataError(
                f"{where} has the column {column!r:.80}: no value can be called {' or '.join(PLACES)}, as such columns "
                "of a trace say what its rows are of; name the values, such as steps:mood:valence|arousal"
            )


def named(where: str, cells: Mapping[str, str], path: Callable[[str], Path]) -> Named:
    """What the named ones of these cells (column -> text, none empty) say; `path` finds a file.

    Raises:
        DataError: a value is no number.
    """
    found = Named()
    for column, text in cells.items():
        if match := COLUMN.fullmatch(column):
            kind, name, parts = match.groups()
            if kind == "split":
                found.splits[name] = re.sub(r"\.0$", "", text)  # pandas may write 1.0
            elif kind == "group":
                found.groups[name] = text
            elif kind in ("steps", "tensor"):
                found.tensors[name] = path(text)
            else:
                found.targets[name] = _value(where, kind, column, text, len(_names(name, parts)))
    return found


def _value(where: str, kind: str, column: str, text: str, values: int) -> Any:
    if kind == "label":
        return text
    if kind == "labels":
        return list(dict.fromkeys(part.strip() for part in text.split("|") if part.strip()))
    numbers = [_number(part) for part in text.split("|")]
    if len(numbers) != values or not all(map(math.isfinite, numbers)):
        what = "a number" if values == 1 else f"{values} numbers with | between them"
        raise DataError(f"{where} has {column} {text!r:.60}; it must be {what}")
    return numbers


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _names(name: str, parts: str | None) -> tuple[str, ...]:
    """Of the values of a column."""
    return tuple(part.strip() for part in parts.split("|")) if parts else (name,)


def targets(header: Iterable[str], rows: Sequence[Named]) -> dict[str, Target]:
    """The targets of a file; labels in alphabetical order."""
    made = dict[str, Target]()
    for column in header:
        if (match := COLUMN.fullmatch(column)) and match[1] in ("label", "labels", "value", "steps"):
            kind, name, parts = match.groups()
            values = [row.targets[name] for row in rows if name in row.targets]
            if kind == "label":
                made[name] = Target(kind, tuple(sorted({*values})))
            elif kind == "labels":
                made[name] = Target(kind, tuple(sorted({one for value in values for one in value})))
            else:
                made[name] = Target("values" if kind == "value" else kind, _names(name, parts))
    return made
