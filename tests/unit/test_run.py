import subprocess
import sys
from pathlib import Path

import pytest

from mmadfer import config as configs
from mmadfer import run as runs
from mmadfer.config import Config
from mmadfer.errors import RunError


def settings(*overrides: str) -> Config:
    return configs.load("dfew_160", overrides)


def test_a_new_run_holds_its_configuration_and_where_it_comes_from(tmp_path: Path) -> None:
    run = runs.create(tmp_path / "run", settings("train.lr=3e-4"))
    assert runs.read(run.path).config.train.lr == 3e-4
    about = runs.about(run.path)
    assert about["name"] == "dfew_160"
    assert about["packages"]["torch"]
    if about["git"]:
        assert len(about["git"]["commit"]) == 40
        assert (run.path / "git.diff").exists() == about["git"]["dirty"]


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = runs.create(Path("run"), settings("data.store=a.store", "model.audio.weights=w.pth"))
    monkeypatch.chdir("/")
    again = runs.read(run.path).config
    assert again.data.store == tmp_path / "a.store"
    assert again.model.audio.weights == tmp_path / "w.pth"
    assert again.model.vision.weights is None


def test_an_existing_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(RunError, match=r"choose another --run|not a run directory"):
            runs.create(tmp_path, settings(), resume)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(RunError, match="is a file"):
        runs.create(tmp_path / "thesis.txt", settings())


def test_resume_names_the_keys_that_differ(tmp_path: Path) -> None:
    runs.create(tmp_path / "run", settings())
    with pytest.raises(RunError, match=r"--resume"):
        runs.create(tmp_path / "run", settings())
    with pytest.raises(RunError, match=r"train\.lr: 0\.0001 in the run, 0\.5 now") as caught:
        runs.create(tmp_path / "run", settings("train.lr=0.5", "model.vision.depth=6", "model.audio.depth=6"), True)
    assert "model.vision.depth: 12 in the run, 6 now" in str(caught.value)
    assert "weight_decay" not in str(caught.value)
    runs.create(tmp_path / "run", settings(), resume=True)
    assert len(runs.about(tmp_path / "run")["resumed"]) == 1


def test_resume_begins_where_there_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new"):
        assert runs.create(tmp_path / name, settings(), resume=True).config.name == "dfew_160"


def test_folds_are_opened_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    first = runs.open_fold(run, settings(), 1)
    (first / "log.txt").write_text("begun")
    assert runs.open_fold(run, settings(), 2) == runs.fold_dir(run, 2)
    assert runs.folds(run) == [1, 2]
    with pytest.raises(RunError, match="fold 1 has been begun"):
        runs.open_fold(run, settings(), 1)
    assert runs.open_fold(run, settings(), 1, resume=True) == first
    with pytest.raises(RunError, match="folds 1 to 5"):
        runs.open_fold(run, settings(), 6)
    with pytest.raises(RunError, match="another configuration"):
        runs.open_fold(run, settings("train.seed=2"), 3)
    monkeypatch.setenv("RANK", "1")  # rank 0 has made it a moment ago
    assert runs.open_fold(run, settings(), 1) == first


def test_the_newest_checkpoint_is_found_and_leftovers_are_not(tmp_path: Path) -> None:
    assert runs.latest_checkpoint(tmp_path) is None
    for name in ("step-00000090", "step-00000100", "step-00000200.tmp", ".step-00000300"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    found = runs.latest_checkpoint(tmp_path)
    assert found is not None
    assert found.name == "step-00000100"


def test_only_one_process_holds_a_fold(tmp_path: Path) -> None:
    code = f"from pathlib import Path; from mmadfer import run\nwith run.lock(Path({str(tmp_path)!r})): pass"
    with runs.lock(tmp_path):
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "is being trained by another process" in other.stderr
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
