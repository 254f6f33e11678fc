"""The whole way on a few real clips, by the commands of the README: videos in, prediction out."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from mmadfer.cli import doctor
from mmadfer.data.sets import toy
from mmadfer.data.store.store import Store
from mmadfer.errors import RunError
from mmadfer.run import directory

SETTINGS = ["data.folds=2", "train.epochs=2", "train.seed=3", "prepare.face_size=64", "prepare.detect_every=20"]
SET = [word for setting in SETTINGS for word in ("--set", setting)]


def mmadfer(*words: object, code: int = 0) -> str:
    """Run the command as a user does; give what it printed."""
    command = [sys.executable, "-m", "mmadfer", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 12 clips, and a run of two folds on it."""
    root = tmp_path_factory.mktemp("spine")
    toy.make(root / "media", clips_per_class=4, jobs=2)
    mmadfer("prepare", "toy", "--root", root / "media", "--out", root / "toy.store", "--config", "demo", *SET)
    mmadfer(
        "launch", "demo", "--cluster", "local", "--run", root / "run", *SET, "--set", f"data.store={root}/toy.store"
    )
    return root


def test_run_is_whole_and_its_report_agrees_with_the_folds(there: Path) -> None:
    report = json.loads((there / "run/report/report.json").read_text())
    folds = [json.loads((there / f"run/fold-{k}/result.json").read_text()) for k in (1, 2)]
    assert report["complete"]
    assert [fold["uar"] for fold in report["folds"]] == [fold["uar"] for fold in folds]
    assert sum(map(sum, folds[0]["confusion"])) == 8
    assert "<html" in (there / "run/report/report.html").read_text()
    assert (there / "run/code/mmadfer/launch/jobs.py").is_file()


def test_checkpoint_holds_only_what_was_trained(there: Path) -> None:
    newest = sorted((there / "run/fold-1/checkpoints").iterdir())[-1]
    with safe_open(newest / "weights.safetensors", "pt") as file:
        names = set(file.keys())
    assert any("prompts" in name for name in names)
    assert not any(".attn." in name or ".mlp." in name for name in names if name.startswith(("vision", "audio")))


def test_finished_run_is_neither_overwritten_nor_trained_again(there: Path) -> None:
    words = ("launch", "demo", "--cluster", "local", "--run", there / "run", *SET)
    store = ("--set", f"data.store={there}/toy.store")
    assert "--resume" in mmadfer(*words, *store, code=2)
    before = (there / "run/fold-1/metrics.jsonl").read_bytes()
    mmadfer(*words, *store, "--resume")
    assert (there / "run/fold-1/metrics.jsonl").read_bytes() == before


def test_evaluation_repeats_the_result_of_training(there: Path) -> None:
    mmadfer("evaluate", there / "run", "--fold", 1, "--data", there / "toy.store", "--out", there / "again.csv")
    assert (there / "again.csv").read_text() == (there / "run/fold-1/predictions.csv").read_text()


def test_evaluation_takes_the_fold_that_the_model_has_not_seen(there: Path) -> None:
    mmadfer("evaluate", there / "run/fold-2", "--data", there / "toy.store", "--out", there / "second.csv")
    assert (there / "second.csv").read_text() == (there / "run/fold-2/predictions.csv").read_text()
    told = mmadfer("evaluate", there / "run/fold-2", "--fold", 1, "--data", there / "toy.store", code=2)
    assert "trained on the clips of fold 1" in told


def test_other_classes_are_refused(there: Path) -> None:
    labels = ("--set", "data.labels=[happy, sad, bored]", "--set", f"data.store={there}/toy.store")
    told = mmadfer("train", "demo", "--run", there / "other", *SET, *labels, code=2)
    assert "data.labels names bored" in told


def test_encoder_of_another_model_is_refused(there: Path) -> None:
    import torch

    torch.save({"model": {"patch_embed.proj.weight": torch.zeros(64, 1, 16, 16)}}, there / "sound.pth")
    weights = ("--set", f"model.vision.weights={there}/sound.pth", "--set", f"data.store={there}/toy.store")
    assert "sound.pth" in mmadfer("train", "demo", "--run", there / "wrong", *SET, *weights, code=2)


def test_exported_model_predicts_what_the_run_predicts(there: Path) -> None:
    model = there / "model.onnx"
    told = mmadfer("export", "onnx", there / "run", "--fold", 1, "--data", there / "toy.store", "--out", model)
    assert "100" in told
    store = Store(there / "toy.store")
    clip = store.fold(1)[0]
    video = store.media(clip)
    mmadfer("predict", video, "--model", model, "--out", there / "p.json", "--out", there / "p.csv")
    mmadfer("predict", video, "--model", there / "run", "--fold", 1, "--out", there / "t.json")
    onnx, torch = (json.loads((there / name).read_text())[0] for name in ("p.json", "t.json"))
    assert onnx["label"] == torch["label"]
    assert onnx["probabilities"] == pytest.approx(torch["probabilities"], abs=1e-5)
    rows = {row["id"]: row for row in csv.DictReader((there / "run/fold-1/predictions.csv").open())}
    assert rows[clip]["predicted"] == onnx["label"]
    assert len((there / "p.csv").read_text().splitlines()) == 2


def test_scripts_run_from_the_source_tree() -> None:
    top = Path(__file__).parent.parent
    scripts = [*top.glob("launch/*.py"), *top.glob("export/*.py")]
    assert len(scripts) == 7
    for script in scripts:
        done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_doctor_verifies_the_store(there: Path) -> None:
    assert "all checksums hold" in mmadfer("doctor", there / "toy.store")
    told = mmadfer("doctor")
    assert "torch" in told
    assert "GPUs" in told


def test_doctor_verifies_the_run(there: Path) -> None:
    run = there / "run"
    told = mmadfer("doctor", run)
    assert "fold 1 finished; checkpoints: 2" in told
    assert "all that is there is whole" in told
    other = there / "damaged"
    shutil.copytree(run, other)
    fold = directory.fold_dir(other, 1)
    checkpoint = directory.latest_checkpoint(fold)
    assert checkpoint is not None
    damaged = next(path for path in checkpoint.rglob("*") if path.is_file() and path.name != "state.json")
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    (fold / "result.json").write_text("{")
    with pytest.raises(RunError) as caught:
        doctor.examine(other)
    for word in (
        "2 things are wrong",
        f"checkpoint {checkpoint.name}",
        f"{damaged.name} has changed",
        "result.json is",
    ):
        assert word in str(caught.value)
