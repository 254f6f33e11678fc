"""Arrays and parts of videos as bytes, from a process that has read a stranger's file: nothing in them may be run.

A process that decodes may have been taken over by what it decodes. So what it sends is no pickle, and whoever takes it
checks what it is.
"""

import io
import json
import math
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmadfer.contract import Contract
from mmadfer.data.media.notes import Note, Share, Whole
from mmadfer.errors import DataError, FileError
from mmadfer.runtime.arrays import Inputs
from mmadfer.runtime.backends import ports
from mmadfer.runtime.inputs import VideoPart
from mmadfer.utils.files import parse_json

_WORDS = "words"
"""The array of a part that holds what is no array, as JSON."""
_REFUSED = "the video has come back otherwise than it was read: it is damaged, or wants to do damage"
_ODD = (ValueError, OverflowError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile)
"""What becomes of bytes that are not as they should be."""
_MOST_LOOKS = 1 << 10
_MOST_NOTES, _MOST_LETTERS = 20, 1_000
"""Notes of a part, and letters of each; and of its sentence four times as many."""

Arrays = dict[str, np.ndarray]


def packed(arrays: Arrays) -> bytes:
    """Arrays by name as an archive of NumPy's."""
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # of numpy's own `allow_pickle`
    return file.getvalue()


def unpacked(data: bytes) -> Arrays:
    """What `packed` made in another process.

    Raises:
        DataError: something in it would swell.
        ValueError, zipfile.BadZipFile: it is no such archive, or holds an object that would be unpickled.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        stored = all(one.compress_type == zipfile.ZIP_STORED for one in members)
        if not stored or sum(one.file_size for one in members) > len(data):
            raise DataError(_REFUSED)
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        return dict(found)


def packed_part(part: VideoPart) -> bytes:
    """A part of a video, without `clip`."""
    looks = [] if part.inputs is None else [part.inputs, *part.others]
    arrays = {f"input{k}.{j}": array for k, look in enumerate(looks) for j, array in enumerate(look)}
    arrays |= {f"shown{k}": one for k, one in enumerate(part.shown)} | {"times": part.times}
    if part.boxes is not None:
        arrays["boxes"] = part.boxes
    words = {
        "start": part.start,
        "end": part.end,
        "looks": len(looks),
        "shown": len(part.shown),
        "first": part.first,
        "person": part.person,
        "reason": part.reason,
        "sentence": part.sentence,
        "notes": [_note_as_json(note) for note in part.notes],
    }
    arrays[_WORDS] = np.frombuffer(json.dumps(words).encode(), np.uint8)
    return packed(arrays)


def unpacked_part(data: bytes, contract: Contract) -> VideoPart:
    """What `packed_part` made in another process; each look at it is one that the model takes.

    Raises:
        DataError: it cannot be.
    """
    try:
        return _part(unpacked(data), contract)
    except (*_ODD, DataError, FileError) as error:
        raise DataError(_REFUSED) from error


def _part(arrays: Arrays, contract: Contract) -> VideoPart:
    words = parse_json(arrays[_WORDS].tobytes(), "a part")
    inputs = [_look(arrays, k, contract) for k in range(_number(words["looks"], _MOST_LOOKS))]
    times = _floats(arrays["times"], 1)
    shown = tuple(_places(arrays[f"shown{k}"], len(times)) for k in range(_number(words["shown"], _MOST_LOOKS)))
    if contract.per_step and inputs and not (len(shown) == len(inputs) and all(len(one) for one in shown)):
        raise ValueError("frames that are shown")
    boxes = _floats(arrays["boxes"], 2) if "boxes" in arrays else None
    if boxes is not None and (boxes.shape != (len(times), 4) or (inputs and not len(boxes))):
        raise ValueError("boxes")
    first, person = _number(words["first"], 1 << 40), _number(words["person"], 1 << 20)
    start, end = float(words["start"]), float(words["end"])
    if not -math.inf < start <= end < math.inf:
        raise ValueError("a span")
    return VideoPart(
        start,
        end,
        inputs[0] if inputs else None,
        _notes(words["notes"]),
        _text(words["reason"], _MOST_LETTERS),
        tuple(inputs[1:]),
        times,
        shown,
        first,
        boxes=boxes,
        sentence=_text(words["sentence"], 4 * _MOST_LETTERS),
        person=person,
    )


def _look(arrays: Arrays, k: int, contract: Contract) -> Inputs:
    look = tuple(arrays[f"input{k}.{j}"] for j in range(len(ports.inputs(contract))))
    ports.check_arrays(contract, look)
    if len(look[0]) != 1 or any(one.dtype.kind == "f" and not np.isfinite(one).all() for one in look):
        raise ValueError("an input")
    return look


def _floats(array: np.ndarray, dimensions: int) -> np.ndarray:
    if array.dtype.kind != "f" or array.ndim != dimensions or not np.isfinite(array).all():
        raise ValueError("numbers")
    return array


def _places(array: np.ndarray, count: int) -> np.ndarray:
    if array.dtype.kind != "i" or array.ndim != 1 or (len(array) and not 0 <= array.min() <= array.max() < count):
        raise ValueError("places")
    return array


def _number(found: Any, most: int) -> int:
    if type(found) is not int or not 0 <= found <= most:
        raise ValueError("a number")
    return found


def _text(found: Any, most: int) -> str:
    if type(found) is not str:
        raise ValueError("words")
    return found[:most]


def _note_as_json(note: Note) -> list[Any]:
    if isinstance(note, Share):
        return ["share", note.text, note.some, note.of]
    return ["whole" if isinstance(note, Whole) else "text", str(note)]


def _notes(found: Sequence[Any]) -> tuple[Note, ...]:
    return tuple(map(_note, found[:_MOST_NOTES]))


def _note(found: Sequence[Any]) -> Note:
    kind, text, *numbers = found[0], _text(found[1], _MOST_LETTERS), *found[2:]
    if kind == "share":
        some, of = (_number(number, 1 << 40) for number in numbers)
        if {"{", "}"} & set(text.replace("{}", "", 1)):  # it is formatted
            raise ValueError("a note")
        return Share(text, some, of)
    return Whole(text) if kind == "whole" else text
