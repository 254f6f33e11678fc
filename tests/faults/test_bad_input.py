"""Bad input at the command line: an error with the file, key or fold in question, exit code 2, nothing half-written.

Faults inside training (kills, full disks, damaged checkpoints) are in tests/train.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmadfer.cli import main
from mmadfer.config.model import BottleneckConfig, SumConfig, TransformerConfig
from mmadfer.config.schema import EncoderConfig, ModelConfig, PrepareConfig, load
from mmadfer.contract import Contract
from mmadfer.data.media.image import encode_jpeg
from mmadfer.data.store.store import Clip, ClipRecord, Header, write_store
from mmadfer.model.weights.build import build_model, save_weights

ENCODER = EncoderConfig(width=32, depth=2, heads=2)
MODEL = ModelConfig(
    image_size=32,
    vision=ENCODER,
    audio=ENCODER,
    fusion=BottleneckConfig(latent=8),
    joint=SumConfig(width=16),
    prompts=2,
    temporal=TransformerConfig(heads=2),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    contract = Contract(labels=("no", "yes"), model=MODEL, prepare=PrepareConfig(face_size=64), data_set="none", fold=1)
    save_weights(path, build_model(MODEL, 2), contract, frozen=True)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "zero.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "broken.yaml").write_text("name: [")
    (tmp_path / "text.store").write_text("not a store")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    (tmp_path / "text.onnx").write_text("not a model")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    jpeg, fbank = encode_jpeg(np.zeros((224, 224, 3), np.uint8), 90), np.zeros((512, 128), np.float32)
    clips = [
        (Clip(f"c{k}", ("happy", "sad")[k % 2], k % 5 + 1, f"c{k}.mp4", 1), ClipRecord([jpeg], fbank))
        for k in range(40)
    ]
    write_store(tmp_path / "good.store", Header("made", ("happy", "sad"), load("dfew_160").prepare), clips)
    run = tmp_path / "run"
    run.mkdir()
    (run / "notes.txt").write_text("somebody's")
    return tmp_path


CASES = {
    "no such config": ("train nowhere.yaml", "no configuration 'nowhere.yaml'"),
    "broken yaml": ("train broken.yaml", "broken.yaml is not valid YAML"),
    "unknown key": ("train dfew_160 --set train.lrr=1", "train.lrr: unknown key"),
    "value out of range": ("train dfew_160 --set train.lr=-1", "train.lr: "),
    "no equals sign": ("train dfew_160 --set train.lr", "must read KEY=VALUE"),
    "no store": ("train dfew_160", "data.store is not set"),
    "store of another kind": ("train dfew_160 --set data.store=text.store", "text.store is not a whole mmadfer store"),
    "store that is not there": ("train dfew_160 --set data.store=no.store", "no.store"),
    "fold that is not there": ("train dfew_160 --fold 9 --set data.store=good.store", "folds 1 to 5"),
    "run folder that exists": ("train dfew_160 --run run --set data.store=good.store", "is not a run directory"),
    "launch into a folder that exists": ("launch dfew_160 --run run --set data.store=good.store", "not empty"),
    "launch without a store": ("launch dfew_160 --run new", "data.store is not set"),
    "launch of folds that are not there": (
        "launch dfew_160 --folds 4-6 --run new --set data.store=good.store",
        "folds 1 to 5",
    ),
    "launch on an unknown cluster": (
        "launch dfew_160 --cluster moon --run new --set data.store=good.store",
        "local or slurm",
    ),
    "empty data folder": ("prepare folder --root empty --out new.store", "empty"),
    "no data folder": ("prepare folder --root nowhere --out new.store", "nowhere"),
    "unknown data set": ("prepare imagenet --root empty --out new.store", "no data set 'imagenet'"),
    "toy set into somebody's folder": ("prepare toy --root run --out new.store", "is not a toy set"),
    "report on nothing": ("report nowhere", "nowhere"),
    "report on somebody's folder": ("report run", "run is not a run directory"),
    "report beside without a name": ("report run --beside other", "NAME=RUN"),
    "evaluate without a model": ("evaluate nowhere --data text.store", "nowhere"),
    "evaluate a text file": ("evaluate text.pth --data text.store", "text.pth"),
    "evaluate other weights": ("evaluate other.safetensors --data text.store", "other.safetensors"),
    "predict without a model": ("predict zero.mp4 --model nowhere.onnx", "nowhere.onnx"),
    "predict with a text file": ("predict zero.mp4 --model text.onnx", "text.onnx"),
    "predict with an unknown backend": ("predict zero.mp4 --model other.safetensors --backend abacus", "abacus"),
    "export nothing": ("export onnx nowhere --data text.store --out new.onnx", "nowhere"),
    "doctor on a text file": ("doctor text.store", "text.store is not a whole mmadfer store"),
    "unknown option": ("predict zero.mp4 --speed 9", "--speed"),
}


@pytest.mark.parametrize("name", CASES)
def test_error_names_the_thing_and_exits_with_2(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(here.rglob("*"))
    words, expected = CASES[name]
    assert main.run(main.app, words.split()) == 2
    told = capsys.readouterr()
    assert expected in " ".join((told.err + told.out).split())
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("video", ["zero.mp4", "text.mp4", "nowhere.mp4"])
def test_a_video_that_cannot_be_read_is_named(
    video: str, here: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(main.app, ["predict", video, "--model", str(model), "--out", "out.json"]) == 2
    told = capsys.readouterr()
    assert video in told.err + told.out


def test_no_traceback_from_the_installed_command() -> None:
    command = [sys.executable, "-m", "mmadfer", "train", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
