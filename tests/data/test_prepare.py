import errno
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from make_media import grey, moving_face, portrait, tone, video, write_video
from PIL import Image

from mmadfer.config.schema import PrepareConfig
from mmadfer.data import sets
from mmadfer.data.clip import read_clip
from mmadfer.data.preparation import prepare as preparation
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.preparation.summary import print_summary, summarise_preparation
from mmadfer.data.preparation.workers import ClipJob, outcomes, prepare_clip
from mmadfer.data.sets import ClipTable, SourceClip
from mmadfer.data.store.store import Clip, Store
from mmadfer.errors import DataError

pytestmark = pytest.mark.slow

SETTINGS = PrepareConfig(face_size=64)
GOOD = [f"{label}/{k}" for label in ("glad", "sad") for k in range(4)]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight good clips, one of them twice, and one of each kind that cannot be used."""
    root = tmp_path_factory.mktemp("set") / "media"
    for number, name in enumerate(GOOD):
        video(root / f"{name}.mp4", 0.4, step=1 + number % 2, pitch=200 + 20 * number)
    shutil.copy(root / "glad/1.mp4", root / "glad/twin.mp4")
    write_video(root / "sad/quiet.mp4", moving_face(8), 0 * tone(0.4))
    write_video(root / "sad/mute.mp4", moving_face(8), None)
    write_video(root / "sad/wall.mp4", grey(8), tone(0.4))
    (root / "glad/zero.mp4").touch()
    (root / "glad/cut.mp4").write_bytes((root / "glad/2.mp4").read_bytes()[:6000])
    return root


@pytest.fixture(scope="module")
def done(media: Path) -> SimpleNamespace:
    out = media.parent / "out.store"
    table = sets.table("folder", media, 2)
    return SimpleNamespace(table=table, out=out, summary=prepare(table, out, SETTINGS), bytes=out.read_bytes())


def test_good_clips_are_in_the_store(done: SimpleNamespace, media: Path) -> None:
    with Store(done.out) as store:
        assert list(store.clips) == sorted([*GOOD, "glad/twin", "sad/quiet"])
        assert (store.labels, store.folds, store.root, store.prepare) == (("glad", "sad"), (1, 2), media, SETTINGS)
        assert store.verify() == []
        assert store.clips["sad/0"].media == "sad/0.mp4"
        assert store.clips["sad/quiet"].silent
        record, clip = store.read("sad/0"), read_clip(store.media("sad/0"), SETTINGS)
        assert len(record.jpegs) == store.clips["sad/0"].frames == len(clip.jpegs) == 10
        assert record.fbank.tobytes() == clip.fbank.tobytes()


def test_what_is_left_out_is_listed_and_never_replaced(done: SimpleNamespace) -> None:
    summary = done.summary
    assert summary.left_out == [
        ("glad/cut", "unreadable"),
        ("glad/zero", "unreadable"),
        ("sad/mute", "no sound"),
        ("sad/wall", "no face"),
    ]
    assert summary.counts == {"glad": (5, 2), "sad": (5, 2)}
    assert (summary.duplicates, summary.silent) == ([["glad/1", "glad/twin"]], ["sad/quiet"])
    report = json.loads(summary.report.read_text())
    assert report["left_out_reasons"] == {"no face": 1, "no sound": 1, "unreadable": 2}
    assert report["left_out"][2]["media"].endswith("sad/mute.mp4")
    assert "has no sound" in report["left_out"][2]["detail"]
    with Store(done.out) as store, pytest.raises(DataError, match=r"left it out.*no face"):
        store.read("sad/wall")


def test_a_person_is_told(done: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(done.summary)
    text = capsys.readouterr().out
    for part in ("10 clips", "glad/cut (unreadable)", "glad/1, glad/twin", "sad/quiet", str(done.summary.report)):
        assert part in text


def test_nothing_is_done_twice(done: SimpleNamespace) -> None:
    before = done.out.stat()
    again = prepare(done.table, done.out, SETTINGS)
    assert again.already
    assert done.out.stat() == before
    assert (again.counts, again.left_out) == (done.summary.counts, done.summary.left_out)


def test_a_store_of_something_else_is_not_overwritten(done: SimpleNamespace, media: Path) -> None:
    fewer = replace(done.table, clips=done.table.clips[1:])
    for table, settings in ((done.table, PrepareConfig(face_size=96)), (fewer, SETTINGS)):
        with pytest.raises(DataError, match=r"out\.store exists and was prepared from other clips"):
            prepare(table, done.out, settings)
    assert done.out.read_bytes() == done.bytes
    foreign = media.parent / "notes.txt"
    foreign.write_text("mine")
    with pytest.raises(DataError, match=r"notes\.txt is not a whole mmadfer store"):
        prepare(done.table, foreign, SETTINGS)
    assert foreign.read_text() == "mine"


SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
from mmadfer.config.schema import PrepareConfig
from mmadfer.data import sets
from mmadfer.data.preparation import prepare
if __name__ == "__main__":
    prepare.PART = 2
    root = Path(sys.argv[1])
    table = sets.table("folder", root, 2)
    endless = sets.SourceClip("zzz", root / ".endless", "sad", 1, sound=root / "glad/0.mp4")
    prepare.prepare(replace(table, clips=[*table.clips, endless]), sys.argv[2], PrepareConfig(face_size=64), 2)
"""


