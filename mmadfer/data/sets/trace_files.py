"""Traces: files with values for each step of a clip's time, such as valence and arousal of each frame.

A trace is a .csv file, or an .npy file of numbers (rows, values). The first line of a .csv file may name its columns:
those of the values, in any order, and `frame` (from 0) or `time` (seconds from the start of the clip), in small or
capital letters. Without such a column there is one row for each frame of the clip. A cell that is empty, `nan` or -5
says that there is no value.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmadfer.data.sets import ClipTable, SourceClip, ValueRanges
from mmadfer.data.store.targets import Target
from mmadfer.errors import DataError
from mmadfer.utils.names import is_empty
from mmadfer.utils.numpy_files import read_array

MISSING = -5.0
"""What stands for no value in traces of Aff-Wild2, and in any other here."""
LARGEST = 64 * 2**20
"""Bytes of a file."""
PLACES = ("frame", "time")
"""Columns that say what a row is of; no value can have such a name."""
_FRAMES = 2**31
"""No clip has so many."""
_LARGEST_VALUE = float(np.finfo(np.float32).max)
_LONGEST = 10_000
"""Characters of a first line."""
_SHOWN = 3
"""Files that a message names."""


@dataclass(frozen=True)
class Trace:
    """What a trace file holds."""

    values: np.ndarray
    """float32 (rows, names), NaN where there is no value."""
    frames: np.ndarray | None = None
    """int64 (rows,), rising: the frames that the rows are of."""
    times: np.ndarray | None = None
    """float64 (rows,), rising: the seconds that the rows are of. Without either, row k is of frame k."""
    lines: Sequence[int] = ()
    """Where each row stands in a .csv or .txt file, from 1."""

    def at_frames(self, times: np.ndarray, slack: int = 0) -> np.ndarray:
        """Values of each frame of a clip, float32 (frames, names), NaN where there is none.

        Args:
            times: float64 (frames,), rising: when each frame is shown, in seconds.
            slack: rows by which a trace with one for each frame may be longer (the rest is left out) or shorter.

        Raises:
            ValueError: the trace is of another length than the clip.
        """
        if self.times is not None:
            return self._at_times(times)
        rows = len(self.values) if self.frames is None else int(self.frames[-1]) + 1
        if rows > len(times) + slack or (self.frames is None and rows < len(times) - slack):
            raise ValueError(
                f"it is of another length than its clip: {rows} rows or frames, but the clip has {len(times)} frames. "
                "Give one row for each frame, or a column `frame` (from 0) or `time` (seconds)"
            )
        found = np.full((max(rows, len(times)), self.values.shape[1]), np.nan, np.float32)
        found[np.arange(rows) if self.frames is None else self.frames] = self.values
        return found[: len(times)]

    def _at_times(self, times: np.ndarray) -> np.ndarray:
        """The values of the row that is nearest in time, at most a usual step between two rows away."""
        assert self.times is not None
        rows, each = self.times, _usual(times)
        step = max(_usual(rows), each)
        if rows[-1] > times[-1] + step + each:
            raise ValueError(
                f"it is of another length than its clip: its last row is of {rows[-1]:.3f} s, but the clip's last "
                f"frame is shown at {times[-1]:.3f} s"
            )
        after = np.searchsorted(rows, times).clip(1, max(1, len(rows) - 1))
        nearest = np.where(times - rows[after - 1] <= rows[after % len(rows)] - times, after - 1, after % len(rows))
        near = np.abs(times - rows[nearest]) <= step
        return np.where(near[:, None], self.values[nearest], np.float32(np.nan))


def _usual(times: np.ndarray) -> float:
    """The median step in seconds."""
    return float(np.median(np.diff(times))) if len(times) > 1 else 0.0


def read_trace(path: Path, names: Sequence[str]) -> Trace:
    """Read a trace whose values are called `names`.

    Raises:
        ValueError: too large, of another ending, no numbers, unknown or missing columns, or places that do not rise;
            the line is named.
        OSError: it cannot be read.
    """
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it has more than {LARGEST >> 20} MB")
    ending = path.suffix.lower()
    if ending not in (".csv", ".txt", ".npy"):
        raise ValueError("its name must end in .csv, .txt or .npy")
    return _of_array(path, names) if ending == ".npy" else _of_lines(path.read_text("utf-8-sig"), names)


def value_names(path: Path) -> tuple[str, ...]:
    """The names of the values of a .csv trace, as its first line has them.

    Raises:
        DataError: it cannot be read, or its first line is not made of names.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = [cell.strip() for cell in next(csv.reader([file.readline(_LONGEST)]), [])]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: {error}") from error
    names = tuple(name for name in header if name.lower() not in PLACES)
    if not names or any(_number(name) is not None for name in header):
        raise DataError(f"{path} does not name its columns in line 1, such as frame,valence,arousal")
    return names


