import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_setup import CONTRACT, awake, clips
from rich.console import Console

from mmadfer import contract as contracts
from mmadfer.cli.main import app, run
from mmadfer.cli.predict import predict_files
from mmadfer.config.schema import SoundConfig
from mmadfer.data.clip import ClipData, read_clip
from mmadfer.data.sets import toy
from mmadfer.data.store.record import ClipRecord
from mmadfer.errors import ClipError, DataError, MissingDependencyError, WeightsError
from mmadfer.model.weights.build import save_weights
from mmadfer.runtime import Failure, Prediction, Recogniser
from mmadfer.runtime.backends.device import Device
from mmadfer.runtime.backends.torch_backend import TorchBackend
from mmadfer.runtime.recogniser import from_clip, from_record, seen_frames
from mmadfer.runtime.writers import print_predictions, write_csv, write_predictions_json
from mmadfer.tasks.calibration import softmax


@pytest.fixture(scope="module")
def bad(media: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Videos that cannot be predicted, by what is wrong with them."""
    folder = tmp_path_factory.mktemp("bad")
    frames, sound = toy.content("sad", 0, seed=1)
    toy.write_clip(folder / "faceless.mp4", np.full_like(frames, 128), sound)
    toy.write_clip(folder / "silent.mp4", frames, sound[:0])
    (folder / "empty.mp4").touch()
    whole = (media / "sad" / "sad-000.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    return {name: folder / f"{name}.mp4" for name in ("faceless", "silent", "empty", "cut", "missing")}


@pytest.fixture(scope="module")
def prediction(onnx_file: Path, video: Path) -> Prediction:
    return Recogniser(onnx_file)(video)


def test_a_video_gives_a_prediction(prediction: Prediction, video: Path) -> None:
    assert prediction.video == str(video)
    assert tuple(prediction.probabilities) == CONTRACT.labels
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert prediction.label == max(prediction.probabilities, key=prediction.probabilities.__getitem__)
    (segment,) = prediction.segments
    assert segment["start"] == pytest.approx(0, abs=0.1)
    assert 2.7 < segment["end"] < 3.3  # as long as toy clips are
    assert (segment["label"], segment["probabilities"]) == (prediction.label, prediction.probabilities)
    assert prediction.model["backend"] == "onnxruntime"
    assert (prediction.model["data_set"], prediction.model["fold"]) == ("toy", 1)


def test_both_backends_say_the_same(checkpoint: Path, prediction: Prediction, video: Path) -> None:
    other = Recogniser(checkpoint)(video)
    assert (other.label, other.model["backend"]) == (prediction.label, "torch")
    assert other.probabilities == pytest.approx(prediction.probabilities, abs=1e-5)
    assert other.model["weights_hash"] == prediction.model["weights_hash"]


def test_a_run_directory_is_a_model_too(prediction: Prediction, video: Path, tmp_path: Path) -> None:
    path = tmp_path / "fold-1/checkpoints/step-00000007/weights.safetensors"
    save_weights(path, awake(1), CONTRACT, frozen=False)
    found = Recogniser(tmp_path, fold=1)(video)
    assert found.probabilities == pytest.approx(prediction.probabilities, abs=1e-5)
    with pytest.raises(WeightsError, match="no fold 2"):
        Recogniser(tmp_path, fold=2)


def test_a_product_needs_no_training_packages(onnx_file: Path, video: Path) -> None:
    code = f"""
import sys, mmadfer
print(mmadfer.Recogniser({str(onnx_file)!r})({str(video)!r}).label)
bad = [name for name in ("deepspeed", "nvidia.dali", "submitit", "timm", "onnx", "onnxscript") if name in sys.modules]
sys.exit(f"imported {{bad}}" if bad else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in CONTRACT.labels


@pytest.mark.parametrize("modalities", ["both", "vision", "audio"])
def test_a_model_is_fed_what_it_was_trained_on(video: Path, modalities: str) -> None:
    clip = read_clip(video, CONTRACT.prepare, keep=seen_frames(CONTRACT))
    frames, fbank = from_clip(clip, CONTRACT.model_copy(update={"modalities": modalities}))
    assert (frames.shape, frames.dtype) == ((1, 4, 3, 32, 32), np.uint8)
    assert (fbank.shape, fbank.dtype) == ((1, 1, 512, 128), np.float32)
    assert bool(frames.any()) == (modalities != "audio")
    assert (fbank.std() > 0.01) == (modalities != "vision")


def test_the_frames_it_encodes_are_those_of_the_store(video: Path) -> None:
    every = read_clip(video, CONTRACT.prepare)
    some = from_clip(read_clip(video, CONTRACT.prepare, keep=seen_frames(CONTRACT)), CONTRACT)
    stored = from_record(ClipRecord(every.jpegs, every.fbank), CONTRACT)
    assert [array.tobytes() for array in some] == [array.tobytes() for array in stored]


def test_a_prediction_without_sound_says_so(bad: dict[str, Path], prediction: Prediction, tmp_path: Path) -> None:
    silence = CONTRACT.prepare.model_copy(update={"no_sound": "silence"})
    path = tmp_path / "fold-1/checkpoints/step-00000007/weights.safetensors"
    save_weights(path, awake(1), CONTRACT.model_copy(update={"prepare": silence}), frozen=False)
    (found,) = Recogniser(path.parent).predict([bad["silent"]])
    assert isinstance(found, Prediction)
    assert (len(found.notes), prediction.notes) == (1, [])
    assert "silence in its place" in found.notes[0]
    files = {"json": tmp_path / "out.json", "csv": tmp_path / "out.csv"}
    write_predictions_json(files["json"], [found])
    write_csv(files["csv"], [prediction, found], CONTRACT.labels)
    assert json.loads(files["json"].read_text())[0]["notes"] == found.notes
    rows = csv.DictReader(files["csv"].read_text().splitlines())
    assert [row["notes"] for row in rows] == ["", found.notes[0]]
    console = Console(record=True, width=200)
    print_predictions([prediction, found], console)
    assert console.export_text().count("silence in its place") == 1


def test_a_prediction_says_that_others_cropped_what_the_model_saw(
    onnx_file: Path, video: Path, prediction: Prediction
) -> None:
    recogniser = Recogniser(onnx_file)
    recogniser.backend.contract = CONTRACT.model_copy(update={"cropped": True})
    assert prediction.notes == []
    assert recogniser(video).notes == [
        "trained on faces cropped by the data set's owners; here they were found by mmadfer"
    ]


def test_sound_of_a_strange_rate_is_told_before_faces_are_looked_for(onnx_file: Path, bad: dict[str, Path]) -> None:
    recogniser = Recogniser(onnx_file)
    native = CONTRACT.prepare.model_copy(update={"sound": SoundConfig(rate="native")})
    recogniser.backend.contract = CONTRACT.model_copy(update={"prepare": native, "sound_rates": (8000,)})
    with pytest.raises(ClipError) as caught:
        recogniser(bad["faceless"])
    assert caught.value.reason == "sound rate"


def test_torch_keeps_float32_in_full_while_it_computes_for_a_gpu(
    onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, seen = TorchBackend(onnx_file.with_suffix(".safetensors")), list[bool]()
    backend.model.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    backend.logits(*clips(1))
    monkeypatch.setattr(backend, "device", Device("cuda"))
    monkeypatch.setattr(backend, "_there", torch.from_numpy)  # there is none here
    backend.logits(*clips(1))
    assert seen == [True, False]
    assert torch.backends.cudnn.allow_tf32  # for others, as it was


def test_softmax_holds_with_large_logits() -> None:
    np.testing.assert_allclose(softmax(np.array([1000.0, 999.0], np.float32)), [0.731059, 0.268941], atol=1e-6)


@pytest.mark.parametrize(("times", "seconds"), [([0.0, 0.1, 0.2], (0, 0.3)), ([1.0], (1, 1)), ([0.5, 1.0], (0.5, 1.5))])
def test_a_clip_lasts_as_long_as_its_frames_are_shown(times: list[float], seconds: tuple[float, float]) -> None:
    clip = ClipData([], np.empty((0, 0)), np.array(times), 16000, silent=False)
    assert clip.span == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("name", "words"),
    [("faceless", "face"), ("silent", "sound"), ("empty", "zero bytes"), ("cut", "cut off"), ("missing", "exist")],
)
def test_a_bad_video_is_named_with_the_reason(onnx_file: Path, bad: dict[str, Path], name: str, words: str) -> None:
    with pytest.raises(DataError, match=rf"{name}\.mp4.*{words}"):
        Recogniser(onnx_file)(bad[name])


def test_many_videos_go_on_after_a_bad_one(onnx_file: Path, bad: dict[str, Path], video: Path) -> None:
    first, second = Recogniser(onnx_file).predict([bad["empty"], video])
    assert isinstance(first, Failure)
    assert (first.video, type(first.error).__mro__[1:3].count(DataError)) == (str(bad["empty"]), 1)
    assert isinstance(second, Prediction)


def test_the_command_writes_json_csv_and_a_table(
    onnx_file: Path, bad: dict[str, Path], video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"json": tmp_path / "out.json", "csv": tmp_path / "out.csv"}
    assert predict_files([video, bad["empty"]], onnx_file, out=tuple(files.values())) == 2
    one, other = json.loads(files["json"].read_text())
    assert one == Recogniser(onnx_file)(video).to_dict()
    assert (other["video"], "zero bytes" in other["error"]) == (str(bad["empty"]), True)
    rows = list(csv.DictReader(files["csv"].read_text().splitlines()))
    assert list(rows[0]) == [
        "video",
        "start",
        "end",
        "label",
        "video_label",
        *(f"p_{label}" for label in CONTRACT.labels),
        "error",
        "notes",
        "model",
        "fold",
        "weights_hash",
    ]
    assert (rows[0]["label"], rows[1]["label"]) == (one["label"], "")
    assert rows[0]["video_label"] == one["label"]
    assert float(rows[0]["p_sad"]) == pytest.approx(one["probabilities"]["sad"], abs=1e-6)
    printed = capsys.readouterr().out
    assert "zero bytes" in printed
    assert all(label in printed for label in CONTRACT.labels)


def test_odd_names_do_not_break_the_results(prediction: Prediction, tmp_path: Path) -> None:
    names = ["=1+1.mp4", 'a,"b"\n.mp4', "[red]x.mp4", "\udcff.mp4"]
    odd = [Prediction(name, *list(vars(prediction).values())[1:]) for name in names]
    write_csv(tmp_path / "odd.csv", odd, CONTRACT.labels)
    write_predictions_json(tmp_path / "odd.json", odd)
    with (tmp_path / "odd.csv").open(encoding="utf-8", newline="") as file:
        assert [row["video"] for row in csv.DictReader(file)] == ["./=1+1.mp4", *names[1:3], "\\udcff.mp4"]
    assert [item["video"] for item in json.loads((tmp_path / "odd.json").read_text())] == names
    console = Console(record=True, width=120)
    print_predictions(odd[:3], console)
    assert "[red]x.mp4" in console.export_text()


def damaged(onnx_file: Path, path: Path, what: str) -> Path:
    data = onnx_file.read_bytes()
    if what == "cut off":
        path.write_bytes(data[: len(data) // 2])
    elif what == "zero bytes":
        path.touch()
    elif what != "missing":
        model = onnx.load(onnx_file)
        _spoil(model, what)
        onnx.save(model, path)
    return path


def _spoil(model: onnx.ModelProto, what: str) -> None:
    contract = {"no contract": None, "other contract": '{"labels": 3}'}.get(what, "")
    if what == "other sizes":
        contract = CONTRACT.model_copy(update={"labels": ("glad", "sad")}).dumps()
    del model.metadata_props[:]
    if contract is not None:
        model.metadata_props.add(key=contracts.KEY, value=contract)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("cut off", "not a whole ONNX model"),
        ("zero bytes", "not a whole ONNX model"),
        ("missing", "no model at"),
        ("no contract", "carries no mmadfer contract"),
        ("other contract", "carries a contract that .* does not understand"),
        ("other sizes", "does not hold what its contract says"),
    ],
)
def test_a_bad_model_is_refused_by_name(onnx_file: Path, tmp_path: Path, what: str, words: str) -> None:
    path = damaged(onnx_file, tmp_path / "bad.onnx", what)
    with pytest.raises(WeightsError, match=rf"bad\.onnx (is )?{words}|{words}.*bad\.onnx"):
        Recogniser(path)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"backend": "torch"}, WeightsError, "cannot read"),
        ({"backend": "abacus"}, WeightsError, "known: torch, onnxruntime, tensorrt"),
        ({"fold": 2}, WeightsError, "holds fold 1, not 2"),
        ({"device": "cuda"}, MissingDependencyError, "CUDAExecutionProvider"),
    ],
)
def test_what_cannot_be_done_is_said(
    onnx_file: Path, arguments: dict[str, object], error: type[Exception], words: str
) -> None:
    import onnxruntime

    if "device" in arguments and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime-gpu is installed")
    with pytest.raises(error, match=words):
        Recogniser(onnx_file, **arguments)


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
def test_the_command_computes_where_it_is_told(
    onnx_file: Path, video: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    there = {".onnx": "CUDAExecutionProvider" in onnxruntime.get_available_providers()}
    if there.get(suffix, torch.cuda.is_available()):
        pytest.skip("a GPU is here")
    command = ["predict", str(video), "--model", str(onnx_file.with_suffix(suffix)), "--device"]
    assert run(app, [*command, "cuda"]) == MissingDependencyError.exit_code
    assert "device cuda: " in capsys.readouterr().err
    assert run(app, [*command, "abacus"]) == 2
    assert "it can use cpu, cuda" in capsys.readouterr().err
    assert run(app, [*command, "cpu"]) == 0
