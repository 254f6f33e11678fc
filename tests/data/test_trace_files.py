"""Traces: values for each frame of real videos, from files of several forms to the store and to batches."""

import json
import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmadfer.cli.main import app
from mmadfer.cli.main import run as command
from mmadfer.config.schema import Config, PrepareConfig, parse
from mmadfer.data.loading.loader import Loader
from mmadfer.data.loading.samplers import Pick
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.sets import table
from mmadfer.data.sets.toy import write_clip
from mmadfer.data.sets.toy_voice import VOICE_RATE_HZ
from mmadfer.data.sets.trace_files import read_trace
from mmadfer.data.store.store import Store
from mmadfer.data.store.targets import Target
from mmadfer.errors import DataError

SIDE, FPS, FRAMES = 32, 10, 20
NAN = float("nan")
TASK = "task={name: regression, values: {v: [-1, 1], a: [-1, 1]}, target: mood}"
SMALL = (
    "--set",
    "prepare.face_size=32",
    "--set",
    "prepare.face_box=union",
    "--set",
    "data.folds=2",
    "--set",
    TASK,
    "--set",
    "model.head=values",
)


def film(path: Path) -> Path:
    """Two seconds of grey with a tone; `union` crops the picture's centre where there is no face."""
    video = np.full((FRAMES, SIDE, SIDE, 3), 90, np.uint8)
    sound = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * VOICE_RATE_HZ) / VOICE_RATE_HZ)
    write_clip(path, video, sound.astype(np.float32), FPS)
    return path


def by_frame(rows: int = FRAMES) -> str:
    return "\n".join(["a,v", *(f"{-k / 100},{k / 100}" for k in range(rows))])


GOOD = {
    "by_frame.csv": by_frame(),
    "missing.csv": by_frame().replace("-0.03,0.03", "-5,0.03").replace("-0.04,0.04", ",nan"),
    "numbered.csv": "frame,v,a\n2,0.5,-0.5\n3,0.6,-0.6\n19,1,-1\n",
    "timed.csv": "time,v,a\n0,0,0\n0.5,0.5,0.1\n1,1,0.2\n",
}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("traces")
    for name in (*GOOD, "array.npy"):
        film(root / name).rename(root / f"{Path(name).stem}.mp4")
    for name, text in GOOD.items():
        (root / name).write_text(text)
    np.save(root / "array.npy", np.linspace([0, 0], [1, -1], FRAMES))
    return root


def prepared(root: Path, traces: dict[str, str], out: Path, *more: str) -> int:
    rows = "\n".join(f"{film},{trace},{trace}" for film, trace in traces.items())
    (root / "clips.csv").write_text(f"path,steps:mood:v|a,subject\n{rows}\n")
    words = ["prepare", "csv", "--root", str(root / "clips.csv"), "--out", str(out), "--jobs", "1", *SMALL, *more]
    return command(app, words)


def config(path: Path) -> Config:
    encoder = {"width": 32, "depth": 2, "heads": 2}
    model = {"image_size": SIDE, "frames": 4, "vision": encoder, "audio": encoder, "prompts": 4}
    tree = {"name": "x", "data": {"store": path, "threads": 1}, "model": model, "train": {"batch_size": 1}}
    return parse(tree, "the test")


@pytest.fixture(scope="module")
def store(media: Path) -> Path:
    traces = {f"{Path(name).stem}.mp4": name for name in (*GOOD, "array.npy")}
    assert prepared(media, traces, media / "a.store") == 0
    return media / "a.store"


def test_each_form_gives_a_row_for_each_frame(store: Path) -> None:
    with Store(store) as opened:
        found = {name: opened.read(name).tensors["mood"] for name in opened.clips}
        assert opened.targets["mood"].names == ("v", "a")
    steps = np.arange(FRAMES)
    np.testing.assert_allclose(found["by_frame"], np.stack([steps / 100, -steps / 100], 1), atol=1e-6)
    assert np.isnan(found["missing"]).sum() == 3
    np.testing.assert_allclose(found["missing"][3:5], [[0.03, NAN], [NAN, NAN]], atol=1e-6)
    assert np.flatnonzero(~np.isnan(found["numbered"][:, 0])).tolist() == [2, 3, 19]
    np.testing.assert_allclose(found["numbered"][3], [0.6, -0.6], atol=1e-6)
    np.testing.assert_allclose(found["timed"][[0, 2, 3, 7, 8, 15], 0], [0, 0, 0.5, 0.5, 1, 1], atol=1e-6)
    assert np.isnan(found["timed"][16:]).all(), "half a second, the usual step, after the last row"
    np.testing.assert_allclose(found["array"][[0, 19]], [[0, 0], [1, -1]], atol=1e-6)


def test_a_batch_has_the_values_of_its_frames(store: Path) -> None:
    with Store(store) as opened, closing(Loader(opened, config(store), ())) as loader:
        (batch,) = loader.test(["numbered", "by_frame"], 2)
        (window,) = loader.test([Pick("by_frame", window=(8, 4))], 1)
    assert batch.targets["mood"].shape == (2, 4, 2)
    assert batch.targets["mood"][0, 0].tolist() == pytest.approx([0.5, -0.5]), "the middle of the first quarter"
    assert batch.targets["mood"][0, 1:3].isnan().all()
    assert window.targets["mood"][0, :, 0].tolist() == pytest.approx([0.08, 0.09, 0.10, 0.11])


