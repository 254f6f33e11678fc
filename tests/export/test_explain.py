"""`mmadfer explain`: pictures of videos, their numbers, the overlay video, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from export_setup import CONTRACT, MODEL, awake, clips
from PIL import Image
from test_step_export import VALUES
from test_step_export import awake as of_steps
from test_step_export import contract as steps_contract

from mmadfer.cli.main import app, run
from mmadfer.contract import Contract
from mmadfer.data.faces.detection import square_around
from mmadfer.errors import ConfigError
from mmadfer.explain.drawing import heat_square, sized
from mmadfer.explain.explaining import _folder, _unique, check_out
from mmadfer.explain.maps import as_grid, attention_weights, explain, output_of, scaled
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights.build import build_model, save_weights
from mmadfer.runtime.inputs import Video, read_parts
from mmadfer.utils.files import read_object

CLASS = 2
BRANCHES = ("vision", "audio")


@pytest.fixture(scope="module")
def model() -> MMADFER:
    made = awake(1).eval()
    made.contract = CONTRACT
    return made


@pytest.fixture(scope="module")
def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    frames, fbank = map(torch.from_numpy, clips(1))
    return frames, fbank


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of one branch, as drawn."""
    folder, made = tmp_path_factory.mktemp("alone"), {}
    for branch in BRANCHES:
        config = MODEL.model_copy(update={"branches": branch, "fusion": "none"})
        config = type(MODEL).model_validate(config.model_dump(mode="json"))
        contract = CONTRACT.model_copy(update={"model": config, "modalities": branch})
        made[branch] = folder / f"{branch}.safetensors"
        save_weights(made[branch], build_model(config, len(contract.labels)), contract, frozen=True)
    return made