def alive(session: int) -> list[str]:
    """Command lines of the processes of a session."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, of = (process / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(of) == session and state != "Z":
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found


def endless(folder: Path) -> None:
    """A clip that takes minutes: thousands of links to one large picture."""
    if not folder.exists():
        folder.mkdir()
        Image.fromarray(portrait()).resize((2000, 1500), Image.Resampling.BILINEAR).save(folder / "0.jpg")
        for k in range(1, 5000):
            (folder / f"{k}.jpg").symlink_to("0.jpg")


def wait_for(what: object, seconds: float = 90.0) -> bool:
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.01)
    return bool(what())  # type: ignore[operator]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "PART", 2)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_it_goes_on_after_a_stop_in_the_middle(
    done: SimpleNamespace, tmp_path: Path, kind: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.py").write_text(SCRIPT)
    endless(done.table.root / ".endless")  # the last clip, so that the stop comes before the end
    out, errors = done.out.parent / f"{kind.name}.store", tmp_path / "errors"
    with errors.open("w") as log:
        command = [sys.executable, str(tmp_path / "run.py"), str(done.table.root), str(out)]
        process = subprocess.Popen(command, stderr=log, start_new_session=True)
        partial = preparation._partial(out)
        assert wait_for(lambda: len([*partial.glob("part-*")]) > 1 or process.poll() is not None)
        os.killpg(process.pid, kind) if kind == signal.SIGINT else os.kill(process.pid, kind)
        process.wait(60)
    assert process.returncode != 0
    assert not out.exists()
    assert wait_for(lambda: not alive(process.pid), 30), alive(process.pid)
    if kind == signal.SIGINT:
        assert "the same command goes on from the last finished part" in errors.read_text()
        assert errors.read_text().count("Traceback") == 1  # this script's own; no worker adds one
    prepare(done.table, out, SETTINGS)
    assert "were finished before and are kept" in capfd.readouterr().err
    assert out.read_bytes() == done.bytes
    assert {path.name for path in out.parent.glob(f"*{out.name}*")} == {
        f"{out.name}{end}" for end in ("", ".report.json", ".files.json")
    }


@pytest.fixture
def small_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_is_told_and_leaves_nothing_half_written(done: SimpleNamespace, tmp_path: Path) -> None:
    few = ClipTable("few", done.table.labels, [clip for clip in done.table.clips if clip.id in GOOD[:2]])
    with pytest.raises(DataError, match="could not be written: " + os.strerror(errno.EFBIG)):
        prepare(few, tmp_path / "out.store", SETTINGS)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["lock", "out.store.partial"]


def test_a_folder_that_cannot_be_written(done: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="could not be written: Not a directory"):
        prepare(done.table, tmp_path / "file/out.store", SETTINGS)


def test_no_clip_left_is_an_error_with_a_report(media: Path, tmp_path: Path) -> None:
    clips = [SourceClip(name, media / f"{name}.mp4", "sad", 1) for name in ("sad/mute", "sad/wall", "sad/gone")]
    with pytest.raises(DataError, match="none of the 3 clips") as caught:
        prepare(ClipTable("bad", ("sad",), clips), tmp_path / "out.store", SETTINGS)
    for word in ("1 no sound", "1 no face", "1 unreadable"):
        assert word in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["out.store.report.json"]


def test_a_label_or_fold_without_clips_is_warned_of(
    media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [SourceClip(f"glad/{k}", media / f"glad/{k}.mp4", "glad", 1) for k in (0, 1)]
    clips += [
        SourceClip("glad/twin", media / "glad/twin.mp4", "glad", 2),
        SourceClip("sad/mute", media / "sad/mute.mp4", "sad", 3),
    ]
    summary = prepare(ClipTable("few", ("glad", "sad"), clips), tmp_path / "out.store", SETTINGS)
    assert len(summary.warnings) == 3
    print_summary(summary)
    text = capsys.readouterr().out
    for word in ("label sad has no clip left", "fold 3 has no clip left", "in several folds", "WARNING"):
        assert word in text


class Bomb:
    """Ends the process that unpickles it, as a decoder does that crashes."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (1,)


