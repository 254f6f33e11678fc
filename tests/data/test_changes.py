"""What a later `prepare` and the doctor notice of files that have changed, and what a log and a summary tell."""

import os
import shutil
import stat
import wave
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from make_media import grey, portrait, tone, video, write_video
from PIL import Image

from mmadfer.cli import doctor
from mmadfer.config.schema import PrepareConfig
from mmadfer.data.preparation import prepare as preparation
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.preparation.summary import print_summary, summarise_preparation, to_dict
from mmadfer.data.sets import ClipTable, SourceClip
from mmadfer.data.store.source_files import UNREAD, Digest, Files, difference, files_digest, stamp
from mmadfer.data.store.store import Clip, ClipRecord, Header, Store, write_store
from mmadfer.errors import DataError
from mmadfer.utils import progress
from mmadfer.utils.files import sha256
from mmadfer.utils.progress import Meter

VIDEOS = ("glad/0", "glad/1", "glad/2", "sad/1")
SETTINGS = PrepareConfig(face_size=64)


@pytest.fixture
def own(tmp_path: Path) -> SimpleNamespace:
    """Six clips: videos, and a folder of frames with its sound beside it; one is left out."""
    root = tmp_path / "own"
    for number, name in enumerate(VIDEOS):
        video(root / f"{name}.mp4", 0.4, pitch=200 + 20 * number)
    write_video(root / "sad/wall.mp4", grey(8), tone(0.4))
    (root / "frames/00001").mkdir(parents=True)
    for k in range(3):
        Image.fromarray(portrait()[40:140, 70:170]).save(root / f"frames/00001/{k}.jpg")
    write_sound(root / "1.wav")
    names = (*VIDEOS, "sad/wall")
    clips = [SourceClip(name, root / f"{name}.mp4", name.partition("/")[0], 1) for name in names]
    clips.append(SourceClip("own", root / "frames/00001", "sad", 2, sound=root / "1.wav", cropped=True))
    table = ClipTable("own", ("glad", "sad"), clips)
    return SimpleNamespace(root=root, table=table, out=tmp_path / "own.store")


def write_sound(path: Path, pitch: float = 220) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes((tone(0.5, 8000, pitch)[0] * 32767).astype("<i2").tobytes())


def touch(path: Path) -> None:
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9))


def test_size_and_hash_decide_and_dates_do_not(own: SimpleNamespace, tmp_path: Path) -> None:
    summary = prepare(own.table, own.out, SETTINGS)
    assert (summary.kept, summary.left_out) == (5, [("sad/wall", "no face")])
    assert summary.rates == {8000: 1, 44100: 4}
    assert summary.bytes == own.out.stat().st_size
    with Store(own.out) as store:
        assert store.clips["own"].sound == "1.wav"
        assert store.clips["glad/0"].sha256 == sha256(own.root / "glad/0.mp4")
        assert set(store.digests) == {clip.id for clip in own.table.clips}
    whole = own.out.read_bytes()
    sidecar = tmp_path / "own.store.files.json"
    dates = sidecar.read_text()
    for path in ("glad/0.mp4", "frames/00001/1.jpg", "1.wav", "sad/wall.mp4"):
        touch(own.root / path)
    assert prepare(own.table, own.out, SETTINGS).already
    assert sidecar.read_text() != dates
    sidecar.write_text("[")
    assert prepare(own.table, own.out, SETTINGS).already
    assert own.out.read_bytes() == whole


def rewrite(path: Path) -> None:
    """Other bytes of the same number."""
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


FRAME = "frames/00001/2.jpg"
CHANGES = {
    "a byte of a video": ("glad/0", "other content", lambda root: rewrite(root / "glad/0.mp4")),
    "a video's length": ("glad/0", "bytes instead of", lambda root: (root / "glad/0.mp4").write_bytes(b"x")),
    "a video is gone": ("glad/0", "is gone", lambda root: (root / "glad/0.mp4").unlink()),
    "a clip that was left out": ("sad/wall", "other content", lambda root: rewrite(root / "sad/wall.mp4")),
    "a byte of a frame": ("own", "other content", lambda root: rewrite(root / FRAME)),
    "a frame's name": (
        "own",
        "other content",
        lambda root: (root / "frames/00001/2.jpg").rename(root / "frames/00001/3.jpg"),
    ),
    "a frame is gone": ("own", "bytes instead of", lambda root: (root / "frames/00001/1.jpg").unlink()),
    "a byte of its sound": ("own", "other content", lambda root: rewrite(root / "1.wav")),
    "its sound is gone": ("own", "bytes instead of", lambda root: (root / "1.wav").unlink()),
}


def test_every_change_of_a_file_is_named(own: SimpleNamespace, tmp_path: Path) -> None:
    prepare(own.table, own.out, SETTINGS)
    doctor.store(own.out, media=True)
    shutil.copytree(own.root, tmp_path / "as_it_was")
    for name, how, change in CHANGES.values():
        change(own.root)
        with pytest.raises(DataError, match=rf"files of 1 of 6 clips are not those .*{name} .*{how}.*prepare again"):
            prepare(own.table, own.out, SETTINGS)
        if name != "sad/wall":
            with pytest.raises(DataError, match=rf"media files of 1 of 5 clips .*{name} .*{how}"):
                doctor.store(own.out, media=True)
        shutil.rmtree(own.root)
        shutil.copytree(tmp_path / "as_it_was", own.root)
    assert prepare(own.table, own.out, SETTINGS).already


