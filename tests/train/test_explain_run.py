"""`mmadfer explain RUN`: the hardest and the surest clips of a test fold, action-unit maps, and the run's report."""

import base64
import csv
import io
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from setting import LABELS, SIDE, make_config

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from test_action_units import face

from mmadfer.cli.explain import disgust_of
from mmadfer.cli.main import app, run
from mmadfer.config.alignment import AlignConfig
from mmadfer.config.schema import Config, parse
from mmadfer.data.media.image import decode_jpeg
from mmadfer.data.store.store import Clip, ClipRecord, Store, write_store
from mmadfer.errors import DataError
from mmadfer.evaluation.explanation_scores import cosine, resized
from mmadfer.explain.sources import _compared, _stored
from mmadfer.explain.unit_scores import unit_scores
from mmadfer.report.explanation_index import IndexClip, IndexPart
from mmadfer.report.explanations import _sheet, explanations
from mmadfer.report.page import render_report
from mmadfer.report.summary import gather
from mmadfer.run import directory as runs
from mmadfer.runtime.inputs import VideoPart
from mmadfer.tasks.action_units import class_map
from mmadfer.train.loop import train


@pytest.fixture(scope="module")
def landmarked(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store, with a face in every frame of every clip, but in the first frame of each."""
    path = tmp_path_factory.mktemp("landmarked") / "tiny.store"
    points = (face() * SIDE / 224).numpy().astype(np.float16)
    with Store(store) as whole:
        made = []
        for name, clip in whole.clips.items():
            landmarks = np.repeat(points[None], clip.frames, axis=0)
            landmarks[0] = np.nan
            record = replace(whole.read(name), tensors={"landmarks": landmarks})
            made.append((replace(clip, tensors={"landmarks": ""}), record))
        write_store(path, whole.header, made)
    return path


@pytest.fixture(scope="module")
def trained(config: Config, straight: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its first fold."""
    made = runs.create(tmp_path_factory.mktemp("trained") / "run", config)
    shutil.copytree(straight, made.fold(1))
    return made.path


@pytest.fixture(scope="module")
def explained(trained: Path, landmarked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained") / "run"
    shutil.copytree(trained, folder)
    assert run(app, ["explain", str(folder), "--clips", "2", "--data", str(landmarked)]) == 0
    return folder


def index(run: Path) -> dict[str, Any]:
    return json.loads((run / "explain/attention/explain.json").read_text())


def shares(run: Path) -> dict[str, float]:
    """Of each clip, the probability of its own label."""
    with (run / "fold-1/predictions.csv").open(encoding="utf-8") as file:
        return {row["id"]: float(row[f"p_{row['label']}"]) for row in csv.DictReader(file)}


def test_the_hardest_and_the_surest_clips_are_chosen(explained: Path) -> None:
    told, found = shares(explained), index(explained)
    ranked = sorted(told, key=lambda clip: (told[clip], clip))
    assert [clip["name"] for clip in found["clips"]] == [*ranked[:2], *ranked[-1:-3:-1]]
    assert [clip["chosen"] for clip in found["clips"]] == ["hardest"] * 2 + ["surest"] * 2
    for clip in found["clips"]:
        (part,) = clip["parts"]
        assert part["answer"][clip["truth"]] == pytest.approx(told[clip["name"]], abs=2e-3)
    assert found["model"]["fold"] == 1


def test_pictures_are_held_against_the_maps_of_the_truth(explained: Path, landmarked: Path) -> None:
    found, kinds = index(explained), set[str]()
    for clip in found["clips"]:
        (part,) = clip["parts"]
        has_map = clip["truth"] == "sad"  # glad and calm are no expressions of the codebook
        kinds.add(clip["truth"])
        assert ("cosine" in part["measures"]["vision"]) == has_map
        assert "cosine" not in part["measures"]["audio"]
    assert kinds <= {*LABELS}
    with Store(landmarked) as opened:
        named = next(clip.id for clip in opened.clips.values() if clip.label == "sad" and clip.fold == 1)
    options = ["--clip", named, "--data", str(landmarked), "--no-curves", "--out", str(explained.parent / "named")]
    assert run(app, ["explain", str(explained), *options]) == 0
    (clip,) = json.loads((explained.parent / "named/explain.json").read_text())["clips"]
    (part,) = clip["parts"]
    assert clip["chosen"] == "named"
    with np.load(explained.parent / "named" / clip["folder"] / "maps.npz") as maps:
        picture = maps["vision"]
    fine, _ = class_map(face(), (224, 224), "sad", picture.shape[1:])
    fine = np.repeat(fine.numpy().reshape(1, *fine.shape[-2:]), len(picture), axis=0)
    assert part["measures"]["vision"]["cosine"] == pytest.approx(cosine(picture[1:], fine[1:]), abs=1e-2)


def test_a_picture_that_is_the_map_points_at_it() -> None:
    points = face()[None].numpy().repeat(3, axis=0)
    points[2] = np.nan
    large, _ = class_map(face()[None], (224, 224), "happy", (14, 14))
    picture = large.numpy().repeat(3, axis=0)
    found = unit_scores(picture, points, (224, 224), "happy")
    assert found["pointing"] == 1
    assert found["cosine"] == pytest.approx(1, abs=1e-5)
    assert 0 < found["pointing_random"] < 0.5
    away = unit_scores(1 - picture, points, (224, 224), "happy")
    assert away["pointing"] == 0
    assert away["cosine"] < 0.8
    assert unit_scores(picture, points, (224, 224), "neutral") == {}
    assert unit_scores(picture, np.full_like(points, np.nan), (224, 224), "happy") == {}
    assert resized(picture, (28, 28)).shape == (3, 28, 28)


def test_the_report_shows_them_and_is_as_before_without(explained: Path, trained: Path) -> None:
    page = render_report(gather(explained))
    assert "Explained by attention" in page
    assert page.count("data:image/jpeg;base64,") == 4
    for clip in index(explained)["clips"]:
        assert f"{clip['chosen']}: {clip['name']}, truth {clip['truth']}" in page
    assert "deletion, random" in page
    plain = render_report(replace(gather(explained), run=trained))
    assert "Explained" not in plain
    assert "data:image" not in plain


DAMAGE: dict[str, tuple[str, str]] = {
    "not JSON": ("{", ""),
    "a folder elsewhere": ('"folder": "', '"folder": "../../fold-1/'),
    "no method": ('"method"', '"no"'),
    "a number that is none": ('"layer": 1', '"layer": "x"'),
}


@pytest.mark.parametrize(("old", "new"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_explanations_are_left_out(explained: Path, tmp_path: Path, old: str, new: str) -> None:
    folder = tmp_path / "explain/attention"
    shutil.copytree(explained / "explain/attention", folder)
    assert len(explanations(tmp_path)) == 1
    text = (folder / "explain.json").read_text()
    assert old in text
    (folder / "explain.json").write_text(text.replace(old, new, 1))
    assert explanations(tmp_path) == []


def test_a_damaged_sheet_is_told(explained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "explain/attention"
    shutil.copytree(explained / "explain/attention", folder)
    name = index(explained)["clips"][0]["folder"]
    (folder / name / "sheet.png").write_bytes(b"no picture")
    (found,) = explanations(tmp_path)
    assert [bool(clip.image) for clip in found.clips] == [False, True, True, True]
    assert found.clips[0].problem


SIZES = [((1, 3_000_000), (1, 10_000)), ((1, 1000), (1, 1000)), ((1100, 550), (900, 450))]


@pytest.mark.parametrize(("size", "wanted"), SIZES)
def test_a_sheet_is_never_enlarged(tmp_path: Path, size: tuple[int, int], wanted: tuple[int, int]) -> None:
    (tmp_path / "clip").mkdir()
    Image.new("RGB", size).save(tmp_path / "clip/sheet.png")
    sheet = _sheet(tmp_path, IndexClip(name="a", folder="clip", parts=[IndexPart(sheet="sheet.png")]))
    data = base64.b64decode(sheet.image.removeprefix("data:image/jpeg;base64,"))
    assert Image.open(io.BytesIO(data)).size == wanted


def test_explanations_of_earlier_weights_are_marked(explained: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(explained, copy)
    (found,) = explanations(copy)
    assert not found.earlier
    path = copy / "explain/attention/explain.json"
    tree = json.loads(path.read_text())
    tree["model"]["weights_hash"] = "0" * 64
    path.write_text(json.dumps(tree))
    (found,) = explanations(copy)
    assert found.earlier
    assert "Explained by attention, of earlier weights" in render_report(gather(copy))
    assert "of earlier weights" not in render_report(gather(explained))


def test_windows_of_a_clip_are_those_of_its_test(store: Path, tmp_path: Path) -> None:
    tree = make_config(store, epochs=1).model_dump(exclude_unset=True)
    tree["model"]["frames"] = 2
    tree["data"] |= {"window": {"hop": 2}}
    made = runs.create(tmp_path / "run", parse(tree, "the test"))
    assert train(made.config, 1, made.fold(1)).finished
    assert run(app, ["explain", str(made.path), "--clips", "1", "--no-curves", "--method", "rollout"]) == 0
    found = json.loads((made.path / "explain/rollout/explain.json").read_text())
    with Store(store) as opened:
        for clip in found["clips"]:
            frames = opened.clips[clip["name"]].frames
            starts = [*range(0, frames - 2, 2), frames - 2]
            assert [part["start"] for part in clip["parts"]] == pytest.approx([start / 25 for start in starts])
            with np.load(made.path / "explain/rollout" / clip["folder"] / "window-0001-maps.npz") as maps:
                assert maps["times"].tolist() == pytest.approx([0, 1 / 25])


FOREIGN: dict[str, np.ndarray | str] = {
    "three numbers": np.zeros((4, 68, 3), np.float32),
    "five points": np.zeros((4, 5, 2), np.float32),
    "whole numbers": np.zeros((4, 68, 2), np.int32),
    "too few": np.zeros((3, 68, 2), np.float32),
    "too many": np.zeros((5, 68, 2), np.float32),
    "a text": "eyes",
}


def stored(source: Path, path: Path, change: Callable[[Clip, ClipRecord], tuple[Clip, ClipRecord] | None]) -> Path:
    """The first clips of a store, each changed or left out."""
    with Store(source) as whole:
        some = [change(clip, whole.read(name)) for name, clip in whole.clips.items()]
        write_store(path, whole.header, [one for one in some if one is not None])
    return path


@pytest.mark.parametrize("tensor", FOREIGN.values(), ids=FOREIGN)
def test_foreign_landmarks_are_told(store: Path, tmp_path: Path, tensor: np.ndarray | str) -> None:
    def landmarked(clip: Clip, record: ClipRecord) -> tuple[Clip, ClipRecord] | None:
        if clip.label != "sad":
            return None
        times = np.arange(4) / 25
        record = replace(record, jpegs=record.jpegs[:1] * 4, times=times, tensors={"landmarks": tensor})
        return replace(clip, frames=4, tensors={"landmarks": ""}), record

    part = VideoPart(0, 1, None, shown=(np.arange(4),), times=np.arange(4) / 25)
    with Store(stored(store, tmp_path / "foreign.store", landmarked)) as opened:
        clip = next(iter(opened.clips))
        with pytest.raises(DataError, match=clip):
            _compared(opened, clip, "program", part, {"vision": np.ones((4, 2, 2), np.float32)})


def test_a_store_without_the_tested_clips_is_refused(
    trained: Path, store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told = shares(trained)
    hardest = min(told, key=lambda clip: (told[clip], clip))
    less = stored(store, tmp_path / "less.store", lambda *both: None if both[0].id == hardest else both)
    assert run(app, ["explain", str(trained), "--data", str(less)]) == 2
    assert f"has no clip {hardest}" in capfd.readouterr().err

    def turned(clip: Clip, record: ClipRecord) -> tuple[Clip, ClipRecord]:
        return replace(clip, label=LABELS[LABELS.index(clip.label) - 1]), record

    other = stored(store, tmp_path / "other.store", turned)
    assert run(app, ["explain", str(trained), "--data", str(other)]) == 2
    assert f"{hardest!r} has the label" in capfd.readouterr().err
    assert not list(trained.glob("explain/*/explain.json"))


def test_frames_of_a_store_are_read_in_blocks(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmadfer.explain.sources._BLOCK", 3)
    with Store(store) as opened:
        clip = max(opened.clips.values(), key=lambda one: (one.frames % 3 != 0, one.frames))
        whole, shown = opened.read(clip.id), list(_stored(opened, clip.id))
    assert clip.frames > 3
    assert whole.times is not None
    assert [one.time for one in shown] == whole.times.tolist()
    for one, jpeg in zip(shown, whole.jpegs, strict=True):
        assert np.array_equal(one.image, decode_jpeg(jpeg))


def test_pictures_are_compared_with_the_disgust_of_the_run(config: Config, explained: Path) -> None:
    picture = class_map(face()[None], (224, 224), "disgust", (14, 14), "facs10")[0].numpy()
    points = face()[None].numpy()
    assert unit_scores(picture, points, (224, 224), "disgust", "facs10")["cosine"] == pytest.approx(1, abs=1e-5)
    assert unit_scores(picture, points, (224, 224), "disgust")["cosine"] < 0.99
    assert index(explained)["disgust"] == "program"
    assert disgust_of(config) == "program"
    task = config.task.model_copy(update={"align": AlignConfig(disgust="facs10")})
    assert disgust_of(config.model_copy(update={"task": task})) == "facs10"


REFUSED = {
    "fold": (("--fold", "2"), "fold 2"),
    "clip": (("--clip", "nobody"), "has not tested nobody"),
    "store": (("--data", "none.store"), "no store"),
    "layer": (("--layer", "9"), "layers 0 to 1"),
    "cropped": (("--cropped",), "videos, which need --model"),
}


@pytest.mark.parametrize(("options", "told"), REFUSED.values(), ids=REFUSED)
def test_wrong_options_are_refused(
    trained: Path, options: tuple[str, ...], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(app, ["explain", str(trained), *options]) == 2
    assert told in capfd.readouterr().err
    assert not list(trained.glob("explain/*/explain.json"))