BAD: dict[str, tuple[str, str]] = {
    "no number": ("v,a\n0,0\n1,much\n", r"line 3 has a 'much', which is not a number"),
    "an unknown column": ("v,a,joy\n0,0,1\n", r"unknown columns 'joy'; expected v, a and,"),
    "a missing column": ("frame,v\n0,0\n", r"line 1 has the columns 'frame, v'; expected v, a and"),
    "all steps missing": (f"v,a\n{'-5,nan' + chr(10)}" * 1 + "-5,\n" * 19, "no step has a value"),
    "out of range": (by_frame().replace("0.07", "7"), r"line 9 has v 7, outside of -1 to 1 \(task.values\)"),
    "too few cells": ("v,a\n1\n", "line 2 has 1 cells, not 2"),
    "frames that fall": ("frame,v,a\n3,0,0\n2,0,0\n", "line 3 has frame 2: it must be whole numbers from 0 that rise"),
    "half a frame": ("frame,v,a\n0.5,0,0\n", "line 2 has frame 0.5"),
    "nothing": ("", "it is empty"),
    "no rows": ("v,a\n", "it has no rows"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_trace_is_told_before_anything_is_prepared(
    case: str, media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, words = BAD[case]
    (media / "wrong.csv").write_text(text)
    assert prepared(media, {"by_frame.mp4": "by_frame.csv", "missing.mp4": "wrong.csv"}, tmp_path / "a.store") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert re.search(words, told), told
    assert "wrong.csv" in told
    assert not (tmp_path / "a.store").exists()


LENGTHS = {
    "missing": (by_frame(21), "21 rows or frames, but the clip has 20 frames"),
    "numbered": (by_frame(19), "19 rows or frames, but the clip has 20 frames"),
    "timed": ("frame,v,a\n20,0,0\n", "21 rows or frames, but the clip has 20 frames"),
    "array": ("time,v,a\n0,0,0\n0.5,0,0\n9,0,0\n", "its last row is of 9.000 s, but the clip's last frame is shown at"),
}


def test_traces_of_another_length_are_named_and_their_clips_left_out(
    media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, (text, _) in LENGTHS.items():
        (media / f"wrong_{name}.csv").write_text(text)
    traces = {"by_frame.mp4": "by_frame.csv", **{f"{name}.mp4": f"wrong_{name}.csv" for name in LENGTHS}}
    assert prepared(media, traces, tmp_path / "a.store") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "4 clips are not in" in told
    assert "its last row is of 9.000 s" in told, "of the first"
    left = {clip["id"]: clip for clip in json.loads((tmp_path / "a.store.report.json").read_text())["left_out"]}
    for name, (_, words) in LENGTHS.items():
        assert left[name]["reason"] == "trace"
        assert f"wrong_{name}.csv" in left[name]["detail"]
        assert words in left[name]["detail"]
    with Store(tmp_path / "a.store") as opened:
        assert {*opened.clips} == {"by_frame"}
    assert prepared(media, traces, tmp_path / "a.store") == 2, "told again where the store is there already"


def test_a_time_between_rows_takes_the_nearer_one(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time,v\n1,0.1\n2,0.2\n3,0.3\n")
    found = read_trace(path, ["v"]).at_frames(np.array([0.0, 0.4, 1.4, 1.6, 2.9]))
    np.testing.assert_allclose(found[:, 0], [0.1, 0.1, 0.1, 0.2, 0.3], atol=1e-6)
    path.write_text("time,v\n0.5,0.1\n")
    assert read_trace(path, ["v"]).at_frames(np.array([0.0, 0.4, 0.8])).shape == (3, 1)


def test_a_folder_of_videos_with_traces_beside_them(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    root.mkdir()
    for name in ("b", "a", "bare"):
        film(root / f"{name}.mp4")
    (root / "a.csv").write_text("frame,joy,calm\n1,0.5,0.1\n")
    (root / "b.csv").write_text("time,calm,joy\n0,0.2,0.3\n1,0.2,0.3\n")
    found = table("folder", root, 2)
    assert [clip.id for clip in found.clips] == ["a", "b"]
    assert found.labels == ()
    assert found.targets["values"] == Target("steps", ("joy", "calm"))
    assert "1 films have no trace (.csv) of their name, and were passed over: bare.mp4" in found.notes
    cropped = replace(found, clips=[replace(clip, cropped=True) for clip in found.clips])
    with Store(prepare(cropped, tmp_path / "a.store", PrepareConfig(face_size=SIDE)).out) as store:
        assert store.read("a").tensors["values"][1].tolist() == pytest.approx([0.5, 0.1])
        assert store.read("b").tensors["values"][5].tolist() == pytest.approx([0.3, 0.2]), "columns by name"
    (root / "b.csv").write_text("time,calm\n0,0.2\n")
    with pytest.raises(DataError, match=r"b\.csv: line 1 has the columns 'time, calm'; expected joy, calm and"):
        table("folder", root, 2)
    (root / "a.csv").write_text("1,0.5,0.1\n")
    with pytest.raises(DataError, match=r"a\.csv does not name its columns in line 1"):
        table("folder", root, 2)
