"""What an ONNX file says before anything computes it, read without the package onnx and past its weights.

A stranger's file may name files anywhere as its weights, or as programs of a GPU. ONNX Runtime is left to open only
what `facts` has allowed. A file is a protobuf message (https://protobuf.dev/programming-guides/encoding): fields with a
number and a kind, of which those with a length hold bytes, text or other messages.
"""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from mmadfer.errors import WeightsError

PARTS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 14: "metadata", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {4: "operator", 5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "place"},
}
"""Message -> number of a field -> what is in it: everything by which a tensor, and so a file, can be reached."""
_MAX_TEXT_BYTES = 1 << 24
"""Bytes of one text that is read."""
MAX_FIELDS = 3_000_000
"""Fields of a whole file; a model has some ten thousand."""
_MAX_DEPTH = 100
"""Messages in each other, as protobuf itself allows them."""
_MAX_VARINT_BYTES = 10
"""Bytes of the longest number, which has 64 bits; a damaged file may go on."""
PROGRAMS = {"EPContext"}
"""Operators that run programs for a GPU, out of the file or of others, in the place of a graph."""


@dataclass
class Facts:
    """What an ONNX file says of itself."""

    metadata: dict[str, str] = field(default_factory=dict)
    places: set[str] = field(default_factory=set)
    """Files that hold weights, by the names that they have in the file."""
    operators: set[str] = field(default_factory=set)


def facts(path: Path) -> Facts:
    """What the file at `path` says, once it is known that it takes nothing from elsewhere.

    Raises:
        WeightsError: no such file, no whole ONNX model, one whose weights are not in a file in its own folder, or one
            that holds programs in the place of a graph.
    """
    try:
        with path.open("rb") as file:
            found = _read(file)
    except OSError as error:
        raise WeightsError(f"no model at {path} ({error.strerror}); `mmadfer export onnx` writes one") from error
    except ValueError as error:
        raise WeightsError(f"{path} is not a whole ONNX model ({error}): export it anew") from error
    for name in sorted(found.places):
        _check_weights_place(path, name)
    if programs := found.operators & PROGRAMS:
        raise WeightsError(f"{path} holds {min(programs)}, a program for a GPU in the place of a graph: export it anew")
    return found


def _check_weights_place(path: Path, name: str) -> None:
    """Whether weights lie in a file in the folder of their ONNX file, `path`.

    Raises:
        WeightsError: `name` is a path, a link, or not there.
    """
    file = path.parent / name
    if not name or name in (".", "..") or "\\" in name or os.path.basename(name) != name or file.is_symlink():
        raise WeightsError(f"{path} takes weights from {name!r}; they must lie in a file beside it: export it anew")
    if not file.is_file():
        raise WeightsError(f"{path} takes weights from {name}, which is not there in full: copy both files again")


def _read(file: BinaryIO) -> Facts:
    found, left, count = Facts(), [(0, file.seek(0, os.SEEK_END), "model", 0)], 0
    if not left[0][1]:
        raise ValueError("it is empty")
    while left:
        start, end, kind, depth = left.pop()
        for number, first, last in _fields(file, start, end):
            count += 1
            if count > MAX_FIELDS or depth > _MAX_DEPTH:
                raise ValueError("it has more parts than any model")
            inner = PARTS[kind].get(number, "")
            if inner in PARTS:
                left.append((first, last, inner, depth + 1))
            elif inner:
                _note(found, inner, _text(file, first, last))
                file.seek(last)
    return found


def _note(found: Facts, kind: str, data: bytes) -> None:
    if kind == "operator":
        found.operators.add(data.decode(errors="replace"))
        return
    entry = _entry(data)
    if kind == "metadata":
        found.metadata[entry[0]] = entry[1]
    elif entry[0] == "location":
        found.places.add(entry[1])


def _entry(data: bytes) -> tuple[str, str]:
    """A key (1) and its value (2)."""
    file, found = io.BytesIO(data), {1: "", 2: ""}
    for number, first, last in _fields(file, 0, len(data)):
        found[number] = _text(file, first, last).decode(errors="surrogateescape")
        file.seek(last)
    return found[1], found[2]


def _text(file: BinaryIO, first: int, last: int) -> bytes:
    if last - first > _MAX_TEXT_BYTES:
        raise ValueError(f"a text of {last - first} bytes in it")
    file.seek(first)
    return file.read(last - first)


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of the fields with a length in a message that lies from `start` to `end`.

    Raises:
        ValueError: the message is damaged. Nothing is passed over, since other readers would find what comes after it.
    """
    at = start
    while at < end:
        file.seek(at)
        tag = _number(file)
        number, kind = tag >> 3, tag & 7
        size = {0: 0, 1: 8, 2: 0, 5: 4}.get(kind)
        if size is None or not number or tag >> 32:
            raise ValueError(f"damaged at byte {at}")
        if kind in (0, 2):
            value = _number(file)
            size = value if kind else 0
        first = file.tell()
        if first + size > end:
            raise ValueError(f"cut off at byte {end}")
        at = first + size
        if kind == 2:
            yield number, first, at


def _number(file: BinaryIO) -> int:
    """Seven bits in each byte, the lowest first; the highest bit says that more follow."""
    value = 0
    for k in range(_MAX_VARINT_BYTES):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 127) << 7 * k
        if byte[0] < 128:
            return value
    raise ValueError(f"damaged at byte {file.tell()}")
