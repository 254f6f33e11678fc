"""`mmadfer predict` with values of each step: one series of the whole video, as the test of a store has it."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from export_setup import CONTRACT
from PIL import Image
from test_step_export import VALUES, awake, contract
from typer.testing import CliRunner

from mmadfer.cli.main import app
from mmadfer.config.schema import parse
from mmadfer.config.windows import WindowConfig
from mmadfer.data.store.store import Store, write_store
from mmadfer.data.store.targets import Target
from mmadfer.data.video_windows import Windows
from mmadfer.errors import ConfigError
from mmadfer.evaluation.evaluate import evaluate
from mmadfer.evaluation.predictions import Traces
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.model.weights.build import save_weights
from mmadfer.runtime import Recogniser, Video
from mmadfer.runtime.inputs import read_parts

pytestmark = pytest.mark.slow
WINDOW = WindowConfig(stride=2, hop=5)


@pytest.fixture(scope="module")
def traced(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy store, whose clips also have a number for each frame."""
    path = tmp_path_factory.mktemp("traced") / "traced.store"
    with Store(store) as whole:
        header = replace(whole.header, targets={"values": Target("steps", tuple(VALUES))})
        told = []
        for name, clip in whole.clips.items():
            trace = np.zeros((clip.frames, 2), np.float32)
            record = whole.read(name)
            told.append(
                (
                    replace(clip, tensors={"values": ""}),
                    replace(record, tensors={**record.tensors, "values": trace}),
                )
            )
    write_store(path, header, told)
    return path


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of whole clips, and one of windows."""
    folder, found = tmp_path_factory.mktemp("models"), {}
    for name, window in (("whole", None), ("windows", WINDOW)):
        save_weights(folder / f"{name}.safetensors", awake("step"), contract("step", window), frozen=True)
        found[name] = to_onnx(folder / f"{name}.safetensors", folder / f"{name}.onnx")
    return found


@pytest.mark.parametrize("kind", ["whole", "windows"])
def test_a_file_has_the_series_that_its_record_has_in_a_test(traced: Path, graphs: dict[str, Path], kind: str) -> None:
    promised = contract("step", WINDOW if kind == "windows" else None)
    with Store(traced) as opened:
        tree = {
            "name": "x",
            "prepare": opened.prepare.model_dump(),
            "model": promised.model.model_dump(),
            "data": {"store": traced, "window": promised.window.model_dump() if promised.window else None},
            "task": {"name": "regression", "values": VALUES},
        }
        ids = sorted(opened.clips)[:2]
        tested = evaluate(awake("step").eval(), opened, parse(tree, "the test"), CONTRACT.labels, ids)
        files = [opened.media(clip) for clip in ids]
    assert isinstance(tested, Traces)
    for file, trace in zip(files, tested.traces, strict=True):
        found = Recogniser(graphs[kind])(file)
        np.testing.assert_allclose(found.series["seconds"], trace.seconds, atol=1e-9)
        told = np.array([found.series["values"][name] for name in VALUES]).T
        np.testing.assert_allclose(told, trace.output, atol=0.01)  # DALI resizes there, Pillow here
        assert np.ptp(told, axis=0).min() > 0.01
        assert found.values == pytest.approx(dict(zip(VALUES, told.mean(0), strict=True)))
        assert len(found.segments) == (1 if kind == "whole" else 1 + -(-(len(trace.seconds) - 7) // 5))


def test_the_command_writes_a_series_and_a_picture(graphs: dict[str, Path], video: Path, tmp_path: Path) -> None:
    other = shutil.copy(video, tmp_path / "other.mp4")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    command = ["predict", str(video), str(other), str(tmp_path / "broken.mp4"), "--model", str(graphs["whole"])]
    command += ["--window", "0.6", "--hop", "0.2", "--out", str(tmp_path / "a.csv"), "--out", str(tmp_path / "a.json")]
    done = CliRunner().invoke(app, [*command, "--plot", str(tmp_path / "plots")])
    assert done.exit_code == 2, "one of them is no video"
    one, two, failed = json.loads((tmp_path / "a.json").read_text())
    assert "error" in failed
    assert one["series"] == two["series"]
    assert len(one["segments"]) > 3
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert list(rows[0])[:5] == ["video", "seconds", "valence", "arousal", "error"]
    mine = [row for row in rows if row["video"] == str(video)]
    assert [float(row["seconds"]) for row in mine] == pytest.approx(one["series"]["seconds"], abs=1e-3)
    assert [float(row["arousal"]) for row in mine] == pytest.approx(one["series"]["values"]["arousal"], abs=1e-5)
    assert rows[-1]["error"]
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["other.png", f"{video.stem}.png"]
    with Image.open(tmp_path / "plots" / "other.png") as picture:
        assert picture.size[0] == 1200
    assert "lowest to highest" in done.output


def test_captions_and_a_picture_of_one_video(onnx_file: Path, video: Path, tmp_path: Path) -> None:
    def predict(*words: str | Path) -> Result:
        given = ["predict", str(video), "--model", str(onnx_file), "--window", "1", "--hop", "0.5", *map(str, words)]
        return CliRunner().invoke(app, given)

    done = predict("--out", tmp_path / "a.vtt", "--out", tmp_path / "a.srt", "--plot", tmp_path / "a.svg")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.srt", "a.svg", "a.vtt"]
    cues = (tmp_path / "a.vtt").read_text().split("\n\n")[1:]
    assert len(cues) > 2
    assert cues[0].startswith("00:00:00.000 --> 00:00:00.750\n")
    assert "seconds" in (tmp_path / "a.svg").read_text()
    for words in (["--out", tmp_path / "b.vtt"], ["--plot", tmp_path / "b.png"]):
        done = predict(video.parent, *words)
        assert isinstance(done.exception, ConfigError), done.output
        assert "one" in str(done.exception)
    assert not list(tmp_path.glob("b*"))


def test_windows_by_seconds_say_which_frames_of_the_video_they_hold(video: Path) -> None:
    promised = contract("step")
    (whole,) = read_parts(Video(video), promised)
    parts = list(read_parts(Video(video), promised, Windows(0.6, 0.2)))
    assert len({part.first for part in parts}) == len(parts) > 3
    for part in parts:
        np.testing.assert_array_equal(part.times, whole.times[part.first : part.first + len(part.times)])
