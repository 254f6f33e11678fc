"""What the process that reads an upload says, in its order."""

import json
from pathlib import Path
from typing import Any

import pytest
from export_setup import CONTRACT

from mmadfer.runtime.packed import unpacked_part
from mmadfer.serve import reading_process
from mmadfer.serve.reading_process import ABOUT, END, ERROR, PART, Reader, read


def said(video: Path, **asked: Any) -> list[tuple[bytes, bytes]]:
    found = list[tuple[bytes, bytes]]()
    given = {"path": str(video), "sound": None, "windows": [1.0, 0.5], "faces": "largest", "limit": 60.0} | asked
    read(Reader(CONTRACT, Path("none"), 1, False), given, lambda kind, data: found.append((kind, data)))
    return found


def test_how_far_it_is_looked_at_is_told_before_the_parts(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_process, "TELL_SECONDS", 0.0)
    found = said(video)
    first = next(k for k, (kind, _) in enumerate(found) if kind == PART)
    told = [json.loads(data) for kind, data in found[:first] if kind == ABOUT]
    looked = [one["looked"] for one in told]
    passes = looked.index(max(looked)) + 1
    assert looked[0] == 0.0
    assert looked[:passes] == sorted(looked[:passes])
    assert max(looked) > 0.9
    assert {(tuple(one["size"]), one["seconds"]) for one in told} == {((160, 160), told[0]["seconds"])}
    parts = [unpacked_part(data, CONTRACT) for kind, data in found if kind == PART]
    assert [part.start for part in parts[:3]] == [0.0, 0.5, 1.0]
    assert found[-1] == (END, b"")


def test_what_is_wrong_is_the_last_word(video: Path, tmp_path: Path) -> None:
    kind, words = said(video, limit=1.0)[-1]
    assert kind == ERROR
    assert words.decode() == f"{video} is longer than the 1 s that this server reads"
    broken = tmp_path / "broken"
    broken.write_bytes(video.read_bytes()[:9000])
    assert [kind for kind, _ in said(broken)] == [ABOUT, ERROR]
    assert b"does not exist" in said(tmp_path / "none")[-1][1]
