"""Aff-Wild2's layout with real JPEGs and videos with sound: prepared from crops with gaps, trained, tested by frame."""

import csv
import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmadfer.cli.main import app
from mmadfer.cli.main import run as command
from mmadfer.config.schema import load
from mmadfer.data.compatibility import adopted
from mmadfer.data.fold_clips import test_clips as ids_for_test
from mmadfer.data.fold_clips import training_clips
from mmadfer.data.loading.loader import Loader
from mmadfer.data.loading.samplers import Pick
from mmadfer.data.sets import table, trace_files
from mmadfer.data.sets.toy import write_clip
from mmadfer.data.sets.toy_voice import VOICE_RATE_HZ
from mmadfer.data.store.record import LATER
from mmadfer.data.store.store import Store
from mmadfer.errors import DataError
from mmadfer.evaluation.evaluate import evaluate_path
from mmadfer.train.loop import train

SIDE, FPS, FRAMES = 32, 10, 80
SMALL = ("--set", "prepare.face_size=32", "--set", "data.folds=2", "--jobs", "1")
TINY = (
    *("prepare.face_size=32", "model.image_size=32", "model.frames=4", "model.prompts=4", "model.joint.width=32"),
    *(f"model.{name}={{width: 32, depth: 2, heads: 2}}" for name in ("vision", "audio")),
    *(
        "data.window={stride: 2, hop: 4}",
        "train.batch_size=4",
        "train.epochs=2",
        "train.warmup_epochs=0",
        "train.precision=fp32",
    ),
)
"""The shipped configuration in small."""
GAP = range(20, 30)
"""Frames, from 1, without a crop."""
LINES = {"a": FRAMES, "b": FRAMES + 1, "two_left": FRAMES, "two_right": FRAMES, "c": FRAMES - 1, "none": FRAMES}
"""Annotated people -> lines of their annotations."""


