"""Clips without a face or without sound, where training left such out; several looks; adjusted logits."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from export_setup import CONTRACT, awake, relabelled

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from make_media import FPS, grey, moving_face, tone, write_video

from mmadfer.cli.main import app, run
from mmadfer.contract import Contract
from mmadfer.contract.facts import Looks
from mmadfer.data.clip import black
from mmadfer.data.media.fbank import SILENCE
from mmadfer.data.media.image import decode_jpeg
from mmadfer.data.media.notes import BLACK
from mmadfer.data.video_windows import Windows
from mmadfer.errors import ClipError, ConfigError, WeightsError
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.model.weights.build import save_weights
from mmadfer.runtime import Failure, Recogniser, Video
from mmadfer.runtime.inputs import ClipViews, read_parts
from mmadfer.tasks.calibration import softmax

PRIORS = (0.1, 0.2, 0.3, 0.4)
PLAIN = CONTRACT.model_copy(update={"prepare": CONTRACT.prepare.model_copy(update={"detect_every": 5})})
BOTH = PLAIN.model_copy(update={"missing": ("vision", "audio"), "priors": PRIORS})


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A second of a face with a tone, and the same without one of them, or both."""
    folder = tmp_path_factory.mktemp("films")
    pictures = {"good": moving_face(FPS, 2), "faceless": grey(FPS), "silent": moving_face(FPS, 2), "nothing": grey(FPS)}
    heard = {"good": tone(1), "faceless": tone(1), "silent": None, "nothing": None}
    return {name: write_video(folder / f"{name}.mp4", pictures[name], heard[name]) for name in pictures}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One model that does without faces and without sound, for each backend that runs here."""
    weights = tmp_path_factory.mktemp("model") / "both.safetensors"
    save_weights(weights, awake(1), BOTH, frozen=True)
    return {"torch": weights, "onnxruntime": to_onnx(weights, weights.with_suffix(".onnx"))}


@pytest.fixture(scope="module", params=["torch", "onnxruntime"])
def model(request: pytest.FixtureRequest, models: dict[str, Path]) -> Path:
    return models[request.param]


def only(path: Path, contract: Contract, **how: object) -> list[np.ndarray]:
    (part,) = read_parts(Video(path), contract, **how)
    assert part.inputs is not None
    return [*part.inputs]


def test_a_clip_without_sound_is_heard_as_silence(model: Path, films: dict[str, Path]) -> None:
    frames, bands = only(films["silent"], BOTH)
    assert np.array_equal(bands, np.full_like(bands, SILENCE))
    assert np.array_equal(frames, only(films["good"], BOTH)[0])
    found = Recogniser(model)(films["silent"])
    assert [note.partition(":")[0] for note in found.notes] == ["no sound, silence in its place"]
    logits = Recogniser(model).backend.logits(frames, bands)[0]
    assert np.allclose(list(found.probabilities.values()), softmax(logits), atol=1e-6)


def test_a_clip_without_a_face_is_seen_black(model: Path, films: dict[str, Path]) -> None:
    frames, bands = only(films["faceless"], BOTH)
    assert frames.shape == (1, 4, 3, 32, 32)
    assert not frames.any()
    assert np.array_equal(bands, only(films["good"], BOTH)[1])
    found = Recogniser(model)(films["faceless"])
    assert found.notes == [BLACK]
    logits = Recogniser(model).backend.logits(frames, bands)[0]
    assert np.allclose(list(found.probabilities.values()), softmax(logits), atol=1e-6)


def test_a_good_clip_is_the_same_for_both(films: dict[str, Path]) -> None:
    for ours, theirs in zip(only(films["good"], BOTH), only(films["good"], PLAIN), strict=True):
        assert np.array_equal(ours, theirs)
    (part,) = read_parts(Video(films["good"]), BOTH)
    assert part.notes == ()


@pytest.mark.parametrize(
    ("missing", "film", "reason"),
    [
        ((), "faceless", "no face"),
        ((), "silent", "no sound"),
        (("audio",), "faceless", "no face"),
        (("vision",), "silent", "no sound"),
        (("vision", "audio"), "nothing", "no face"),
        (("vision",), "nothing", "no sound"),
        (("audio",), "nothing", "no face"),
    ],
)
def test_what_training_did_not_leave_out_is_an_error(
    films: dict[str, Path], missing: tuple[str, ...], film: str, reason: str
) -> None:
    contract = PLAIN.model_copy(update={"missing": missing})
    with pytest.raises(ClipError) as raised:
        list(read_parts(Video(films[film]), contract))
    assert raised.value.reason == reason


def test_a_store_that_keeps_silent_clips_does_not_make_up_for_both(films: dict[str, Path]) -> None:
    silence = CONTRACT.prepare.model_copy(update={"no_sound": "silence"})
    contract = PLAIN.model_copy(update={"missing": ("vision",), "prepare": silence})
    assert not only(films["faceless"], contract)[0].any()
    with pytest.raises(ClipError, match="shows no face"):
        list(read_parts(Video(films["nothing"]), contract))


@pytest.mark.parametrize("modalities", ["vision", "audio"])
def test_a_model_of_one_of_them_does_not_do_without_it(films: dict[str, Path], modalities: str) -> None:
    contract = BOTH.model_copy(update={"modalities": modalities})
    with pytest.raises(ClipError) as raised:
        list(read_parts(Video(films["nothing"]), contract))
    assert raised.value.reason == {"vision": "no face", "audio": "no sound"}[modalities]


def test_windows_do_without_one_of_them_each(models: dict[str, Path], tmp_path: Path) -> None:
    """Six windows of 0.4 s: face and sound, sound alone twice, face alone, nothing twice."""
    pictures = [*moving_face(10), *grey(20), *moving_face(10), *grey(20)]
    path = write_video(tmp_path / "long.mkv", pictures, tone(1.2), codecs=("ffv1", "flac"), pixels="bgr0")
    parts = list(read_parts(Video(path), BOTH, Windows(0.4, 0.4)))
    seen = [part.inputs is not None and bool(part.inputs[0].any()) for part in parts]
    heard = [part.inputs is not None and bool(np.ptp(part.inputs[1])) for part in parts]
    assert seen == [True, False, False, True, False, False]
    assert heard == [True, True, True, False, False, False]
    assert [part.inputs is None for part in parts] == [False] * 4 + [True] * 2
    assert [part.notes[-1] for part in parts[1:3]] == [BLACK, BLACK]
    assert str(parts[4].notes[0]) == "neither face nor sound"
    found = Recogniser(models["onnxruntime"])(path, window=0.4, hop=0.4)
    assert [one["label"] is None for one in found.segments] == [False] * 4 + [True] * 2
    assert f"{BLACK} (in 2 of 6 windows)" in found.notes


def test_the_command_predicts_them_all_but_one(
    models: dict[str, Path], films: dict[str, Path], capsys: pytest.CaptureFixture
) -> None:
    names = [str(film) for film in films.values()]
    assert run(app, ["predict", *names, "--model", str(models["onnxruntime"])]) == 2
    told = capsys.readouterr().out
    assert "faceless.mp4: no face, black pictures in its place" in told
    assert "silent.mp4: no sound, silence in its place" in told
    assert "nothing.mp4 shows no face" in told


def test_a_model_that_hears_samples_gets_none(films: dict[str, Path]) -> None:
    contract = BOTH.model_copy(update={"input": "waveform", "waveform_rate": 44100})
    _, samples, lengths = only(films["silent"], contract)
    assert not samples.any()
    assert lengths.tolist() == [0]


def test_logits_are_adjusted_by_the_contracts_shares(model: Path, films: dict[str, Path]) -> None:
    logits = Recogniser(model).backend.logits(*only(films["good"], BOTH))[0]
    found = Recogniser(model, adjust=0.7)(films["good"])
    assert np.allclose(list(found.probabilities.values()), softmax(logits - 0.7 * np.log(PRIORS)), atol=1e-6)
    assert found.model["adjust"] == 0.7
    assert "adjust" not in Recogniser(model)(films["good"]).model
    (many,) = Recogniser(model, adjust=0.7).predict([films["good"]])
    assert not isinstance(many, Failure)
    assert many.probabilities == found.probabilities


def test_probabilities_are_calibrated_on_request_and_labels_stay(
    models: dict[str, Path], films: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = relabelled(models["onnxruntime"], tmp_path / "calibrated.onnx", temperature=2.5)
    plain, told = Recogniser(path)(films["good"]), Recogniser(path, calibrated=True)(films["good"])
    logits = Recogniser(path).backend.logits(*only(films["good"], BOTH))[0]
    assert np.allclose(list(told.probabilities.values()), softmax(logits.astype(np.float64) / 2.5), atol=1e-12)
    assert plain.probabilities == Recogniser(models["onnxruntime"])(films["good"]).probabilities, "bit for bit"
    assert told.label == plain.label
    assert told.segments[0]["label"] == plain.segments[0]["label"]
    assert told.model["temperature"] == 2.5
    assert "temperature" not in plain.model
    assert told.notes == plain.notes == []
    (note,) = Recogniser(path, calibrated=True, flips=True)(films["good"]).notes
    assert "temperature of other looks (1 index set of frames, not mirrored; here" in note
    looked = relabelled(path, tmp_path / "looked.onnx", temperature_looks=Looks(flips=True))
    assert Recogniser(looked, calibrated=True, flips=True)(films["good"]).notes == []
    assert len(Recogniser(looked, calibrated=True)(films["good"]).notes) == 1
    assert Recogniser(looked)(films["good"]).notes == [], "nothing is calibrated"
    out = tmp_path / "told.json"
    command = ["predict", str(films["good"]), "--model", str(path), "--calibrated", "--out", str(out)]
    assert run(app, command) == 0
    assert json.loads(out.read_text())[0]["probabilities"] == told.probabilities
    capsys.readouterr()
    assert run(app, [*command, "--adjust", "1"]) == 2
    assert "--calibrated is for logits as trained" in capsys.readouterr().err


def test_a_model_without_a_temperature_says_what_to_do(
    models: dict[str, Path], films: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = models["onnxruntime"]
    with pytest.raises(WeightsError, match=r"carries no temperature.*data\.validation=0\.1.*earlier versions"):
        Recogniser(path, calibrated=True)
    assert run(app, ["predict", str(films["good"]), "--model", str(path), "--calibrated"]) == 2
    assert "leave --calibrated out" in capsys.readouterr().err


def test_several_looks_are_averaged(model: Path, films: dict[str, Path]) -> None:
    (part,) = read_parts(Video(films["good"]), BOTH, views=ClipViews(3, True))
    looks = [part.inputs, *part.others]
    assert len(looks) == 6
    for one, mirrored in zip(looks[:3], looks[3:], strict=True):
        assert np.array_equal(one[0][..., ::-1], mirrored[0])
        assert np.array_equal(one[1], mirrored[1])
    recogniser = Recogniser(model, clips=3, flips=True, adjust=1)
    rows = [softmax(recogniser.backend.logits(*one)[0]) for one in looks]
    wanted = softmax(np.log(np.mean(rows, axis=0)) - np.log(PRIORS))
    found = recogniser(films["good"])
    assert np.allclose(list(found.probabilities.values()), wanted, atol=1e-6)
    assert [found.model[name] for name in ("adjust", "clips", "flips")] == [1, 3, True]
    together = list(recogniser.predict([films["good"], films["silent"]], batch=4))
    assert together[0].probabilities == pytest.approx(found.probabilities, abs=1e-6)
    assert np.ptp([list(Recogniser(model)(films["good"]).probabilities.values()), wanted], axis=0).max() > 1e-4


def test_the_middle_of_three_index_sets_is_the_one_of_one(films: dict[str, Path]) -> None:
    (part,) = read_parts(Video(films["good"]), BOTH, views=ClipViews(3))
    assert np.array_equal(part.others[0][0], only(films["good"], BOTH)[0])


@pytest.mark.parametrize("update", [{"priors": ()}, {"priors": (0.5, 0.5, 0.0, 0.0)}])
def test_a_model_without_shares_is_not_adjusted(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture, update: dict
) -> None:
    path = relabelled(models["onnxruntime"], tmp_path / "other.onnx", **update)
    told = "does not know the labels that it was trained on" if not update["priors"] else "trained on no clip of"
    with pytest.raises(WeightsError, match=told):
        Recogniser(path, adjust=1)
    assert run(app, ["predict", "clip.mp4", "--model", str(path), "--adjust", "1"]) == 2
    assert told in capsys.readouterr().err
    assert Recogniser(path, adjust=0).contract.priors == update["priors"]


@pytest.mark.parametrize(
    ("how", "told"),
    [({"clips": 0}, "average 1 to 16"), ({"clips": 17}, "average 1 to 16"), ({"adjust": -1}, "adjust is -1")],
)
def test_what_cannot_be_asked_is_refused(models: dict[str, Path], how: dict[str, int], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Recogniser(models["onnxruntime"], **how)


@pytest.mark.parametrize("quality", [50, 77, 95])
def test_a_black_crop_is_black_again(quality: int) -> None:
    crop = decode_jpeg(black(CONTRACT.prepare.model_copy(update={"jpeg_quality": quality})))
    assert crop.shape == (64, 64, 3)
    assert not crop.any()
