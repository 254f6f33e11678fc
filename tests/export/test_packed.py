"""What a process that reads a stranger's file hands on: as it was read, or refused."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_setup import CONTRACT

from mmadfer.data.media.notes import Share, Whole
from mmadfer.data.video_windows import Windows
from mmadfer.errors import DataError
from mmadfer.runtime.inputs import ClipViews, Video, VideoPart, read_parts
from mmadfer.runtime.packed import packed, packed_part, unpacked, unpacked_part

Lie = Callable[[dict[str, np.ndarray], dict[str, Any]], object]


@pytest.fixture(scope="module")
def parts(pair: Path) -> list[VideoPart]:
    return list(read_parts(Video(pair), CONTRACT, Windows(1.0, 1.0), ClipViews(2, True), "all"))


def test_parts_arrive_as_they_were_read(parts: list[VideoPart]) -> None:
    notes = ("plain {}", Whole("of all"), Share("{} frames", 1, 4))
    nothing = VideoPart(1.0, 2.0, None, ("no face",), "no face", person=2)
    for part in [*parts, parts[0]._replace(notes=notes, sentence="a […]"), nothing]:
        found = unpacked_part(packed_part(part), CONTRACT)
        for name in ("start", "end", "notes", "reason", "first", "sentence", "person"):
            assert getattr(found, name) == getattr(part, name)
        assert list(map(type, found.notes)) == list(map(type, part.notes))
        looks = [(one.inputs or (), *one.others, one.shown, (one.times,)) for one in (found, part)]
        for one, other in zip(*looks, strict=True):
            np.testing.assert_equal(one, other)
        np.testing.assert_equal(found.boxes, part.boxes)
    assert len(parts[0].others) == 3


def test_archives_are_not_swollen() -> None:
    arrays = {"frames": np.zeros((1, 4), np.uint8), "notes": np.array(["a"])}
    assert unpacked(packed(arrays))["notes"].tolist() == ["a"]
    file = io.BytesIO()
    np.savez_compressed(file, frames=np.zeros(1 << 20, np.uint8))
    with pytest.raises(DataError, match="has come back otherwise"):
        unpacked(file.getvalue())
    file = io.BytesIO()
    np.savez(file, frames=np.array([{}], object))
    with pytest.raises(ValueError, match="allow_pickle"):
        unpacked(file.getvalue())


LIES: dict[str, Lie] = {
    "no number": lambda arrays, words: words.update(start="x"),
    "endless": lambda arrays, words: words.update(end=1e999),
    "backwards": lambda arrays, words: words.update(start=5.0, end=1.0),
    "too many looks": lambda arrays, words: words.update(looks=10**9),
    "a look that is not there": lambda arrays, words: words.update(looks=words["looks"] + 1),
    "a number that is none": lambda arrays, words: words.update(person=True),
    "a negative number": lambda arrays, words: words.update(first=-1),
    "notes that are none": lambda arrays, words: words.update(notes=[["share", "{0.__class__}{}", 1, 2]]),
    "notes of numbers": lambda arrays, words: words.update(notes=[5]),
    "no reason": lambda arrays, words: words.update(reason=None),
    "another size": lambda arrays, words: arrays.update({"input0.0": arrays["input0.0"][..., :-1]}),
    "another type": lambda arrays, words: arrays.update({"input0.0": arrays["input0.0"].astype(np.float32)}),
    "two clips": lambda arrays, words: arrays.update({"input0.0": np.repeat(arrays["input0.0"], 2, 0)}),
    "sound that is no number": lambda arrays, words: arrays.update({"input0.1": arrays["input0.1"] * np.nan}),
    "times that are none": lambda arrays, words: arrays.update(times=np.full_like(arrays["times"], np.inf)),
    "other boxes": lambda arrays, words: arrays.update(boxes=arrays["boxes"][:-1]),
    "no box": lambda arrays, words: arrays.update(
        {name: array[:0] for name, array in arrays.items() if name.startswith(("times", "boxes", "shown"))}
    ),
    "a time that no float holds": lambda arrays, words: words.update(start=-(10**400)),
    "boxes of text": lambda arrays, words: arrays.update(boxes=arrays["boxes"].astype(str)),
    "frames that are not there": lambda arrays, words: arrays.update(shown0=arrays["shown0"] + 10**6),
    "nothing": lambda arrays, words: arrays.clear(),
    "no words": lambda arrays, words: arrays.update(words=np.zeros(10, np.uint8)),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_lies_are_refused(parts: list[VideoPart], lie: Lie) -> None:
    arrays = unpacked(packed_part(parts[0]))
    words = json.loads(arrays["words"].tobytes())
    arrays["words"] = np.zeros(0, np.uint8)
    before = arrays["words"]
    lie(arrays, words)
    if arrays.get("words") is before:
        arrays["words"] = np.frombuffer(json.dumps(words).encode(), np.uint8)
    with pytest.raises(DataError, match="has come back otherwise"):
        unpacked_part(packed(arrays), CONTRACT)
    with pytest.raises(DataError, match="has come back otherwise"):
        unpacked_part(packed_part(parts[0])[:-40], CONTRACT)
