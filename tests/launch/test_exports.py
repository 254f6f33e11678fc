"""The export of a run's folds, from real clips."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from launch_setup import start

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.sets import toy
from mmadfer.errors import RunError
from mmadfer.export import finished_folds


@pytest.fixture
def real(tmp_path: Path, config: Path) -> Path:
    """The tiny configuration with a store of real videos."""
    table = toy.table(_made(tmp_path / "toy"), folds=2)
    prepare(table, tmp_path / "toy.store", PrepareConfig(face_size=32, detect_every=20), jobs=1)
    lines = config.read_text().splitlines()
    lines[3] = f"data: {{store: {tmp_path / 'toy.store'}, folds: 2, threads: 1}}"
    config.write_text("\n".join(lines).replace("epochs: 2", "epochs: 1"))
    return config


def _made(root: Path) -> Path:
    toy.make(root, clips_per_class=2, jobs=1)
    return root


def test_finished_folds_are_exported_after_the_report(real: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    begun = start(real, run, "--folds", "2", "--cpus-per-fold", "1", "--export")
    text, _ = begun.communicate(timeout=240)
    assert begun.returncode == 0, text
    assert "fold 1 is not finished: left out" in text
    assert sorted(path.name for path in (run / "export").iterdir()) == [
        "fold-2.onnx",
        "fold-2.onnx.card.data.md",
        "fold-2.onnx.card.md",
        "fold-2.parity.json",
        "fold-2.parity.svg",
    ]
    assert json.loads((run / "export" / "fold-2.parity.json").read_text())["passed"]
    assert finished_folds.exported(run) == [2]
    again = _export("run", run)
    assert again.returncode == 0, again.stderr
    assert "fold-2.onnx is there" in again.stdout
    _check_what_counts(run)
    proven = _export("parity", run, "--fold", "2", "--backends", "torch,ort")  # on the run's own store
    assert proven.returncode == 0, proven.stderr
    assert json.loads((run / "export" / "parity.json").read_text())["forms"][0]["file"] == "fold-2.onnx"
    refused = _export("parity", run, "--fold", "2", "--backends", "torch,ort,trt")
    assert (refused.returncode, "for tensorrt in" in refused.stderr) == (2, True)
    (run / "export" / "fold-2.parity.json").unlink()  # the proof was lost: it counts no more
    assert finished_folds.exported(run) == []
    shutil.rmtree(run / "export")
    (run / "export").write_text("where the folder should be")
    with pytest.raises(RunError, match=r"1 of 1 finished folds .*:\n  fold 2: .*export"):
        finished_folds.export_run(run)


def _check_what_counts(run: Path) -> None:
    """A proof of few clips, another arithmetic, other weights or another file is none of the fold's export."""
    proof = run / "export" / "fold-2.parity.json"
    whole = proof.read_text()
    of_form = {"arithmetic": "int8", "input": "waveform", "sha256": "0"}
    for key, value in {"passed": None, "clips": 3, "weights_hash": "0", **of_form}.items():
        told = json.loads(whole)
        part = told["forms"][0] if key in of_form else told["reference"] if key == "weights_hash" else told
        part[key] = value
        proof.write_text(json.dumps(told))
        assert not finished_folds._current(run, 2, 100), key
    proof.write_text(whole)
    assert finished_folds._current(run, 2, 100)  # of 100 there are 4


def _export(what: str, run: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mmadfer", "export", what, str(run), *options],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_finished_is_said(config: Path, tmp_path: Path) -> None:
    from mmadfer.config import schema as configs
    from mmadfer.run import directory as runs

    made = runs.create(tmp_path / "run", configs.load(str(config)))
    with pytest.raises(RunError, match="nothing to export yet"):
        finished_folds.export_run(made.path)


def test_a_fold_that_cannot_be_exported_does_not_keep_the_others(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mmadfer.config import schema as configs
    from mmadfer.run import directory as runs
    from mmadfer.utils.files import write_json

    made = runs.create(tmp_path / "run", configs.load(str(config)))
    for fold in (1, 2):
        write_json(made.fold(fold) / "result.json", {"finished": True})  # and no checkpoint
    with pytest.raises(RunError, match=r"2 of 2 finished folds could not be exported:\n  fold 1: .*\n  fold 2: "):
        finished_folds.export_run(made.path)