def _of_array(path: Path, names: Sequence[str]) -> Trace:
    found = read_array(path)
    if found.dtype.kind == "b":
        raise ValueError("it holds no numbers")
    table = found[:, None] if found.ndim == 1 and len(names) == 1 else found
    if table.ndim != 2 or table.shape[1] != len(names) or not len(table):
        raise ValueError(f"it has the shape {found.shape}, not (steps, {len(names)})")
    return Trace(_without_missing(table.astype(np.float64)))


def _of_lines(text: str, names: Sequence[str]) -> Trace:
    rows = list(_rows(text))
    if not rows:
        raise ValueError("it is empty")
    header = [cell.strip().lower() for cell in rows[0][1]]
    named, wanted = any(_number(cell) is None for cell in header), [name.lower() for name in names]
    columns = header if named else wanted
    _check_columns(columns, wanted, named)
    body = rows[1:] if named else rows
    if not body:
        raise ValueError("it has no rows")
    table, lines = np.array([_row(k, row, columns) for k, row in body]), [k for k, _ in body]
    values = _without_missing(table[:, [columns.index(name) for name in wanted]])
    return Trace(values, **_places(table, columns, lines), lines=lines)


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with its line."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}; close the quotes") from error


def _check_columns(columns: Sequence[str], names: Sequence[str], named: bool) -> None:
    expected = f"{', '.join(names)} and, if rows are not one for each frame, {' or '.join(PLACES)}"
    if named and (unknown := [name for name in columns if name not in (*names, *PLACES)]):
        raise ValueError(f"line 1 has the unknown columns {', '.join(unknown)!r:.120}; expected {expected}")
    if len({*columns}) < len(columns) or not {*names} <= {*columns} or {*PLACES} <= {*columns}:
        raise ValueError(f"line 1 has the columns {', '.join(columns)!r:.120}; expected {expected}, each once")


def _row(line: int, cells: Sequence[str], columns: Sequence[str]) -> list[float]:
    if len(cells) != len(columns):
        raise ValueError(f"line {line} has {len(cells)} cells, not {len(columns)} ({', '.join(columns)})")
    numbers = [_number(cell) for cell in cells]
    for name, cell, number in zip(columns, cells, numbers, strict=True):
        if number is not None and abs(number) > _LARGEST_VALUE:
            raise ValueError(f"line {line} has {name} {cell!r:.60}, which is too large for float32")
        if number is None or (name in PLACES and not np.isfinite(number)):
            raise ValueError(f"line {line} has {name} {cell!r:.60}, which is not a number")
    return [np.nan if number is None else number for number in numbers]


def _number(cell: str) -> float | None:
    """The number of a cell, NaN where it says that there is none; None: it is no number."""
    if is_empty(cell.strip()):
        return np.nan
    try:
        number = float(cell)
    except ValueError:
        return None
    return None if np.isinf(number) else number


