"""Stores whose index or directory says what cannot be: a plain word, whoever opens them, and no memory for it."""

import json
import os
import re
import resource
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from mmadfer.config.schema import PrepareConfig, SoundConfig
from mmadfer.data.store.source_files import Digest
from mmadfer.data.store.store import Clip, ClipRecord, Header, Store, write_store
from mmadfer.errors import DataError

SETTINGS = PrepareConfig(face_size=tiny.FACE, sound=SoundConfig(frames=4, mels=2))
Change = Callable[[dict[str, Any]], object]


def record(number: int, frames: int = 4) -> ClipRecord:
    rng = np.random.default_rng(number)
    return ClipRecord([rng.bytes(40) for _ in range(frames)], rng.random((4, 2), np.float32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    clips = [
        Clip(f"c{k}", "ab"[k % 2], 1 + k % 2, f"c{k}.mp4", 4, f"s{k}", sound=f"c{k}.wav", rate=16000) for k in (0, 1)
    ]
    header = Header(
        "made", ("a", "b"), SETTINGS, tmp_path, "f" * 64, {"lost": "empty: no"}, {"lost": Digest(5, "", "")}
    )
    write_store(tmp_path / "a.store", header, ((clip, record(k)) for k, clip in enumerate(clips)))
    return tmp_path / "a.store"


def again(path: Path, change: Change, packed: bool = False) -> Path:
    """The store with another index."""
    made = path.with_name("lies.store")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(made, "w") as new:
        for item in old.infolist():
            data = old.read(item)
            if item.filename == "index.json":
                tree = json.loads(data)
                change(tree)
                data = json.dumps(tree).encode()
            kind = zipfile.ZIP_DEFLATED if packed and item.filename != "index.json" else zipfile.ZIP_STORED
            new.writestr(zipfile.ZipInfo(item.filename), data, kind)
    return made


def refused(path: Path, words: str = "") -> str:
    """What opening it says, which names the store and is short."""
    with pytest.raises(DataError, match=f"(?s)lies.store is not a whole mmadfer store .*{words}") as told:
        Store(path)
    assert len(str(told.value)) < 1000
    return str(told.value)


def test_the_store_itself_is_whole(path: Path) -> None:
    with Store(again(path, lambda tree: None)) as store:
        assert store.verify() == []
        assert store.read("c0", [1, 0]).jpegs == [record(0).jpegs[k] for k in (1, 0)]


ODD = (None, "x", "1", 5, -1, 0, 2**64, 1.5, True, [], [1], {}, {"a": 1}, "\0", "x" * 100_000)
ROW = ("id", "label", "fold", "media", "frames", "subject", "sha256", "silent", "sound", "note", "rate", "size", "head")
ROW += ("targets", "splits", "groups", "tensors", "sound_frames", "sound_start")
TOP = (
    "format",
    "version",
    "data_set",
    "labels",
    "targets",
    "prepare",
    "root",
    "root_from_here",
    "fingerprint",
    "left_out",
    "clips",
)


def is_right(store: Store) -> bool:
    """Whether all who use a store find what they expect."""
    clips = store.clips.values()
    texts = [text for clip in clips for text in (clip.media, clip.sound or "", str(store.root))]
    numbers = [number for clip in clips for number in (clip.fold, clip.frames, clip.rate, clip.size)]
    fine = all(type(text) is str and "\0" not in text for text in texts) and all(type(n) is int for n in numbers)
    return fine and all(type(clip.note) is str and clip.label in store.labels and clip.fold > 0 for clip in clips)


@pytest.mark.parametrize(
    "name", [*TOP, "left_out_files", "stamps", "landmarks", *(f"clips.{name}" for name in ROW), "clips.more"]
)
def test_every_value_of_another_kind(path: Path, name: str) -> None:
    """Refused when it is opened, or harmless; no other error."""
    top, _, inner = name.partition(".")

    def lie(value: object) -> Change:
        return lambda tree: tree["clips"][0].update({inner: value}) if inner else tree.update({top: value})

    for value in ODD:
        assert answer(again(path, lie(value))) in ("", "refused"), (name, value)


def answer(made: Path) -> str:
    try:
        with Store(made) as store:
            store.verify()
            return "" if is_right(store) else "taken for right"
    except DataError as error:
        return "refused" if "lies.store" in str(error) and len(str(error)) < 1000 else str(error)


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (lambda tree: tree["clips"][0].update(fold="1"), "clip 'c0' has fold '1', which cannot be"),
        (lambda tree: tree["clips"][1].update(fold=[1]), r"clip 'c1' has fold \[1\]"),
        (lambda tree: tree["clips"][0].update(frames=10**15), "clip 'c0' has frames 1000000000000000"),
        (lambda tree: tree["clips"][0].update(frames=10**6), "clip 'c0' has 1000000 frames in .* bytes"),
        (lambda tree: tree["clips"][0].update(head=[2**40, 0]), "the head of clip 'c0' does not lie in its record"),
        (lambda tree: tree["clips"][0].update(sound=5), "clip 'c0' has sound 5"),
        (lambda tree: tree["clips"][0].update(media="a\0b"), "no path"),
        (lambda tree: tree["clips"][0].update(label="c"), "label that the store does not have"),
        (lambda tree: tree["clips"][0].update(id="c1"), "a clip is there twice"),
        (lambda tree: tree["clips"][0].update(id="../../x"), "clip id '../../x' cannot be"),
        (lambda tree: tree.update(labels=[["a"], ["b"]]), "labels holds something that is no str"),
        (lambda tree: tree.update(labels=["a", "b", "\x1b[2J"]), "no line of text"),
        (lambda tree: tree.update(left_out_files=[]), "left_out_files is a list, not a dict"),
        (lambda tree: tree.update(left_out_files={"x": [1, 2, ""]}), "no size and checksum"),
        (lambda tree: tree.update(landmarks="x\x1b[2J"), "landmarks is no line of text"),
        (lambda tree: tree["clips"][0].update(landmarked=5), "landmarks in more frames than it has"),
        (lambda tree: tree.update(fingerprint=5), "fingerprint is a int, not a str"),
        (lambda tree: tree.update(clips=["c0"]), "clips holds something that is no dict"),
    ],
)
def test_a_lie_is_named(path: Path, lie: Change, words: str) -> None:
    assert re.search(words, refused(again(path, lie)))


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.store")
    with pytest.raises(DataError, match=r"no store at .*pipe"):
        Store(tmp_path / "pipe.store")


