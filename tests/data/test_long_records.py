"""A window of a long clip: the frames and the sound of its own seconds, and nothing else is read or checked."""

import os
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from mmadfer.config.schema import PrepareConfig, SoundConfig, parse
from mmadfer.data.loading.loader import Loader
from mmadfer.data.loading.samplers import Pick
from mmadfer.data.preparation.prepare import _write_part
from mmadfer.data.preparation.workers import ClipJob, PreparedClip
from mmadfer.data.sets import SourceClip
from mmadfer.data.store.record import BLOCK, LATER, Clip, ClipRecord, encode_record
from mmadfer.data.store.store import Header, Store, write_store
from mmadfer.data.store.targets import Target
from mmadfer.data.window_sound import read_window
from mmadfer.errors import DataError

MINUTES, FPS = 10, 25
FRAMES, SOUND = MINUTES * 60 * FPS, MINUTES * 6000
START = 0.25
"""Seconds of the first frame's time at which the sound starts."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    fbank = np.arange(SOUND, dtype=np.float32)[:, None].repeat(128, 1)
    record = ClipRecord(
        [rng.bytes(100) for _ in range(FRAMES)], fbank[:512], np.arange(FRAMES) / FPS, {LATER: fbank[512:]}
    )
    clip = Clip("long", "a", 1, "long.mp4", FRAMES, sound_frames=SOUND, sound_start=START)
    settings = PrepareConfig(sound=SoundConfig(max_seconds=3600))
    write_store(tmp_path / "a.store", Header("long", ("a", "b"), settings), [(clip, record)])
    return tmp_path / "a.store"


@pytest.mark.parametrize("first", [0, 3, 6, 100, 128, 7_500, FRAMES - 40, FRAMES - 2])
@pytest.mark.parametrize("count", [2, 40, 300])
def test_a_window_has_the_sound_of_its_seconds(path: Path, first: int, count: int) -> None:
    count = min(count, FRAMES - first)
    with Store(path) as store:
        found = read_window(store, "long", (first, count), [first, first + count - 1])
        whole = store.read("long", [first, first + count - 1], [LATER])
    assert found.jpegs == whole.jpegs
    begin, end = (round(100 * (frame / FPS - START)) for frame in (first, first + count))
    before = max(0, -begin)
    heard = np.arange(max(0, begin), max(0, min(end, begin + 512, SOUND)))
    np.testing.assert_array_equal(found.fbank[before : before + len(heard), 5], heard)
    around = np.concatenate([found.fbank[:before], found.fbank[before + len(heard) :]])
    assert len(np.unique(around)) <= 1, "the rest is padding"


def test_only_what_the_window_needs_is_read_and_its_damage_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, plain = list[int](), os.pread

    def counted(file: int, size: int, place: int) -> bytes:
        read.append(size)
        return plain(file, size, place)

    monkeypatch.setattr(os, "pread", counted)
    with Store(path) as store:
        start, size = store._places["long"].start, store._places["long"].size
        read_window(store, "long", (7_500, 64), range(7_500, 7_564, 4))
    head = 24 * FRAMES + 4 * 512 * 128 + 10_000
    assert sum(read) < head + 2 * BLOCK + 64 * 100 + 20_000 < size / 20
    with path.open("r+b") as file:  # a byte of the last minute's sound
        file.seek(start + size - 60 * 100 * 128 * 4)
        file.write(b"\xff\xff")
    with Store(path) as store:
        read_window(store, "long", (7_500, 64), [7_500])
        with pytest.raises(DataError, match=r"clip 'long' in .* is damaged"):
            read_window(store, "long", (FRAMES - 60 * FPS, 64), [7_500])
        assert store.verify() == ["long"]


def test_of_a_long_trace_a_window_reads_its_own_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 200_000
    values = np.stack([np.arange(count), -np.arange(count)], 1).astype(np.float32)
    record = ClipRecord([b"x"] * count, np.zeros((512, 128), np.float32), np.arange(count) / FPS, {"mood": values})
    clip = Clip("long", "", 1, "long.mp4", count, tensors={"mood": ""})
    header = Header("long", (), PrepareConfig(), targets={"mood": Target("steps", ("v", "a"))})
    write_store(tmp_path / "a.store", header, [(clip, record)])
    tree = {"name": "x", "data": {"store": tmp_path / "a.store", "modalities": "audio", "window": {"stride": 2}}}
    read, plain = list[int](), os.pread
    monkeypatch.setattr(os, "pread", lambda *words: (read.append(words[1]), plain(*words))[1])
    with Store(tmp_path / "a.store") as store, closing(Loader(store, parse(tree, "the test"), ())) as loader:
        place = store._places["long"]
        read.clear()
        (batch,) = loader.test([Pick("long", window=(150_000, 31))], 1)
    assert sum(read) <= place.head + 2 * BLOCK < place.head + values.nbytes / 2
    np.testing.assert_array_equal(batch.targets["mood"][0, :, 0], np.arange(150_000, 150_032, 2)[:16])
    np.testing.assert_array_equal(batch.targets["mood"][0, :, 1], -np.arange(150_000, 150_032, 2)[:16])


def test_a_part_is_written_clip_by_clip(tmp_path: Path) -> None:
    """What 40 long clips hold together is never in memory at once."""
    size, count = 4 * 2**20, 40
    header = Header("long", ("a", "b"), PrepareConfig(), tmp_path)
    jobs = [ClipJob(SourceClip(f"{k:02d}", tmp_path / "x.mp4", "a", 1), "x.mp4", header.prepare) for k in range(count)]

    def results() -> Iterator[PreparedClip]:
        for job in jobs:
            data = encode_record(ClipRecord([b"x" * size], np.zeros((512, 128), np.float32)))
            yield PreparedClip(job.source.id, Clip(job.source.id, "a", 1, "x.mp4", 1), data)

    tracemalloc.start()
    _write_part(tmp_path / "part", jobs, results(), header)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * size
    with Store(tmp_path / "part") as store:
        assert len(store) == count
        assert store.verify() == []