def test_a_clip_that_crashes_its_process_is_left_out_alone(media: Path) -> None:
    tasks = [ClipJob(SourceClip(name, media / f"{name}.mp4", "glad", 1), f"{name}.mp4", SETTINGS) for name in GOOD[:3]]
    tasks.insert(1, replace(tasks[0], media=Bomb()))  # type: ignore[arg-type]
    found = list(outcomes(tasks, jobs=2))
    assert [outcome.id for outcome in found] == [GOOD[0], GOOD[0], GOOD[1], GOOD[2]]
    assert [outcome.reason for outcome in found] == ["", "unreadable", "", ""]
    assert "ended the process" in found[1].detail


def test_a_file_that_the_disk_does_not_give_is_no_verdict_on_the_clip() -> None:
    media = Path("/proc/self/mem")  # a file whose first byte gives an input error, as a failing disk does
    with pytest.raises(DataError, match=r"/proc/self/mem cannot be read: Input/output error.*run the same command"):
        prepare_clip(ClipJob(SourceClip("a", media, "glad", 1), "a.mp4", SETTINGS))


SHORT_OF_MEMORY = """
import resource
from pathlib import Path
import numpy as np
from mmadfer.data import clip  # what it needs is imported before memory is short
from mmadfer.data.faces import detection
from mmadfer.utils.memory import lacks_memory

detection.detector()
picture = np.zeros((8000, 8000, 3), np.uint8)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 48 * 2**20, resource.RLIM_INFINITY))
try:
    list(detection.detect([picture]))  # 768 MB of sums, and then other sizes of it
except (RuntimeError, MemoryError) as error:
    print("lacks memory" if lacks_memory(error) else repr(error))
"""


def test_a_lack_of_memory_is_no_picture_without_a_face() -> None:
    """In a process of its own: one that ran other tests may have kept enough memory of theirs."""
    done = subprocess.run([sys.executable, "-c", SHORT_OF_MEMORY], capture_output=True, text=True, check=True)
    assert done.stdout == "lacks memory\n"


def test_a_kept_clip_that_is_damaged_in_places_is_in_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("glad/1", "glad/2", "sad/1", "sad/2"):
        path = video(tmp_path / "media" / f"{name}.mp4", 0.4)
    data = bytearray(path.read_bytes())
    data[3000:3040] = bytes(40)
    path.write_bytes(data)
    summary = prepare(sets.table("folder", tmp_path / "media", 2), tmp_path / "out.store", SETTINGS)
    assert list(summary.remarks) == ["sad/2"]
    assert "damaged in places" in json.loads(summary.report.read_text())["remarks"]["sad/2"]
    print_summary(summary)
    said = capsys.readouterr().out
    assert re.search(r"kept, 1 of 4: \d+ of 10 pictures damaged \(sad/2\)", said)
    assert re.search(r"kept, 1 of 4: damaged in places, FFmpeg says: .*\(sad/2\)", said)


def test_what_is_to_be_known_of_kept_clips_is_told_by_its_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note = "the face was found in {} of 9 frames looked at"
    clips = [Clip(f"{k}", "glad", 1, f"{k}.mp4", 1, note=note.format(k), silent=k == 3) for k in range(1, 4)]
    clips.append(replace(clips[0], id="4", note=f"{clips[0].note}; the sound is late", rate=16000))
    table = ClipTable("a", ("glad",), [SourceClip(clip.id, tmp_path / clip.media, "glad", 1) for clip in clips])
    (tmp_path / "a.store").touch()
    summary = summarise_preparation(tmp_path / "a.store", table, clips, {}, 1.0)
    assert summary.remarks == {clip.id: clip.note for clip in clips}  # with sound and without
    print_summary(summary)
    said = capsys.readouterr().out
    assert "kept, 4 of 4: the face was found in 1 of 9 frames looked at (1, 2, 3, …)" in said
    assert "kept, 1 of 4: the sound is late (4)" in said
