"""Real files at 44.1 and 16 kHz: a model that was trained at one rate says so of the other, wherever it is used."""

import os
import subprocess
import sys
from pathlib import Path

import make_media
import pytest
import torch

from mmadfer.config.model import BottleneckConfig, SumConfig, TransformerConfig
from mmadfer.config.schema import EncoderConfig, ModelConfig, PrepareConfig, SoundConfig, parse
from mmadfer.contract import Contract
from mmadfer.data.compatibility import adopted, sound_rates
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.sets import folder
from mmadfer.data.store.store import Store
from mmadfer.errors import ClipError, ConfigError, DataError
from mmadfer.evaluation.evaluate import evaluate_path
from mmadfer.export.parity.parity import export_onnx
from mmadfer.model.weights.build import build_model, save_weights
from mmadfer.runtime.recogniser import Recogniser

LABELS = ("high", "low")
ENCODER = EncoderConfig(width=32, depth=2, heads=2)
MODEL = ModelConfig(
    image_size=32,
    frames=4,
    vision=ENCODER,
    audio=ENCODER,
    fusion=BottleneckConfig(latent=8),
    joint=SumConfig(width=16),
    prompts=2,
    temporal=TransformerConfig(heads=2, head_width=8, mlp_width=32),
)
SETTINGS = PrepareConfig(face_size=64, detect_every=20)
RESAMPLED = SETTINGS.model_copy(update={"sound": SoundConfig(rate=16000)})
CURE = r"-ar 44100 .*prepare\.sound\.rate=16000"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Rate -> a folder with two classes of two videos whose sound has that rate."""
    roots = {rate: tmp_path_factory.mktemp(f"media-{rate}") for rate in (44100, 16000)}
    for rate, root in roots.items():
        for label, pitch in zip(LABELS, (880, 220), strict=True):
            for k in range(2):
                sound = make_media.tone(0.4, rate, pitch + 20 * k)
                make_media.write_video(root / label / f"{k}.mp4", make_media.moving_face(10), sound, rate=rate)
    return roots


@pytest.fixture(scope="module")
def stores(roots: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    paths = {rate: tmp_path_factory.mktemp("store") / f"{rate}.store" for rate in roots}
    for rate, path in paths.items():
        prepare(folder.table(roots[rate], 2), path, SETTINGS)
    return paths


@pytest.fixture(scope="module")
def model(stores: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As trained on the store at 44.1 kHz."""
    with Store(stores[44100]) as store:
        rates, made = tuple(sound_rates(store.clips.values())), store.header.fingerprint
    return saved(tmp_path_factory.mktemp("model") / "native.safetensors", SETTINGS, rates, made)


def saved(path: Path, settings: PrepareConfig, rates: tuple[int, ...], store: str = "") -> Path:
    contract = Contract(
        labels=LABELS, model=MODEL, prepare=settings, data_set="folder", fold=1, sound_rates=rates, store=store
    )
    save_weights(path, build_model(MODEL, len(LABELS)), contract, frozen=True)
    return path


def test_a_store_knows_the_rates_of_its_files(stores: dict[int, Path]) -> None:
    assert {rate: sound_rates(Store(path).clips.values()) for rate, path in stores.items()} == {
        44100: {44100: 4},
        16000: {16000: 4},
    }


def test_training_refuses_another_policy(stores: dict[int, Path]) -> None:
    config = parse({"name": "x", "data": {"folds": 2}, "prepare": RESAMPLED.model_dump()}, "the test")
    with pytest.raises(ConfigError, match=r"sound\.rate native.*sound\.rate 16000.*prepare\.sound\.rate=native"):
        adopted(config, Store(stores[44100]))


def test_evaluation_refuses_a_store_of_another_rate(model: Path, stores: dict[int, Path]) -> None:
    assert len(evaluate_path(model, stores[44100]).ids) == 2
    with pytest.raises(DataError, match=rf"16000\.store has sound at 16000 Hz \(4 of 4 clips\).* 44100 Hz: .*{CURE}"):
        evaluate_path(model, stores[16000])


@pytest.mark.slow
def test_export_proves_itself_on_the_right_store_only(model: Path, stores: dict[int, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"has sound at 16000 Hz.*{CURE}"):
        export_onnx(model, tmp_path / "wrong.onnx", stores[16000], clips=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["safetensors", pytest.param("onnx", marks=pytest.mark.slow)])
def test_prediction_refuses_a_file_of_another_rate(
    model: Path, stores: dict[int, Path], roots: dict[int, Path], tmp_path: Path, form: str
) -> None:
    if form == "onnx":
        model = export_onnx(model, tmp_path / "model.onnx", stores[44100], clips=1)
    recogniser = Recogniser(model)
    assert recogniser.contract.sound_rates == (44100,)
    assert recogniser(roots[44100] / "low" / "0.mp4").label in LABELS
    with pytest.raises(ClipError, match=rf"low/0\.mp4 has sound at 16000 Hz.* 44100 Hz: .*{CURE}") as caught:
        recogniser(roots[16000] / "low" / "0.mp4")
    assert caught.value.reason == "sound rate"


@pytest.mark.slow
def test_the_command_ends_with_2(model: Path, roots: dict[int, Path]) -> None:
    files = [str(roots[rate] / "high" / "1.mp4") for rate in (44100, 16000)]
    command = [sys.executable, "-m", "mmadfer", "predict", *files, "--model", str(model)]
    environment = {**os.environ, "COLUMNS": "400", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2, done.stderr
    told = " ".join((done.stdout + done.stderr).split())
    assert "16000 Hz" in told
    assert "-ar 44100" in told
    assert "Traceback" not in told


def test_a_model_that_resamples_takes_any_rate(roots: dict[int, Path], tmp_path: Path) -> None:
    recogniser = Recogniser(saved(tmp_path / "fixed.safetensors", RESAMPLED, (16000,)))
    for root in roots.values():
        assert recogniser(root / "low" / "0.mp4").label in LABELS
