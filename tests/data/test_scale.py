"""Many clips, many readers: what grows must grow no faster than the clips."""

import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmadfer.config.schema import PrepareConfig, SoundConfig
from mmadfer.data.preparation import prepare as preparation
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.preparation.workers import ClipJob, PreparedClip, stamp_files
from mmadfer.data.sets import ClipTable, SourceClip
from mmadfer.data.store.record import Clip, ClipRecord, encode_record
from mmadfer.data.store.store import Header, Store, write_store

SETTINGS = PrepareConfig(sound=SoundConfig(frames=2, mels=4))
LABELS, FRAMES = ("glad", "sad"), 5


def content(number: int) -> ClipRecord:
    rng = np.random.default_rng(number)
    return ClipRecord([rng.bytes(900) for _ in range(FRAMES)], np.full((2, 4), number, np.float32))


def clip(number: int) -> Clip:
    return Clip(f"{number:05d}", LABELS[number % 2], 1 + number % 5, f"{number:05d}.mp4", FRAMES, rate=8000)


READ_AT_RANDOM = """
import random, sys
from concurrent.futures import ThreadPoolExecutor
from mmadfer.data.store.store import Store
sys.path.insert(0, sys.argv[1])
from test_scale import FRAMES, content
store = Store(sys.argv[2])

def look(seed):
    draw = random.Random(seed)
    for _ in range(100):
        number, frames = draw.randrange(200), draw.choices(range(FRAMES), k=3)
        want, name = content(number).jpegs, f"{number:05d}"
        assert store.read(name, frames).jpegs == [want[k] for k in frames]
        assert store.read(name).jpegs == want
    return 100

with ThreadPoolExecutor(4) as threads:
    print(sum(threads.map(look, range(4 * int(sys.argv[3]), 4 * int(sys.argv[3]) + 4))))
"""


def test_processes_and_threads_read_at_random(tmp_path: Path) -> None:
    write_store(tmp_path / "a.store", Header("a", LABELS, SETTINGS), ((clip(k), content(k)) for k in range(200)))
    command = [sys.executable, "-c", READ_AT_RANDOM, str(Path(__file__).parent), str(tmp_path / "a.store")]
    readers = [subprocess.Popen([*command, str(k)], stdout=subprocess.PIPE, text=True) for k in range(4)]
    assert [reader.communicate(timeout=60)[0].strip() for reader in readers] == ["400"] * 4


def test_a_fork_reads_what_was_open_before(tmp_path: Path) -> None:
    write_store(tmp_path / "a.store", Header("a", LABELS, SETTINGS), ((clip(k), content(k)) for k in range(50)))
    store, children = Store(tmp_path / "a.store"), list[int]()
    for seed in range(4):
        if not (child := os.fork()):
            wrong = 1
            try:
                numbers = random.Random(seed).choices(range(50), k=300)
                wrong = sum(store.read(f"{k:05d}", [4, 1]).jpegs != content(k).jpegs[4:0:-3] for k in numbers)
            finally:
                os._exit(min(wrong, 1))
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4


@pytest.fixture
def few_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 24, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def outcome(task: ClipJob) -> PreparedClip:
    number = int(task.source.id)
    now, found = stamp_files(task)
    if number % 100 == 7:
        return PreparedClip(task.source.id, reason="no face", detail="none", digest=found, stamp=now)
    made = replace(clip(number), media=task.media, sha256=found.sha256, size=found.size)
    return PreparedClip(task.source.id, made, encode_record(content(number)), digest=found, stamp=now)


def make_table(root: Path, clips: int) -> ClipTable:
    root.mkdir()
    for k in range(clips):
        (root / f"{k:05d}.mp4").write_bytes(k.to_bytes(4, "little"))
    return ClipTable(
        "many", LABELS, [SourceClip(f"{k:05d}", root / f"{k:05d}.mp4", LABELS[k % 2], 1 + k % 5) for k in range(clips)]
    )


def test_a_hundred_parts_are_joined_with_few_open_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_files: None
) -> None:
    """All of preparation but the decoding, whose outcomes are made here."""
    monkeypatch.setattr(preparation, "PART", 10)
    monkeypatch.setattr(preparation, "outcomes", lambda tasks, jobs: (outcome(task) for task in tasks))
    table = make_table(tmp_path / "media", 1000)
    summary = prepare(table, tmp_path / "out.store", SETTINGS)
    assert (summary.kept, len(summary.left)) == (990, 10)
    with Store(tmp_path / "out.store") as store:
        assert list(store.clips) == sorted(store.clips)
        assert store.verify() == []
        assert store.read("00500").jpegs == content(500).jpegs
    assert prepare(table, tmp_path / "out.store", SETTINGS).already
    (tmp_path / "media/00007.mp4").write_bytes(b"four")  # it was left out
    with pytest.raises(preparation.DataError, match=r"files of 1 of 1000 clips .*00007 has other content"):
        prepare(table, tmp_path / "out.store", SETTINGS)


def test_five_times_the_clips_take_no_more_than_five_times_as_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for a busy machine: what is quadratic takes 25 times as long."""
    monkeypatch.setattr(preparation, "outcomes", lambda tasks, jobs: (outcome(task) for task in tasks))

    def seconds(clips: int) -> float:
        table = make_table(tmp_path / f"media{clips}", clips)
        begin = time.process_time()
        prepare(table, tmp_path / f"{clips}.store", SETTINGS)
        prepare(table, tmp_path / f"{clips}.store", SETTINGS)
        Store(tmp_path / f"{clips}.store").close()
        return time.process_time() - begin

    seconds(50)  # imports
    assert seconds(2000) < 10 * seconds(400)


def test_the_index_is_small_and_has_a_line_for_each_clip(tmp_path: Path) -> None:
    write_store(tmp_path / "a.store", Header("a", LABELS, SETTINGS), ((clip(k), content(k)) for k in range(500)))
    data = (tmp_path / "a.store").read_bytes()
    index = data[data.rindex(b'{\n "format"') : data.rindex(b"]}\n") + 2]
    assert len(json.loads(index)["clips"]) == 500
    assert len(index) < 500 * 300
    lines = index.decode().splitlines()
    assert json.loads(lines[-2])["id"] == "00499"