def _without_missing(table: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = np.where(table == MISSING, np.nan, table).astype(np.float32)
    if np.isinf(values).any():
        raise ValueError("it holds values without end (inf), or too large for float32")
    return values


def _places(table: np.ndarray, columns: Sequence[str], lines: Sequence[int]) -> dict[str, np.ndarray]:
    name = next((name for name in PLACES if name in columns), None)
    if name is None:
        return {}
    found = table[:, columns.index(name)]
    wrong = (found < 0) | (np.diff(found, prepend=-1) <= 0)
    if name == "frame":
        wrong |= (found % 1 != 0) | (found >= _FRAMES)
    odd = np.flatnonzero(wrong)
    if len(odd):
        rule = "whole numbers from 0 that rise, below 2^31" if name == "frame" else "seconds from 0 that rise"
        raise ValueError(f"line {lines[odd[0]]} has {name} {found[odd[0]]:g}: it must be {rule}")
    return {"frames": found.astype(np.int64)} if name == "frame" else {"times": found}


def of_clips(clips: Iterable[SourceClip], targets: Mapping[str, Target]) -> dict[str, list[Path]]:
    """The trace files of a data set, by the name of their target."""
    steps = [name for name, target in targets.items() if target.kind == "steps"]
    return {name: [clip.tensors[name] for clip in clips if name in clip.tensors] for name in steps}


def value_ranges(files: Mapping[str, Iterable[Path]], targets: Mapping[str, Target]) -> ValueRanges:
    """Read all traces of a data set, so that a wrong one is told before hours of preparation.

    Args:
        files: name of a target of kind `steps` -> the files of its clips.
        targets: of the data set.

    Raises:
        DataError: names the first wrong files, and what is wrong with each.
    """
    wrong, found = list[str](), dict[str, dict[Path, np.ndarray]]()
    for name, paths in files.items():
        found[name] = {}
        for path in paths:
            try:
                found[name][path] = _range(read_trace(path, targets[name].names).values)
            except FileNotFoundError:
                continue  # a clip whose files are missing is left out by name
            except (OSError, ValueError) as error:
                wrong.append(f"{path}: {error}")
    _refuse(wrong)
    return found


def _range(values: np.ndarray) -> np.ndarray:
    """The lowest and the highest of each column, float32 (2, names), NaN where it has no value."""
    return np.array([np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)])


def ranges_of(table: ClipTable) -> ValueRanges:
    """Those that the table has; of a data set that has not read its traces, they are read here.

    Raises:
        DataError: as `value_ranges`.
    """
    return table.trace_ranges or value_ranges(of_clips(table.clips, table.targets), table.targets)


def check_some(ranges: ValueRanges) -> None:
    """Refuse traces without any value.

    Raises:
        DataError: names the first files.
    """
    bare = [path for files in ranges.values() for path, found in files.items() if np.isnan(found).all()]
    _refuse([f"{path}: no step has a value: leave the cell empty where a clip has no trace" for path in bare])


def check_ranges(
    ranges: ValueRanges, targets: Mapping[str, Target], allowed: Mapping[str, tuple[float, float]]
) -> None:
    """Refuse traces with values outside of what is `allowed` (name of a value -> lowest, highest).

    Raises:
        DataError: names the first files, lines and values.
    """
    wrong = list[str]()
    for name, files in ranges.items():
        names = targets[name].names
        limits = np.array([allowed.get(value, (-np.inf, np.inf)) for value in names], np.float32).T
        odd = [path for path, (low, high) in files.items() if (low < limits[0]).any() or (high > limits[1]).any()]
        wrong += [f"{path}: {_outside(read_trace(path, names), names, limits)}" for path in odd]
    _refuse(wrong)


def _outside(trace: Trace, names: Sequence[str], limits: np.ndarray) -> str:
    """Which is the first value outside of `limits`, float32 (2, names)."""
    row, k = np.argwhere((trace.values < limits[0]) | (trace.values > limits[1]))[0].tolist()
    where = f"line {trace.lines[row]}" if trace.lines else f"row {row}"
    low, high = limits[:, k]
    return f"{where} has {names[k]} {trace.values[row, k]:g}, outside of {low:g} to {high:g} (task.values)"


def _refuse(wrong: Sequence[str]) -> None:
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise DataError(f"{len(wrong)} traces cannot be used: {'; '.join(wrong[:_SHOWN])}{more}")
