"""Real launches on this machine: submitit's local executor, DeepSpeed, two folds of a tiny model."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from launch_setup import FIVE_FOLD, said, start

from mmadfer.config import schema as configs
from mmadfer.data.training_files import from_store
from mmadfer.errors import RunError
from mmadfer.launch.jobs import FoldJob
from mmadfer.launch.local import LocalFolds
from mmadfer.run import directory as runs
from mmadfer.run.lease import lease

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def wait_for(what: Callable[[], list[int]], seconds: float = 60) -> list[int]:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


def tasks(run: Path) -> list[int]:
    """The processes that train, or are about to: children of submitit's controllers, which name the logs."""
    controllers = {int(path.name.partition("_")[0]) for path in (run / "jobs").glob("*_0_log.out")}
    return [child for pid in controllers for child in children(pid)]


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_two_folds_train_report_and_are_not_trained_again(config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    begun = start(config, run)
    text, _ = begun.communicate(timeout=240)
    assert begun.returncode == 0, text
    for fold in (1, 2):
        assert f"fold {fold}  epoch 2/2" in text
        assert f"fold {fold}  finished" in text
        assert runs.result(runs.fold_dir(run, fold)) is not None
    report = json.loads((run / "report" / "report.json").read_text())
    assert report["complete"]
    assert report["origin"]["data_set"] == "tiny"
    assert (run / "code" / "mmadfer" / "launch" / "jobs.py").is_file()

    refused = start(config, run)
    assert "go on with --resume" in refused.communicate(timeout=60)[0]
    assert refused.returncode == 2
    again = start(config, run, "--resume")
    text, _ = again.communicate(timeout=60)
    assert again.returncode == 0
    assert "running" not in text
    assert len(list((run / "jobs").glob("*_0_log.out"))) == 2


def test_train_waits_for_its_fold_and_makes_paths_absolute(config: Path, store: Path, tmp_path: Path) -> None:
    fold = runs.open_fold(tmp_path / "run", from_store(configs.load(str(config))), 1)
    relative = os.path.relpath(store, tmp_path)
    command = [sys.executable, "-m", "mmadfer", "train", str(config), "--run", "run", "--set"]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    with lease(fold):
        begun = subprocess.Popen(
            [*command, f"data.store={relative}"], cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True
        )
        assert begun.stderr is not None
        assert any("trained by another process: waiting" in line for line in begun.stderr)
        assert not runs.begun(fold)
    _, words = begun.communicate(timeout=120)
    assert begun.returncode == 0, words
    newest = runs.latest_checkpoint(fold)
    assert newest is not None
    saved = json.loads((newest / "state.json").read_text())["belonging"]["config"]
    assert Path(saved["data"]["store"]).is_absolute()


def test_a_fold_takes_the_gpus_of_the_one_that_has_ended(config: Path, tmp_path: Path) -> None:
    jobs = [FoldJob(str(tmp_path), fold, devices=(gpu,)) for fold, gpu in ((1, "0"), (2, "1"), (3, "0"))]
    folds = LocalFolds(tmp_path, jobs, {}, parallel=2, minutes=1)
    assert [folds._placed(job).devices for job in jobs[:2]] == [("0",), ("1",)]
    folds._freed.append(folds._devices[2])
    assert folds._placed(jobs[2]).devices == ("1",)


def test_a_killed_fold_is_said_and_the_launch_fails(config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    begun = start(config, run, "--folds", "2")
    os.kill(wait_for(lambda: tasks(run))[0], signal.SIGKILL)
    text, _ = begun.communicate(timeout=60)
    assert begun.returncode == 1, text
    assert "fold 2 failed" in text
    assert "_0_log" in text
    assert f"mmadfer launch resume {run}" in text
    assert runs.failure(run / "fold-2") is not None


def test_a_launch_here_is_shown_refused_to_others_cancelled_and_resumed(config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text().replace("epochs: 2", "epochs: 60"))
    run = tmp_path / "run"
    begun = start(config, run, "--array-parallelism", "1", "--cpus-per-fold", "1")
    wait_for(lambda: [1] if (run / "fold-1" / "metrics.jsonl").exists() else [])
    folds = json.loads(said("status", run, "--json").stdout)["folds"]
    assert [one["state"] for one in folds] == ["running", "queued"]
    assert folds[0]["detail"].startswith("process ")
    with pytest.raises(RunError, match=f"launched here by process {begun.pid} on "):
        raise said("resume", run).exception
    shown = said("cancel", run)
    assert f"mmadfer launch resume {run}" in shown.stdout
    assert begun.wait(timeout=30) == 130
    assert said("cancel", run).stdout == f"nothing of {run} is running or queued\n"
    assert json.loads(said("status", run, "--json").stdout)["folds"][0]["state"] == "failed"
    command = [sys.executable, FIVE_FOLD, "resume", str(run), "--array-parallelism", "2"]
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    last = json.loads(said("status", run, "--json").stdout)
    assert [(one["state"], one["epoch"]) for one in last["folds"]] == [("finished", 60)] * 2
    assert last["folds"][0]["restarts"] == 1
    assert last["report"].endswith("report.html")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_the_launch_ends_every_fold_and_says_how_to_go_on(
    config: Path, tmp_path: Path, number: signal.Signals
) -> None:
    config.write_text(config.read_text().replace("epochs: 2", "epochs: 500"))
    run = tmp_path / "run"
    begun = start(config, run, "--array-parallelism", "1")
    pids = wait_for(lambda: tasks(run))
    wait_for(lambda: [1] if (run / "fold-1" / "metrics.jsonl").exists() else [])
    os.killpg(begun.pid, number)  # as ctrl-C does
    text, _ = begun.communicate(timeout=60)
    assert begun.returncode == 130, text
    assert f"mmadfer launch resume {run}" in text
    assert "Traceback" not in text
    wait_for(lambda: [1] if not alive(pids) else [], 10)
    assert "has saved" in str(runs.failure(run / "fold-1"))
    assert runs.latest_checkpoint(run / "fold-1")
    assert len(list((run / "jobs").glob("*_submitted.pkl"))) == 1