def test_packed_members_are_refused(path: Path) -> None:
    assert "clips/c0.safetensors is packed" in refused(again(path, lambda tree: None, packed=True))


def directory(path: Path, size: int, offset: int | None = None) -> Path:
    """The store with sizes, and an offset, of 64 bits for the first record in the ZIP's directory."""
    data = path.read_bytes()
    at = data.find(b"PK\x01\x02")
    name, extra, note = struct.unpack("<HHH", data[at + 28 : at + 34])
    large = struct.pack("<QQ", size, size) + (b"" if offset is None else struct.pack("<Q", offset))
    more = struct.pack("<HH", 1, len(large)) + large
    head = bytearray(data[at : at + 46])
    head[20:28], head[30:32] = b"\xff" * 8, struct.pack("<H", len(more))
    if offset is not None:
        head[42:46] = b"\xff" * 4
    changed = bytearray(
        data[:at] + head + data[at + 46 : at + 46 + name] + more + data[at + 46 + name + extra + note :]
    )
    end = changed.rfind(b"PK\5\6")
    (length,) = struct.unpack("<I", changed[end + 12 : end + 16])
    changed[end + 12 : end + 16] = struct.pack("<I", length + len(more) - extra)
    made = path.with_name("lies.store")
    made.write_bytes(changed)
    return made


@pytest.mark.parametrize("offset", [None, 0, 2**40, 2**63, 2**64 - 1])
@pytest.mark.parametrize("size", [2**32, 2**40, 2**63, 2**64 - 1])
def test_records_that_do_not_lie_in_the_file(path: Path, size: int, offset: int | None) -> None:
    assert "clips/c0.safetensors does not lie within the file" in refused(directory(path, size, offset))


def test_a_record_that_is_not_as_the_index_says_is_named(path: Path, tmp_path: Path) -> None:
    for settings, frames in ((SETTINGS, 3), (PrepareConfig(face_size=tiny.FACE), 4)):
        clip = Clip("c0", "a", 1, "c0.mp4", frames)
        write_store(tmp_path / "b.store", Header("made", ("a", "b"), settings), [(clip, record(0))])
        with Store(tmp_path / "b.store") as store:
            for wanted in (None, [0]):
                with pytest.raises(DataError, match=r"clip 'c0' in .* is damaged .it has 4 frames"):
                    store.read("c0", wanted)
            assert store.verify() == ["c0"]


OPEN = """
import sys
from mmadfer.data.store.source_files import Digest
from mmadfer.data.store.store import Store
from mmadfer.errors import DataError
try:
    Store(sys.argv[1])
except DataError as error:
    print(error)
"""


@pytest.mark.slow
def test_an_index_that_swells_is_refused_without_memory_for_it(path: Path) -> None:
    made = path.with_name("swollen.store")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(made, "w") as new:
        for item in old.infolist():
            kind = zipfile.ZIP_DEFLATED if item.filename == "index.json" else zipfile.ZIP_STORED
            data = old.read(item)
            new.writestr(zipfile.ZipInfo(item.filename), data[:-2] + b" " * 2**30 + b"}" if kind else data, kind, 1)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))

    said = subprocess.run(
        [sys.executable, "-c", OPEN, made], preexec_fn=limit, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert "swollen.store is not a whole mmadfer store (index.json is packed)" in said
