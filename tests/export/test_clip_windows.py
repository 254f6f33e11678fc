"""A model that has learnt windows: the same label from a store, a file, and a graph that takes windows together."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_setup import CONTRACT, MODEL, awake
from needs import needed
from typer.testing import CliRunner

from mmadfer.cli.main import app, run
from mmadfer.cli.predict import predict_files
from mmadfer.config.schema import Config, WindowConfig
from mmadfer.contract import Contract
from mmadfer.data.frame_windows import covering_windows, spaced_windows
from mmadfer.data.loading.samplers import Pick
from mmadfer.data.store.store import Store
from mmadfer.errors import ConfigError, WeightsError
from mmadfer.evaluation.clip_windows import by_clip
from mmadfer.evaluation.evaluate import evaluate
from mmadfer.evaluation.predictions import Predictions
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.export.parity.parity import export_onnx, parity
from mmadfer.export.server.to_triton import to_triton
from mmadfer.model.weights.build import save_weights
from mmadfer.runtime import Recogniser, Video
from mmadfer.runtime.arrays import from_clip, from_record
from mmadfer.runtime.inputs import ClipViews, read_parts, read_whole
from mmadfer.tasks.classification import CLASSIFICATION
from mmadfer.tasks.pooling import clip_logits

SPAN = 7
"""Of 4 frames at a stride of 2."""


def windowed(**window: Any) -> Contract:
    return CONTRACT.model_copy(update={"window": WindowConfig(**{"stride": 2, "hop": 5, **window})})


def saved(folder: Path, name: str, **window: Any) -> Path:
    path = folder / f"{name}.safetensors"
    save_weights(path, awake(1), windowed(**window), frozen=True)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("windowed")


@pytest.fixture(scope="module")
def soft(folder: Path) -> Path:
    return saved(folder, "soft", pool="softmax", gamma=2.0)


@pytest.fixture(scope="module")
def plain_graph(soft: Path) -> Path:
    return to_onnx(soft, soft.with_suffix(".onnx"))


@pytest.mark.parametrize("flips", [False, True])
def test_a_file_is_told_as_its_record_is_tested(store: Path, media: Path, soft: Path, flips: bool) -> None:
    with Store(store) as opened:
        ids = sorted(opened.clips)
        config = Config.model_validate(
            {
                "name": "x",
                "prepare": opened.prepare,
                "model": MODEL,
                "data": {"store": store, "window": windowed(pool="softmax", gamma=2.0).window, "test_flips": flips},
                "train": {"batch_size": 8},
            }
        )
        tested = evaluate(awake(1).eval(), opened, config, CONTRACT.labels, ids)
        files = [opened.media(clip) for clip in ids]
        counts = [len(covering_windows(opened.clips[clip].frames, SPAN, 5)) for clip in ids]
    assert isinstance(tested, Predictions)
    recogniser = Recogniser(soft, flips=flips)
    found = [recogniser(file) for file in files]
    assert [len(one.segments) for one in found] == counts
    told = np.array([list(one.probabilities.values()) for one in found])
    np.testing.assert_allclose(told, tested.probabilities, atol=0.01)  # DALI resizes there, Pillow here


def test_a_graph_that_takes_windows_together_gives_the_pool_of_each(
    folder: Path, soft: Path, plain_graph: Path, video: Path
) -> None:
    for name, window in {
        "soft": {"pool": "softmax", "gamma": 2.0},
        "most": {"pool": "softmax", "gamma": float("inf")},
        "mean": {"pool": "mean"},
        "flat": {"pool": "softmax", "gamma": 0.0},
    }.items():
        graph = to_onnx(saved(folder, name, **window), folder / f"{name}.k.onnx", windows=5)
        together, alone = Recogniser(graph), Recogniser(plain_graph)
        assert together.contract.pooled_windows == 5
        (part,) = read_parts(Video(video), together.contract)
        assert part.inputs is not None
        frames, fbank = part.inputs
        assert frames.shape == (1, 5, 4, 3, 32, 32)
        assert fbank.shape == (1, 5, 1, 512, 128)
        rows = alone.backend.logits(frames[0], fbank[0])
        contract = windowed(**window)
        assert contract.window is not None
        expected = clip_logits(rows, contract.window)
        np.testing.assert_allclose(together.backend.logits(frames, fbank)[0], expected, atol=2e-5)
        both = together.backend.logits(np.repeat(frames, 3, 0), np.repeat(fbank, 3, 0))
        np.testing.assert_allclose(both, np.tile(expected, (3, 1)), atol=2e-5)


def test_the_same_windows_give_the_same_label_in_the_graph_and_in_the_runtime(
    folder: Path, plain_graph: Path, video: Path
) -> None:
    count = len(Recogniser(plain_graph)(video).segments)
    graph = to_onnx(saved(folder, "all", pool="softmax", gamma=2.0), folder / "all.k.onnx", windows=count)
    n = len(read_whole(Video(video), Recogniser(graph).contract).times)
    assert spaced_windows(n, SPAN, count) == covering_windows(n, SPAN, 5), "the hop divides this clip"
    apart, together = Recogniser(plain_graph)(video), Recogniser(graph)(video)
    assert together.label == apart.label
    assert len(together.segments) == 1
    for name, share in apart.probabilities.items():
        assert together.probabilities[name] == pytest.approx(share, abs=1e-5)


@pytest.mark.parametrize("windows", [None, 3])
def test_a_file_and_its_record_give_the_same_arrays(store: Path, windows: int | None) -> None:
    contract = windowed().model_copy(update={"pooled_windows": windows})
    with Store(store) as opened:
        for name in opened.clips:
            read = from_clip(read_whole(Video(opened.media(name)), contract), contract)
            kept = from_record(opened.read(name), contract, opened.clips[name])
            for one, other in zip(read, kept, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("windows", [None, 3])
def test_graphs_are_delivered_when_parity_holds(soft: Path, store: Path, tmp_path: Path, windows: int | None) -> None:
    out = export_onnx(soft, tmp_path / "model.onnx", store, windows=windows)
    report = json.loads(out.with_suffix(".parity.json").read_text())
    assert report["passed"]
    assert parity(soft, [out], store).passed


def test_models_of_other_numbers_of_windows_are_not_compared_at_once(soft: Path, store: Path, tmp_path: Path) -> None:
    graphs = [to_onnx(soft, tmp_path / f"{k}.onnx", windows=k) for k in (2, 3)]
    with pytest.raises(WeightsError, match="other numbers of windows together"):
        parity(soft, graphs, store)


def test_predict_tells_the_whole_video_beside_its_windows(
    soft: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outs = [tmp_path / "out.json", tmp_path / "out.csv"]
    for options in ({}, {"window": 1.0, "hop": 0.5}):
        assert predict_files([video], soft, out=outs, **options) == 0
        (told,) = json.loads(outs[0].read_text())
        assert len(told["segments"]) > 3
        assert told["label"] == max(told["probabilities"], key=told["probabilities"].__getitem__)
        rows = list(csv.DictReader(outs[1].read_text().splitlines()))
        assert {row["video_label"] for row in rows} == {told["label"]}
        assert [row["label"] for row in rows] == [one["label"] for one in told["segments"]]
        assert told["label"] in capsys.readouterr().out
        spans = [(one["start"], one["end"]) for one in told["segments"]]
        if options:
            assert spans[0][1] - spans[0][0] == pytest.approx(1.0)


def test_the_pool_is_of_logits_not_of_probabilities(folder: Path, video: Path) -> None:
    most = Recogniser(saved(folder, "inf", pool="softmax", gamma=float("inf")))
    rows = list[np.ndarray]()
    parts = list(read_parts(Video(video), most.contract))
    for part in parts:
        assert part.inputs is not None
        rows.append(most.backend.logits(*part.inputs)[0])
    expected = torch.from_numpy(np.stack(rows).max(0)).softmax(0).numpy()
    np.testing.assert_allclose(list(most(video).probabilities.values()), expected, atol=1e-6)


@pytest.mark.parametrize("pool", ["mean", "softmax"])
@pytest.mark.parametrize("stride", [2, 100], ids=["several windows", "one window"])
def test_looks_and_windows_are_pooled_as_in_a_test_and_adjusted_once(
    folder: Path, video: Path, pool: str, stride: int
) -> None:
    path, priors = folder / f"{pool}{stride}.safetensors", (0.4, 0.3, 0.2, 0.1)
    contract = windowed(stride=stride, pool=pool, gamma=3.0).model_copy(update={"priors": priors})
    save_weights(path, awake(1), contract, frozen=True)
    recogniser = Recogniser(path, flips=True, adjust=1)
    parts = list(read_parts(Video(video), contract, views=ClipViews(flips=True)))
    assert (len(parts) > 1) == (stride == 2)
    looks = [one for part in parts for one in (part.inputs, *part.others) if one is not None]
    logits = torch.from_numpy(np.stack([recogniser.backend.logits(*one)[0] for one in looks]))
    assert contract.window is not None
    rows = [Pick("clip", window=(k, 1)) for k in range(len(parts))]
    tested, _ = by_clip(
        rows, logits.unflatten(0, (len(parts), 2)), torch.zeros(len(parts)), contract.window, CLASSIFICATION
    )
    expected = Predictions(["clip"], np.zeros(1, np.int64), tested.numpy(), contract.labels).adjusted(priors, 1)
    found = recogniser(video)
    np.testing.assert_allclose(list(found.probabilities.values()), expected.probabilities[0], atol=1e-5)
    assert found.label == contract.labels[expected.predicted[0]]
    if len(parts) == 1:
        assert found.segments[0]["probabilities"] == found.probabilities


def test_index_sets_of_a_model_that_has_learnt_windows_are_refused(
    soft: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, ["evaluate", str(soft), "--data", str(store), "--clips", "2"]) == 2
    assert (
        "clips is 2, but the model has learnt windows (data.window), which have one set: 1" in capsys.readouterr().err
    )


def test_what_windows_do_not_go_with_is_named(soft: Path, video: Path, checkpoint: Path, tmp_path: Path) -> None:
    graph = to_onnx(soft, tmp_path / "k.onnx", windows=2)
    with pytest.raises(ConfigError, match="takes 2 windows of a clip together"):
        Recogniser(graph)(video, window=1.0)
    with pytest.raises(ConfigError, match="has learnt windows"):
        Recogniser(soft, clips=2)
    with pytest.raises(ConfigError, match=r"--windows 2: .* trained with data\.window"):
        to_onnx(checkpoint, tmp_path / "no.onnx", windows=2)
    with pytest.raises(ConfigError, match="export with --input fbank"):
        to_onnx(soft, tmp_path / "no.onnx", input="waveform", rate=16000)
    needed("tritonclient")
    with pytest.raises(WeightsError, match="export the model with --windows K"):
        to_triton(to_onnx(soft, tmp_path / "one.onnx"), tmp_path / "repository")
    to_triton(graph, tmp_path / "repository")


def test_the_command_takes_windows(soft: Path, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    words = ["export", "onnx", str(soft), "--out", str(out), "--data", str(store), "--windows", "2", "--clips", "1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert Recogniser(out).contract.pooled_windows == 2