def test_a_file_that_changed_costs_one_part(
    own: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Stopped before the parts were joined; then one file changes, one only its date."""
    monkeypatch.setattr(preparation, "PART", 2)
    stop_before_joining(own, monkeypatch)
    parts = preparation._parts(preparation._tasks(own.table, SETTINGS, "cpu"), preparation._partial(own.out))
    assert len(parts) > 1
    before = [part.stat().st_ino for part in parts]
    touch(own.root / "glad/2.mp4")
    write_sound(own.root / "1.wav", 330)
    stop_before_joining(own, monkeypatch)
    same = [part.stat().st_ino == inode for part, inode in zip(parts, before, strict=True)]
    assert same == ["own" not in {task.source.id for task in part} for part in parts.values()]
    prepare(own.table, own.out, SETTINGS)
    prepare(own.table, tmp_path / "undisturbed.store", SETTINGS)
    assert own.out.read_bytes() == (tmp_path / "undisturbed.store").read_bytes()


def stop_before_joining(own: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "_assemble", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(own.table, own.out, SETTINGS)


def test_damage_is_named_by_the_doctor(own: SimpleNamespace) -> None:
    prepare(own.table, own.out, SETTINGS)
    with Store(own.out) as store:
        start = store._places["sad/1"].start
    with own.out.open("r+b") as file:
        file.seek(start + 50)
        file.write(b"\xff")
    with pytest.raises(DataError, match=r"1 of 5 records are damaged \(sad/1\)"):
        doctor.store(own.out)


def test_a_digest_is_what_sha256sum_prints(own: SimpleNamespace) -> None:
    single, several = Files(own.root / "glad/0.mp4"), Files(own.root / "frames/00001", own.root / "1.wav")
    digest = sha256(own.root / "glad/0.mp4")
    assert files_digest(single) == Digest((own.root / "glad/0.mp4").stat().st_size, digest, digest)
    lines = "".join(f"{sha256(path)}  {path.name}\n" for path in several.listed())
    (own.root / "lines").write_text(lines)
    assert [path.name for path in several.listed()] == ["0.jpg", "1.jpg", "2.jpg", "1.wav"]
    assert files_digest(several).sha256 == sha256(own.root / "lines")
    frames = files_digest(Files(own.root / "frames/00001"))
    assert files_digest(several).media == frames.media == frames.sha256, "of the frames alone"


def test_rights_and_odd_files_are_seen(own: SimpleNamespace) -> None:
    file = own.root / "glad/0.mp4"
    before, was = stamp(Files(file)), files_digest(Files(file))
    file.chmod(0)
    assert stamp(Files(file)) != before
    assert difference(Files(file), was) == ("" if os.access(file, os.R_OK) else "cannot be read")
    os.mkfifo(own.root / "pipe")  # reading one would wait without end
    assert stat.S_ISFIFO((own.root / "pipe").stat().st_mode)
    assert files_digest(Files(own.root / "pipe")) == files_digest(Files(own.root / "none")) == UNREAD
    assert difference(Files(own.root / "none"), UNREAD) == ""
    assert difference(Files(own.root / "glad/1.mp4"), UNREAD) == "can be read now"


def test_a_log_gets_few_lines_with_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: clock[0])
    with Meter("preparing clips", 1000, before=500) as meter:
        for _ in range(1000):
            clock[0] += 0.5
            meter.step("3 left out")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "preparing clips: 500 were finished before and are kept"
    assert lines[1] == "preparing clips: 561 of 1500, 2.0 clips/s, 0:07:50 left, 3 left out"
    assert lines[-1] == "preparing clips: 1500 of 1500, 2.0 clips/s, 0 s left, 3 left out"
    assert len(lines) <= 2 + 500 / 30


def test_a_summary_tells_rates_silence_and_uneven_folds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = [SourceClip(f"{k:02d}", tmp_path / f"{k:02d}.mp4", "glad", 1 if k < 2 else 2 + k % 2) for k in range(20)]
    clips = [
        Clip(c.id, c.label, c.fold, c.media.name, 3, silent=k < 2, rate=(0, 8000, 44100)[min(k, 2)])
        for k, c in enumerate(sources)
    ]
    write_store(
        tmp_path / "a.store",
        Header("a", ("glad",)),
        ((clip, ClipRecord([b"x"] * 3, portrait()[0] / 1)) for clip in clips),
    )
    summary = summarise_preparation(tmp_path / "a.store", ClipTable("a", ("glad",), sources), clips, {}, 1.0)
    assert (summary.silenced, summary.silent, summary.rates) == (["00"], ["01"], {8000: 1, 44100: 18})
    assert len(summary.warnings) == 2
    assert "clips: 1 at 8000 Hz, 18 at 44100 Hz" in summary.warnings[1]
    alike = [replace(clip, rate=min(clip.rate, 8000)) for clip in clips]
    assert (
        summarise_preparation(tmp_path / "a.store", ClipTable("a", ("glad",), sources), alike, {}, 1.0).warnings
        == (summary.warnings[:1])
    )
    assert "fold 1 has 2 clips, less than half of the mean (7)" in summary.warnings[0]
    print_summary(summary)
    text = capsys.readouterr().out
    assert "8000 Hz (1), 44100 Hz (18)" in text
    assert "kept with silence, having no sound: 1 clips: 00" in text
    assert to_dict(summary)["bytes_per_clip"] == round(summary.bytes / 20)
