"""Two sides' values, read from what the commands write, and compared bit for bit (of bench/same.py).

Every file becomes one flat table, path -> value: `folds.0.uar` of a JSON file, `3.p_happy` of the fourth row of a CSV
file, `step.0.loss` of the first such event, `classifier.bias` of a file of tensors.
"""

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ALIASES = ((r"\b(scores|metrics)\.(?=\w+$)", ""),)
"""What a commit renames on purpose: (part of a path, what stands for it on both sides); applied in order."""
IGNORED = {
    **dict.fromkeys(("seconds", "clips_per_second", "created", "made"), "times"),
    **dict.fromkeys(("version", "git", "python", "packages"), "versions"),
    **dict.fromkeys(("run", "store", "file", "video"), "paths, and the hash of the store"),
    "sha256": "of a file that also holds versions",
}
"""Name of a value, or of what holds it -> why it is not compared."""
Values = dict[str, Any]


@dataclass
class Compared:
    """One thing of both sides."""

    equal: int = 0
    numbers: int = 0
    """In the equal values, of which an array has many."""
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ignored: set[str] = field(default_factory=set)


def compare(old: Values, new: Values, needed: Sequence[str] = (), whole: bool = False) -> Compared:
    """Compare what both sides have; tell what only one has.

    Args:
        old: path -> array, number, text, or None.
        new: the same of the other side.
        needed: regular expressions; each must find a path that both sides have, else that is a difference.
        whole: whether what only one side has is a difference, not a note.

    Returns:
        how many values are equal, the differences (in OLD's order), and notes. Text of several words is noted only.
    """
    found, sides = Compared(), (_known(old), _known(new))
    found.ignored = {name for side in (old, new) for path in side if (name := _ignored(path))}
    for path in (path for path in sides[0] if path in sides[1]):
        _add(found, path, sides[0][path], sides[1][path])
    for name, own, other in (("OLD", *sides), ("NEW", *reversed(sides))):
        if lacking := _short(path for path in own if path not in other):
            (found.differences if whole else found.notes).append(f"only in {name}: {lacking}")
    both = sides[0].keys() & sides[1].keys()
    for pattern in needed:
        if not any(re.search(pattern, path) for path in both):
            found.differences.append(
                f"nothing like {pattern!r} is on both sides: if it has a new name, add it to ALIASES"
            )
    return found


def _add(found: Compared, path: str, old: Any, new: Any) -> None:
    if same(old, new):
        found.equal, found.numbers = found.equal + 1, found.numbers + np.size(old)
    elif _prose(old) and _prose(new):
        found.notes.append(f"{path}: {old!r} in OLD, {new!r} in NEW (text)")
    else:
        found.differences.append(f"{path}: {_told(old, new)}")


def same(old: Any, new: Any) -> bool:
    """Whether two values are the same, bit for bit; a NaN is the same as a NaN."""
    if isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
        return (old.dtype, old.shape, old.tobytes()) == (new.dtype, new.shape, new.tobytes())
    if isinstance(old, np.ndarray) or isinstance(new, np.ndarray) or _kind(old) != _kind(new):
        return False
    if isinstance(old, float) and isinstance(new, float):
        return (math.isnan(old) and math.isnan(new)) or (old, math.copysign(1, old)) == (new, math.copysign(1, new))
    return bool(old == new)


def _kind(value: Any) -> type:
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


def _prose(value: Any) -> bool:
    return isinstance(value, str) and " " in value


def _told(old: Any, new: Any) -> str:
    """What differs, of an array: the first number that does."""
    if not isinstance(old, np.ndarray) or not isinstance(new, np.ndarray):
        return f"{old!r} in OLD, {new!r} in NEW"
    if (old.dtype, old.shape) != (new.dtype, new.shape):
        return f"{old.dtype}{list(old.shape)} in OLD, {new.dtype}{list(new.shape)} in NEW"
    size = old.dtype.itemsize
    bits = [np.frombuffer(own.tobytes(), np.uint8).reshape(-1, size) for own in (old, new)]
    apart = np.flatnonzero((bits[0] != bits[1]).any(1))
    place = [int(k) for k in np.unravel_index(apart[0], old.shape)]
    pair = f"{old.flat[apart[0]]!s} in OLD, {new.flat[apart[0]]!s} in NEW"
    return f"{place} {pair} ({len(apart):,} of {old.size:,} numbers)"


def _known(values: Values) -> Values:
    """By the names that both sides share, without what is ignored."""
    found: Values = {}
    for path, value in values.items():
        if _ignored(path):
            continue
        name = path
        for pattern, other in ALIASES:
            name = re.sub(pattern, other, name)
        if name in found and not same(found[name], value):
            raise ValueError(f"two values are called {name}: make ALIASES tell them apart")
        found[name] = value
    return found


def _ignored(path: str) -> str:
    return next((part for part in path.split(".") if part in IGNORED), "")


def _short(paths: Iterator[str], most: int = 12) -> str:
    """With `*` for numbers, each once."""
    names = list(dict.fromkeys(re.sub(r"(?<![^.])\d+(?![^.])", "*", path) for path in paths))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def flat(value: Any, path: str = "") -> Values:
    """Path -> value of what JSON holds; of a list, also its length."""
    if not isinstance(value, dict | list):
        return {path: value}
    found: Values = {f"{path}.length".lstrip("."): len(value)} if isinstance(value, list) else {}
    for key, own in value.items() if isinstance(value, dict) else enumerate(value):
        found |= flat(own, f"{path}.{key}".lstrip("."))
    return found


def of_json(path: Path) -> Values:
    """Of a JSON file."""
    return flat(json.loads(path.read_text()))


def of_events(path: Path) -> Values:
    """Of a file with one JSON object a line, numbered within each kind of `event`."""
    found, seen = Values(), Counter[str]()
    for line in map(json.loads, path.read_text().splitlines()):
        event = str(line.pop("event", "line"))
        found |= flat(line, f"{event}.{seen[event]}")
        seen[event] += 1
    return found | {f"{event}.length": count for event, count in seen.items()}


def of_rows(path: Path) -> Values:
    """Of a CSV file; what reads as a number is one."""
    with path.open(newline="") as file:
        return flat([{key: _number(text) for key, text in row.items()} for row in csv.DictReader(file)])


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def of_tensors(path: Path) -> Values:
    """Of a safetensors file."""
    from safetensors.numpy import load_file

    return dict(sorted(load_file(path).items()))


def of_metadata(path: Path) -> Values:
    """Of a safetensors file: the texts beside the tensors, read as JSON where they are."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        texts: Mapping[str, str] = file.metadata() or {}
    return flat({key: _json(text) for key, text in texts.items()})


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def of_answers(path: Path) -> Values:
    """Of an ONNX file: its outputs, in one thread, for inputs drawn by their place, type and shape."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = {one.name: _drawn(place, one.type, one.shape) for place, one in enumerate(session.get_inputs())}
    outputs = session.run(None, inputs)
    return {one.name: np.asarray(value) for one, value in zip(session.get_outputs(), outputs, strict=True)}


def _drawn(seed: int, kind: str, shape: Sequence[Any], batch: int = 4) -> np.ndarray:
    sizes = [size if isinstance(size, int) else batch for size in shape]
    random = np.random.default_rng(seed)
    if kind == "tensor(uint8)":
        return random.integers(0, 256, sizes, np.uint8)
    return random.standard_normal(sizes).astype(np.float32)


Reader = Callable[[Path], Values]