@pytest.fixture(scope="module")
def made(checkpoint: Path, video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One video, with all measures."""
    out = tmp_path_factory.mktemp("explained") / "out"
    assert command(video, checkpoint, out, "--method", "gradcam", "--label", "happy") == 0
    return out


def command(video: Path, model: Path, out: Path, *options: str) -> int:
    return run(app, ["explain", str(video), "--model", str(model), "--out", str(out), *options])


def index(out: Path) -> dict[str, Any]:
    return json.loads((out / "explain.json").read_text())


def streams(path: Path) -> tuple[list[float], float]:
    """When the pictures are shown, and how long the sound is."""
    with av.open(str(path)) as file:
        times = [float(frame.time or 0) for frame in file.decode(video=0)]
    with av.open(str(path)) as file:
        sound = sum(frame.samples / frame.sample_rate for frame in file.decode(audio=0)) if file.streams.audio else 0
    return times, sound


def test_a_grid_holds_patches_alone(model: MMADFER) -> None:
    encoder = model.vision
    tokens = torch.arange(encoder.positions.shape[1]).float()[None, :, None].expand(2, -1, 3)
    grid = as_grid(encoder, tokens)
    assert grid.shape == (2, 3, *encoder.grid)
    assert grid[1, 2].flatten().tolist() == list(range(1, encoder.end))  # neither the class token nor prompts


def test_attention_is_the_mean_of_tokens_before_the_last_norm(model: MMADFER, inputs: Any) -> None:
    found = explain(model, "attention", 1, output_of(0), *inputs)
    with torch.no_grad():
        tokens = model.detailed(*inputs).features[1]
        normed = model.vision.patches(tokens.vision[0]).mean(dim=-1)
    assert found["vision"].shape == (4, 2, 2)
    assert found["audio"].shape == (32, 8)
    assert np.array_equal(found["vision"].ravel(), tokens.vision[0, :, 1:5].mean(dim=-1).ravel().numpy())
    assert np.array_equal(found["audio"].ravel(), tokens.audio[0, 1:257].mean(dim=-1).ravel().numpy())
    assert np.ptp(found["vision"]) > 0.01
    assert float(normed.std()) < 1e-5  # after the norm it is the same everywhere


def test_weights_of_attention_give_what_the_block_computes(model: MMADFER) -> None:
    attention = model.audio.blocks[0].attn
    tokens = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(1))
    weights = attention_weights(attention, tokens)
    values = attention.qkv(tokens).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)[2]
    again = attention.proj((weights @ values).transpose(1, 2).flatten(2))
    assert torch.allclose(again, attention(tokens), atol=1e-6)
    assert torch.allclose(weights.sum(-1), torch.ones(2, attention.num_heads, 9))


def test_rollout_is_the_product_of_all_blocks(model: MMADFER, inputs: Any) -> None:
    """Computed again in float64 from what enters each block."""
    entered = list[torch.Tensor]()
    blocks = [block.attn for block in model.vision.blocks]
    handles = [block.register_forward_pre_hook(lambda _, given: entered.append(given[0])) for block in blocks]
    with torch.no_grad():
        model(*inputs)
        product = np.eye(entered[0].shape[1])
        for block, tokens in zip(blocks, entered, strict=True):
            mean = attention_weights(block, tokens).mean(1).double().numpy()
            product = (0.5 * mean + 0.5 * np.eye(len(mean[0]))) @ product
    for handle in handles:
        handle.remove()
    assert product.sum(-1) == pytest.approx(np.ones(product.shape[:2]))
    found = explain(model, "rollout", 1, output_of(0), *inputs)["vision"]
    assert found.reshape(4, -1) == pytest.approx(product[:, 0, 1:5], abs=1e-6)
    first = explain(model, "rollout", 0, output_of(0), *inputs)["vision"]
    assert not np.allclose(first, found)


@pytest.mark.slow  # importing pytorch-grad-cam takes a while
def test_gradcam_is_the_librarys_and_its_gradient_is_that_of_the_class(model: MMADFER, inputs: Any) -> None:
    frames, fbank = inputs
    kept = list[torch.Tensor]()
    norm = model.vision.layer(1)[-1].norm1
    handle = norm.register_forward_hook(lambda _, given, output: kept.append(output))
    logit = model((frames.float() / 255).requires_grad_(), fbank)[0, CLASS]
    handle.remove()
    (gradient,) = torch.autograd.grad(logit, kept[0])
    tokens, slopes = (as_grid(model.vision, one.detach()) for one in (kept[0], gradient))
    wanted = (slopes.mean(dim=(2, 3), keepdim=True) * tokens).sum(1).relu().numpy()
    found = explain(model, "gradcam", 1, output_of(CLASS), *inputs)
    assert found["vision"] == pytest.approx(wanted, rel=1e-4, abs=1e-9)
    assert found["vision"].max() > 0
    assert found["audio"].max() > 0
    other = explain(model, "gradcam", 1, output_of(0), *inputs)
    assert not np.allclose(other["vision"], found["vision"])
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_picture_is_scaled_over_all_frames_of_a_clip() -> None:
    picture = np.stack([np.full((2, 2), 1.0), np.array([[2.0, 3], [3, 5]])])
    assert scaled(picture)[0].max() == 0
    assert scaled(picture)[1].tolist() == [[0.25, 0.5], [0.5, 1]]
    assert not scaled(np.full((2, 3), 7.0)).any()


def test_a_video_becomes_pictures_numbers_and_a_video(made: Path, video: Path) -> None:
    found = index(made)
    (clip,) = found["clips"]
    (part,) = clip["parts"]
    folder = made / clip["folder"]
    assert (found["method"], found["layer"], found["layers"]) == ("gradcam", 1, 2)
    assert part["target"] == "happy"
    assert sum(part["answer"].values()) == pytest.approx(1)
    assert part["label"] == max(part["answer"], key=part["answer"].__getitem__)
    assert part["pictures"] == [f"frame-0{k}.png" for k in (1, 2, 3, 4)] + ["sound.png"]
    sizes = [Image.open(folder / name).size for name in part["pictures"]]
    assert sizes == [(224, 224)] * 4 + [(1024, 256)]  # time to the right
    assert Image.open(folder / part["sheet"]).width == 1100
    with np.load(folder / part["maps"], allow_pickle=False) as maps:
        assert maps["vision"].shape == (4, 2, 2)
        assert maps["audio"].shape == (32, 8)
        shown = maps["times"]
    times, sound = streams(folder / clip["film"])
    wanted, heard = streams(video)
    assert times == pytest.approx(wanted, abs=1e-4)
    assert sound == pytest.approx(heard, abs=0.05)
    assert all(min(abs(time - one) for one in wanted) < 1e-6 for time in shown)


def test_the_film_shows_what_the_model_saw_last_and_where_its_sound_is(made: Path) -> None:
    (clip,) = index(made)["clips"]
    with np.load(made / clip["folder"] / "maps.npz") as maps:
        shown = maps["times"]
    with av.open(str(made / clip["folder"] / clip["film"])) as file:
        frames = [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
    heat = [image[:240, 240:].astype(float) for _, image in frames]
    changes = [frames[k][0] for k in range(1, len(heat)) if np.abs(heat[k] - heat[k - 1]).mean() > 4]
    assert changes == pytest.approx(shown[1:].tolist(), abs=1e-3)
    green = [image[240:, :, 1].astype(int) - image[240:, :, 0] for _, image in frames]
    cursor = [int(one.mean(axis=0).argmax()) / one.shape[1] * 5.12 for one in green]
    assert cursor == pytest.approx([time for time, _ in frames], abs=0.03)


def test_heat_lies_on_the_face_in_the_picture_and_nowhere_else(made: Path, video: Path) -> None:
    """The picture takes the 240 pixels on the left."""
    (clip,) = index(made)["clips"]
    (part,) = read_parts(Video(video), CONTRACT)
    assert part.boxes is not None
    heat = scaled(np.load(made / clip["folder"] / "maps.npz")["vision"])
    with av.open(str(made / clip["folder"] / clip["film"])) as film, av.open(str(video)) as source:
        shown = [frame.to_ndarray(format="rgb24")[:240, :240] for frame in film.decode(video=0)]
        plain = [sized(frame.to_ndarray(format="rgb24"), (240, 240)) for frame in source.decode(video=0)]
    seen, *place = np.unravel_index(heat.argmax(), heat.shape)
    number = part.shown[0][seen]
    off = np.abs(shown[number].astype(int) - plain[number]).mean(axis=2)
    x0, y0, x1, y1 = map(round, square_around(part.boxes[number], 240, 240, CONTRACT.prepare.face_margin))
    outside = np.ones((240, 240), bool)
    outside[max(0, y0 - 2) : y1 + 2, max(0, x0 - 2) : x1 + 2] = False
    assert off[outside].mean() < 4, "what H.264 loses"
    sides = (y1 - y0) / heat.shape[1], (x1 - x0) / heat.shape[2]
    row, column = (round(low + (k + 0.5) * side) for low, k, side in zip((y0, x0), place, sides, strict=True))
    assert off[row - 3 : row + 4, column - 3 : column + 4].mean() > 30


@pytest.mark.parametrize("square", [(-3.2, 1.8, 4.9, 10.1), (6, 6, 6, 6), (-5, -5, 20, 20), (9.6, 3, 30, 4)])
def test_heat_is_cut_at_the_edge_of_the_picture(square: tuple[float, float, float, float]) -> None:
    picture = np.full((8, 12, 3), 100, np.uint8)
    heat_square(picture, np.ones((2, 2)), square)
    x0, y0, x1, y1 = (max(0, round(one)) for one in square)
    changed = (picture != 100).any(axis=2)
    wanted = np.zeros((8, 12), bool)
    wanted[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = True
    assert np.array_equal(changed, wanted)


def test_measures_stand_in_the_index_and_in_the_table(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = index(made)
    measures = found["clips"][0]["parts"][0]["measures"]
    assert list(measures) == ["vision", "audio"]
    for name, row in measures.items():
        assert list(row) == ["deletion", "deletion_random", "insertion", "insertion_random"]
        assert all(0 <= area <= 1 for area in row.values())
        assert {key: one["mean"] for key, one in found["measures"][name].items()} == pytest.approx(row)
    lines = (made / "measures.csv").read_text().splitlines()
    assert lines[0] == "clip,start,end,modality,deletion,deletion_random,insertion,insertion_random"
    assert [line.split(",")[3] for line in lines[1:]] == ["vision", "audio"]


def test_explanations_take_the_place_of_earlier_ones_and_of_nothing_else(
    made: Path, checkpoint: Path, video: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made, out)
    (out / "sad-000" / "old.txt").touch()
    assert command(video, checkpoint, out, "--layer", "0", "--no-curves") == 0
    assert not (out / "sad-000" / "old.txt").exists()
    found = index(out)
    assert (found["method"], found["layer"], found["measures"]) == ("attention", 0, {})
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").touch()
    for place, told in ((other, "holds something else"), (other / "mine.txt", "is a file")):
        assert command(video, checkpoint, place) == 2
        assert told in capfd.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out"]


@pytest.mark.parametrize("name", ["note.txt", "photos/one.jpg", "measures.csv/one.csv"])
def test_a_folder_with_other_files_is_refused(made: Path, tmp_path: Path, name: str) -> None:
    """Though explanations are there, too."""
    out = tmp_path / "out"
    shutil.copytree(made, out)
    (out / "measures.csv").unlink()
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("mine")
    with pytest.raises(ConfigError, match=name.split("/", maxsplit=1)[0]):
        check_out(out)
    (out / "explain.json").write_text("{}")
    with pytest.raises(ConfigError, match="sad-000"):
        check_out(out)
    assert (out / name).read_text() == "mine"


def test_a_link_to_a_folder_is_refused(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(made, out)
    check_out(out)
    shutil.rmtree(out / "sad-000")
    (out / "sad-000").symlink_to(made)
    with pytest.raises(ConfigError, match="sad-000"):
        check_out(out)


def test_where_nothing_was_explained_earlier_explanations_stay(
    made: Path, checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made, out)
    assert command(tmp_path / "none.mp4", checkpoint, out) == 2
    told = capfd.readouterr()
    assert "none.mp4" in told.out
    assert "nothing is written" in told.err
    assert index(out) == index(made)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_no_two_clips_have_one_folder() -> None:
    given = {"explain.json", "measures.csv"}
    names = ["clip", "clip", "clip-2", "CLIP", "Clip-2", "explain.json", "../..", "a/b", "é" * 300, "\udce9"]
    found = [_unique(name, given) for name in names]
    assert found[:6] == ["clip", "clip-2", "clip-2-2", "CLIP-3", "Clip-2-3", "explain.json-2"]
    assert found[6:] == ["clip-4", "a_b", "é" * 75, "clip-5"]


def test_what_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    def broken_off() -> None:
        with _folder(tmp_path / "out") as folder:
            (folder / "half.png").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert not list(tmp_path.iterdir())


def test_a_video_that_cannot_be_read_is_told_and_others_are_explained(
    checkpoint: Path, media: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"no video")
    shutil.copy(media / "happy" / "happy-000.mp4", folder / "b.mp4")
    assert command(folder, checkpoint, tmp_path / "out", "--no-curves") == 2
    found = index(tmp_path / "out")
    assert [clip["folder"] for clip in found["clips"]] == ["b"]
    assert [one["clip"] for one in found["failures"]] == [str(folder / "a.mp4")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b", "explain.json", "measures.csv"]
    assert "a.mp4" in capfd.readouterr().out


def test_windows_are_explained_one_by_one(checkpoint: Path, video: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert command(video, checkpoint, out, "--window", "1.5", "--hop", "1", "--no-curves", "--method", "rollout") == 0
    (clip,) = index(out)["clips"]
    spans = [(part["start"], part["end"]) for part in clip["parts"]]
    assert [start for start, _ in spans][:2] == [0, 1]
    for number, part in enumerate(clip["parts"], 1):
        assert part["sheet"] == f"window-000{number}-sheet.png"
        assert (out / clip["folder"] / part["sheet"]).is_file()
        with np.load(out / clip["folder"] / part["maps"]) as maps:
            assert part["start"] <= maps["times"].min() <= maps["times"].max() < part["end"]
    times, _ = streams(out / clip["folder"] / clip["film"])
    assert times == pytest.approx(streams(video)[0], abs=1e-4)  # windows lie over each other, the film does not


def test_a_model_of_frames_explains_a_silent_video(alone: dict[str, Path], video: Path, tmp_path: Path) -> None:
    silent = tmp_path / "silent.mp4"
    with av.open(str(video)) as source, av.open(str(silent), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert command(silent, alone["vision"], tmp_path / "out", "--no-curves") == 0
    (clip,) = index(tmp_path / "out")["clips"]
    folder = tmp_path / "out" / clip["folder"]
    assert not (folder / "sound.png").exists()
    with np.load(folder / "maps.npz") as maps:
        assert set(maps) == {"vision", "times"}
    times, sound = streams(folder / clip["film"])
    assert times == pytest.approx(streams(silent)[0], abs=1e-4)
    assert sound == 0


def test_a_model_of_sound_explains_a_file_of_sound(alone: dict[str, Path], tmp_path: Path) -> None:
    wav = tmp_path / "voice.wav"
    with av.open(str(wav), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=16000, layout="mono")
        wave = (8000 * np.sin(np.arange(32000) * 0.2)).astype(np.int16)
        block = av.AudioFrame.from_ndarray(wave[None], "s16", "mono")
        block.sample_rate = 16000
        file.mux(stream.encode(block))
        file.mux(stream.encode(None))
    assert command(wav, alone["audio"], tmp_path / "out", "--no-curves", "--method", "rollout") == 0
    (clip,) = index(tmp_path / "out")["clips"]
    (part,) = clip["parts"]
    assert part["pictures"] == ["sound.png"]
    times, sound = streams(tmp_path / "out" / clip["folder"] / clip["film"])
    assert times == pytest.approx((np.arange(50) / 25).tolist(), abs=1e-4)
    assert sound == pytest.approx(2, abs=0.05)


def test_sound_that_is_damaged_ends_the_overlays_alone(alone: dict[str, Path], video: Path, tmp_path: Path) -> None:
    """A model of frames does not need it."""
    damaged = tmp_path / "damaged.mp4"
    with av.open(str(video)) as file:
        packets = [(packet.pos, packet.size) for packet in file.demux(audio=0) if packet.size]
    data = bytearray(video.read_bytes())
    for position, size in packets[len(packets) // 2 :]:
        data[position : position + size] = b"\xff" * size
    damaged.write_bytes(data)
    assert command(damaged, alone["vision"], tmp_path / "out", "--no-curves") == 0
    (clip,) = index(tmp_path / "out")["clips"]
    (note,) = clip["notes"]
    times, sound = streams(tmp_path / "out" / clip["folder"] / clip["film"])
    assert times == pytest.approx(streams(video)[0], abs=1e-4)
    assert 0.4 < sound / streams(video)[1] < 0.6
    assert note.startswith(f"the sound of the overlay ends at {sound:.1f}")


def test_names_that_are_no_utf_8_are_escaped(alone: dict[str, Path], video: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(video, os.fsencode(folder) + b"/caf\xe9.mp4")
    Path(os.fsdecode(os.fsencode(folder) + b"/bad\xe9.mp4")).write_bytes(b"no video")
    out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/out\xe9"))
    assert command(folder, alone["vision"], out) == 2
    found = read_object(out / "explain.json")  # as the report reads it
    (clip,), (failure,) = found["clips"], found["failures"]
    assert clip["name"] == f"{folder}/caf\\udce9.mp4"
    assert failure["clip"] == f"{folder}/bad\\udce9.mp4"
    assert clip["name"] in (out / "measures.csv").read_text(encoding="utf-8")
    assert clip["folder"] == "caf"
    assert (out / "caf" / clip["film"]).stat().st_size


@pytest.mark.slow
def test_of_values_one_is_explained(video: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "steps.safetensors"
    save_weights(path, of_steps("step"), steps_contract("step"), frozen=True)
    first, *_ = VALUES
    if len(VALUES) > 1:
        assert command(video, path, tmp_path / "out", "--method", "gradcam") == 2
        assert "name it with --value" in capfd.readouterr().err
    assert command(video, path, tmp_path / "out", "--method", "gradcam", "--value", first) == 0
    found = index(tmp_path / "out")
    (part,) = found["clips"][0]["parts"]
    assert list(part["answer"]) == list(VALUES)
    assert part["target"] == first
    assert "label" not in part
    assert found["measures"] == {}  # curves are of probabilities


REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "layer": (("--layer", "2"), "layers 0 to 1"),
    "label": (("--label", "bored"), "the model has happy"),
    "value": (("--value", "valence"), "gives classes"),
    "hop": (("--hop", "1"), "without windows"),
    "clip": (("--clip", "a"), "clips of a run"),
    "clips": (("--clips", "9"), "--clips is for clips of a run"),
    "fold": (("--fold", "2"), "fold"),
    "device": (("--device", "tpu"), "tpu"),
}


@pytest.mark.parametrize(("options", "told"), REFUSED.values(), ids=REFUSED)
def test_wrong_options_are_refused(
    checkpoint: Path,
    video: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    told: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert command(video, checkpoint, tmp_path / "out", *options) == 2
    assert told in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_explained_is_refused(
    checkpoint: Path, video: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    onnx = tmp_path / "model.onnx"
    onnx.touch()
    wrong: dict[str, Callable[[], int]] = {
        "that it was exported from": lambda: command(video, onnx, tmp_path / "out"),
        "no file or folder": lambda: command(video, tmp_path / "none.safetensors", tmp_path / "out"),
        "give one with --out": lambda: run(app, ["explain", str(video), "--model", str(checkpoint)]),
        "give one run directory": lambda: run(app, ["explain", str(video)]),
        "is not a run directory": lambda: run(app, ["explain", str(tmp_path)]),
        "videos, which need --model": lambda: run(app, ["explain", str(tmp_path), "--window", "1"]),
    }
    for told, call in wrong.items():
        assert call() == 2, told
        assert told in capfd.readouterr().err
    assert command(tmp_path / "none.mp4", checkpoint, tmp_path / "none") == 2
    assert "none.mp4" in capfd.readouterr().out


def test_a_missing_package_is_named(
    checkpoint: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    assert command(video, checkpoint, tmp_path / "out", "--method", "gradcam") == 2
    assert "[explain]" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_torch_the_package_is_named(video: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from mmadfer.cli.main import app, run; sys.exit(run(app))"
    options = ["explain", str(video), "--model", "none.pth", "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "[explain]" in done.stderr
    assert "Traceback" not in done.stderr


def test_blanks_are_not_explained() -> None:
    """A model with both encoders that was trained with silence: there is nothing to be seen in the sound."""
    from mmadfer.explain.maps import used

    silent: Contract = CONTRACT.model_copy(update={"modalities": "vision"})
    assert used(silent) == ("vision",)
    assert used(CONTRACT) == BRANCHES