def video(path: Path, number: int) -> None:
    """Eight seconds that get brighter; the tone rises every second."""
    grey = (20 + 2 * np.arange(FRAMES))[:, None, None, None] + np.zeros((1, SIDE, SIDE, 3))
    time = np.arange(FRAMES // FPS * VOICE_RATE_HZ) / VOICE_RATE_HZ
    sound = 0.5 * np.sin(2 * np.pi * (200 + 40 * number) * (1 + time.astype(int)) * time)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(path, grey.astype(np.uint8), sound.astype(np.float32), FPS)


def crops(folder: Path, gap: range = GAP) -> None:
    folder.mkdir(parents=True)
    for number in (k for k in range(1, FRAMES + 1) if k not in gap):
        Image.new("RGB", (SIDE, SIDE), (3 * number, sum(map(ord, folder.name)) % 100, 255 - 3 * number)).save(
            folder / f"{number:05d}.jpg"
        )


def feeling(k: int) -> tuple[float, float]:
    return round(0.9 * np.sin(k / 8), 3), round(0.5 * np.cos(k / 9), 3)


def annotate(path: Path, lines: int, missing: range = range(3)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ("-5,-5" if k in missing else "{},{}".format(*feeling(k)) for k in range(lines))
    path.write_text("\n".join(["valence,arousal", *rows]) + "\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four videos with five people; of `none` no frame is annotated."""
    root = tmp_path / "Aff-Wild2"
    task = root / "6th ABAW Annotations" / "VA_Estimation_Challenge"
    for number, (name, lines) in enumerate(LINES.items()):
        part = "Validation_Set" if name == "c" else "Train_Set"
        annotate(task / part / f"{name}.txt", lines, range(lines) if name == "none" else range(3))
        crops(root / "cropped_aligned" / name, range(0) if name == "b" else GAP)
        if not name.startswith("two"):
            video(root / f"batch{1 + number % 2}" / f"{name}.mp4", number)
    video(root / "batch1" / "two.mp4", 9)
    return root


def prepared(root: Path, out: Path) -> int:
    return command(app, ["prepare", "affwild2", "--root", str(root), "--out", str(out), *SMALL])


def test_the_owners_layout_is_prepared_trained_and_tested(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.store"
    assert prepared(root, out) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "annotations: 4 of Train_Set (train), 1 of Validation_Set (test); those of the set's own" in told
    assert "the same file" not in told
    assert "1 have no annotated frame, and are left out: none" in told
    with Store(out) as store:
        assert {*store.clips} == {"a", "b", "two_left", "two_right", "c"}
        assert {clip.frames for clip in store.clips.values()} == {FRAMES}
        assert store.clips["two_left"].sound == "batch1/two.mp4"
        assert store.clips["two_left"].fold == store.clips["two_right"].fold, "a video is in one fold"
        assert store.clips["two_left"].subject == "two"
        assert "10 of 80 frames have no crop" in store.clips["a"].note
        record = store.read("a")
        files = root / "cropped_aligned" / "a"
        assert record.jpegs[0] == (files / "00001.jpg").read_bytes(), "the owners' own bytes"
        assert [record.jpegs[k - 1] for k in (19, 20, 29, 30)] == [
            (files / f"{number:05d}.jpg").read_bytes() for number in (19, 19, 19, 30)
        ]
        np.testing.assert_allclose(record.times, np.arange(FRAMES) / FPS, atol=1e-3)
        assert len(record.tensors[LATER]) == store.clips["a"].sound_frames - 512
        steps = {name: store.read(name).tensors["values"] for name in store.clips}
        assert all(found.shape == (FRAMES, 2) for found in steps.values())
        assert np.isnan(steps["a"]).any(axis=1).sum() == 3
        assert np.isnan(steps["b"]).any(axis=1).sum() == 3, "a line more than the video has frames"
        assert np.isnan(steps["c"]).any(axis=1).sum() == 4, "a line less"
        np.testing.assert_allclose(steps["a"][24], feeling(24), atol=1e-6, err_msg="a frame without a crop counts")
        config = adopted(load("jmt_affwild2", [*TINY, f"data.store={out}"]), store)[0]
        assert [clip.id for clip in training_clips(config, store, 1)] == ["a", "b", "two_left", "two_right"]
        assert ids_for_test(config, store, 1) == ["c"]
        with closing(Loader(store, config, ())) as loader:
            (batch,) = loader.test([Pick("a", window=(40, 8))], 1)
        np.testing.assert_allclose(batch.targets["values"][0], [feeling(k) for k in (40, 42, 44, 46)], atol=1e-6)
    assert train(config, 1, tmp_path / "run" / "fold-1").finished
    scored = evaluate_path(tmp_path / "run" / "fold-1", out, 1)
    last = json.loads((tmp_path / "run" / "fold-1" / "result.json").read_text())
    assert scored.scores()["ccc"] == pytest.approx(last["ccc"], abs=1e-6)
    with (tmp_path / "run" / "fold-1" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frame"]) for row in rows] == [*range(FRAMES)], "a line for each frame of the only test clip"
    assert [row["true_valence"] for row in rows].count("") == 4


def test_a_trace_of_another_length_and_foreign_crops_are_named(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotate(root / "6th ABAW Annotations" / "VA_Estimation_Challenge" / "Train_Set" / "a.txt", 60)
    Image.new("RGB", (SIDE, SIDE)).save(root / "cropped_aligned" / "two_left" / "00200.jpg")
    assert prepared(root, tmp_path / "a.store") == 2
    assert "60 rows or frames, but the clip has 80 frames" in " ".join(capsys.readouterr().err.split())
    left = json.loads((tmp_path / "a.store.report.json").read_text())["left_out"]
    assert {clip["id"]: clip["reason"] for clip in left} == {"a": "trace", "two_left": "unreadable"}
    assert "image of frame 200, but" in next(clip["detail"] for clip in left if clip["id"] == "two_left")


def test_what_is_not_there_is_named(root: Path) -> None:
    task = root / "6th ABAW Annotations" / "VA_Estimation_Challenge"
    (task / "Train_Set" / "b.txt").write_text("valence,arousal\n0.1,1.7\n")
    with pytest.raises(DataError, match=r"b\.txt: line 2 has arousal 1\.7, outside of -1 to 1"):
        table("affwild2", root, 2)
    (task / "Train_Set" / "b.txt").write_text("valence,arousal\n0.1,much\n")
    with pytest.raises(DataError, match=r"b\.txt: line 2 has arousal 'much', which is not a number"):
        table("affwild2", root, 2)
    (task / "Train_Set" / "b.txt").rename(task / "Validation_Set" / "a.txt")
    with pytest.raises(DataError, match="a are annotated in both Train_Set and Validation_Set"):
        table("affwild2", root, 2)
    with pytest.raises(DataError, match="no folder 'VA_Estimation_Challenge'"):
        table("affwild2", root / "batch1", 2)


@pytest.mark.parametrize("other", ["two", "two_right"])
def test_a_video_with_people_in_both_parts_is_refused(
    other: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = root / "6th ABAW Annotations" / "VA_Estimation_Challenge"
    (task / "Train_Set" / "two_right.txt").rename(task / "Validation_Set" / f"{other}.txt")
    assert prepared(root, tmp_path / "a.store") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "1 videos have people in both Train_Set and Validation_Set, so that the model would" in told
    assert f"two ({', '.join(sorted(('two_left', other)))})" in told
    video(root / "batch1" / "two_left.mp4", 11)  # a video of its own
    if other == "two_right":
        video(root / "batch1" / "two_right.mp4", 12)
    assert len(table("affwild2", root, 2).clips) == 5


def test_annotations_are_read_once_before_the_preparation(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, plain = list[str](), trace_files.read_trace
    monkeypatch.setattr(trace_files, "read_trace", lambda path, names: (read.append(path.stem), plain(path, names))[1])
    found = table("affwild2", root, 2)
    trace_files.check_ranges(found.trace_ranges, found.targets, {"valence": (-1, 1)})
    assert sorted(read) == sorted(LINES)


def test_people_without_crops_or_video(root: Path) -> None:
    for name in ("b", "two_left"):
        folder = root / "cropped_aligned" / name
        folder.rename(root / f"gone_{name}")
    (root / "batch1" / "c.mp4").unlink()
    found = table("affwild2", root, 2)
    clips = {clip.id: clip for clip in found.clips}
    assert clips["b"].media == root / "batch2" / "b.mp4"
    assert not clips["b"].cropped
    assert clips["two_left"].media == root / "cropped_aligned" / "two_left"
    told = "; ".join(found.notes)
    assert "1 have no crops; their faces are searched for in the videos: b" in told
    assert "1 are one of two people and have no crops, and are left out: two_left" in told
    assert "1 have no video, and are left out: c" in told
