import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmadfer.cli import main
from mmadfer.config import schema as configs
from mmadfer.config.schema import Config
from mmadfer.errors import RunError
from mmadfer.run import directory as runs
from mmadfer.run.lease import lease
from mmadfer.run.lock import lock


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
    (tmp_path / "run" / "fold-2" / "checkpoints" / "step-00000001").mkdir(parents=True)
    with pytest.raises(RunError, match=r"train\.lr: 0\.0001 in the run, 0\.5 now") as caught:
        runs.create(tmp_path / "run", settings("train.lr=0.5", "model.vision.depth=6", "model.audio.depth=6"), True)
    assert "model.vision.depth: 12 in the run, 6 now" in str(caught.value)
    assert "weight_decay" not in str(caught.value)
    runs.create(tmp_path / "run", settings(), resume=True)
    assert len(runs.about(tmp_path / "run")["resumed"]) == 1


def test_a_run_in_which_nothing_was_trained_takes_another_configuration(tmp_path: Path) -> None:
    run = runs.create(tmp_path / "run", settings()).path
    fold = runs.open_fold(run, settings("train.batch_size=4"), 1)
    assert runs.read(run).config.train.batch_size == 4
    assert runs.about(run)["changed"][0]["keys"] == {"train.batch_size": [8, 4]}
    with lease(fold), pytest.raises(RunError, match="another configuration"):  # it is just being trained
        runs.open_fold(run, settings("train.batch_size=2"), 2)
    (fold / "result.json").write_text("{")
    with pytest.raises(RunError, match="another configuration"):
        runs.open_fold(run, settings("train.batch_size=2"), 2)


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
    (first / "checkpoints" / "step-00000001").mkdir(parents=True)
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


def _lock(folder: Path, wait: float) -> "subprocess.Popen[str]":
    held = f"with lock(Path({str(folder)!r}), wait={wait}): pass"
    code = f"from pathlib import Path; from mmadfer.run.lock import lock\n{held}"
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)


def test_only_one_process_holds_a_folder(tmp_path: Path) -> None:
    with lock(tmp_path):
        other = _lock(tmp_path, 1.2)
        assert "is being used by another process: wait for it" in other.communicate(timeout=30)[1]
    assert _lock(tmp_path, 0).wait(timeout=30) == 0


def test_a_process_that_is_about_to_leave_is_waited_for(tmp_path: Path) -> None:
    with lock(tmp_path):
        other = _lock(tmp_path, 30)
        assert other.stderr is not None
        assert "waiting up to 30 s" in other.stderr.readline()
    assert other.communicate(timeout=30)[1] == ""
    assert other.returncode == 0


def test_processes_that_start_together_make_one_run(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from mmadfer.config import schema
from mmadfer.run import directory
settings = schema.load("dfew_160")
while time.time() < float(sys.argv[2]): pass
directory.open_fold(Path({str(tmp_path / "run")!r}), settings, int(sys.argv[1]))
"""
    for _ in range(2):  # the second time, none makes it
        together = str(time.time() + 2)
        folds = [
            subprocess.Popen([sys.executable, "-c", code, str(k), together], stderr=subprocess.PIPE, text=True)
            for k in range(1, 6)
        ]
        words = [fold.communicate(timeout=60)[1] for fold in folds]  # on a busy machine, that they wait
        assert [fold.returncode for fold in folds] == [0] * 5, words
    assert runs.folds(tmp_path / "run") == [1, 2, 3, 4, 5]
    assert "resumed" not in runs.about(tmp_path / "run")


def test_a_run_whose_making_was_cut_short_is_made_again(tmp_path: Path) -> None:
    for name in ("run.json", ".config.yaml.x1y2.tmp", ".lock"):
        (tmp_path / name).write_text("")
    assert runs.create(tmp_path, settings()).path == tmp_path


def test_files_may_move_and_the_run_says_so(tmp_path: Path) -> None:
    run = tmp_path / "run"
    runs.open_fold(run, settings("data.store=/a.store"), 1)
    runs.open_fold(run, settings("data.store=/b.store", "train.save_every=7"), 2)
    assert runs.read(run).config.data.store == Path("/b.store")
    about = runs.about(run)
    assert about["changed"][0]["keys"]["data.store"] == ["/a.store", "/b.store"]
    assert set(about["changed"][0]["keys"]) == {"data.store", "train.save_every"}
    assert "resumed" not in about


def test_only_rank_0_notes_that_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.open_fold(tmp_path / "run", settings(), 1)
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        runs.open_fold(tmp_path / "run", settings(), 1, resume=True)
    assert len(runs.about(tmp_path / "run")["resumed"]) == 1


def test_a_fold_that_could_not_begin_is_not_begun(tmp_path: Path) -> None:
    fold = runs.open_fold(tmp_path / "run", settings(), 1)
    with lock(fold):
        runs.mark_failed(fold, "no such store", None)
    assert not runs.begun(fold)
    assert runs.open_fold(tmp_path / "run", settings(), 1) == fold


def test_a_first_mistake_leaves_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for store in ("null", "nowhere.store"):
        assert main.run(main.app, ["train", "dfew_160", "--set", f"data.store={store}"]) == 2
        assert "data.store" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
