"""Launching on SLURM, status, cancel and resume; what SLURM says is recorded here, tests/slurm has it for real."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from launch_setup import FIVE_FOLD, Commands, said

from mmadfer.errors import RunError
from mmadfer.run import directory as runs
from mmadfer.run import launch_record
from mmadfer.run.lease import lease
from mmadfer.utils.files import write_json

SLURM = ("--cluster", "slurm", "--gpus-per-fold", 2, "--partition", "gpu", "--time", "2:00:00")


@pytest.fixture
def run(five: Path, tmp_path: Path, commands: Commands) -> Path:
    """A run that was launched: array 11, report 12, export 13."""
    shown = said(five, "--run", tmp_path / "run", *SLURM, "--export")
    assert shown.exit_code == 0, shown.exception
    return tmp_path / "run"


def queue(commands: Commands, **jobs: str) -> None:
    """What squeue says: `_11_0="RUNNING|None|n1|1:00|0"`."""
    commands.make("squeue", "\n".join(f"{name[1:]}|{said}|" for name, said in jobs.items()))


def running(commands: Commands) -> None:
    waiting = "PENDING|JobArrayTaskLimit||2:00:00|0"
    queue(commands, _11_0="RUNNING|None|n1|1:00|0", _11_1=waiting, _12="PENDING|Dependency||30:00|0", _13=waiting)


def finish(run: Path, fold: int) -> None:
    scores, table = {"uar": 0.5, "war": 0.5}, {"labels": ["glad", "sad"], "confusion": [[1, 1], [1, 1]]}
    result = {"fold": fold, "epoch": 2, "epochs": 2, **scores, **table, "finished": True, "seconds": 1.0}
    write_json(run / f"fold-{fold}" / "result.json", result)


def events(run: Path, fold: int, *lines: dict[str, object]) -> None:
    folder = run / f"fold-{fold}"
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def test_a_launch_leaves_its_jobs_and_options(run: Path) -> None:
    left = launch_record.read(run)
    assert left is not None
    assert left.jobs == {**{f"fold {k + 1}": f"11_{k}" for k in range(5)}, "report": "12", "export": "13"}
    assert (left.options.gpus, left.options.time, left.options.export) == (2, "120", True)
    assert left.fold_ids[5] == "11_4"
    assert left.followers == ["13", "12"]


def test_the_launcher_loads_no_model_and_returns_in_seconds(five: Path, tmp_path: Path, commands: Commands) -> None:
    arguments = [str(five), "--run", str(tmp_path / "run"), *map(str, SLURM), "--export"]
    code = f"""import sys
from mmadfer.cli.main import app, run
assert run(app, {["launch", *arguments]!r}) == 0
assert run(app, ["launch", "status", {str(tmp_path / "run")!r}]) == 0
print([name for name in ("torch", "deepspeed", "nvidia", "matplotlib") if name in sys.modules])"""
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
    assert time.monotonic() - begun < 15  # a second on an idle machine
    assert f"mmadfer launch status {tmp_path / 'run'}" in done.stdout
    assert "fold 5: SLURM job 11_4" in done.stdout


def test_status_shows_what_slurm_and_the_disk_know(run: Path, commands: Commands) -> None:
    finish(run, 1)
    epoch = {"event": "epoch", "epoch": 1, "step": 4, "uar": 0.25, "war": 0.5, "seconds": 90.0}
    events(run, 2, {"event": "resume", "epoch": 1, "step": 2}, epoch, {"event": "step", "epoch": 2, "step": 5})
    runs.mark_failed(run / "fold-4", "three steps in a row were not finite", run / "jobs" / "11_3_0_log.err")
    queue(
        commands,
        _11_0="COMPLETED|None|n1|1:00:00|0",
        _11_1="RUNNING|None|n[1-2]|1:59:00|3",
        _11_2="PENDING|BeginTime||2:00:00|1",
        _11_3="FAILED|NonZeroExitCode|n1|1:00|0",
        _11_4="TIMEOUT|TimeLimit|n1|0:00|20",
        _12="PENDING|DependencyNeverSatisfied||30:00|0",
        _13="PENDING|Dependency||30:00|0",
    )
    commands.make("sacct", "11_2|PREEMPTED|None|n1\n11_2|PENDING|None|n1")
    end = "slurmstepd: error: *** JOB 15 ON n1 CANCELLED AT 2026-11-21T09:00:00 DUE TO TIME LIMIT ***"
    (run / "jobs" / "11_4_0_log.err").write_text(f"loading\n{end}\nsrun: Force Terminated StepId=15.0\n")
    found = json.loads(said("status", run, "--json").stdout)
    folds = {one["fold"]: one for one in found["folds"]}
    states = [(one["state"], one["detail"], one["restarts"]) for one in found["folds"]]
    assert states == [
        ("finished", "", 0),
        ("running", "on n[1-2]", 3),
        ("queued", "after preemption: BeginTime", 1),
        ("failed", "", 0),
        ("time limit", "", 20),
    ]
    second = {key: folds[2][key] for key in ("epoch", "epochs", "uar", "war", "left", "limit", "job")}
    assert list(second.values()) == [1, 2, 0.25, 0.5, 90.0, "1:59:00", "11_1"]
    assert (folds[4]["words"], folds[5]["words"]) == ("three steps in a row were not finite", end)
    assert found["report"] == "cannot run (SLURM job 12, DependencyNeverSatisfied)"
    assert found["export"] == "pending (SLURM job 13, Dependency)"
    shown = said("status", run).stdout
    for word in ("0:01:30", "25.00%", "n[1-2]", "fold 4: three steps", "cannot run", "20"):
        assert word in shown
    assert "launch resume" not in shown  # fold 2 is running
    assert (len(commands.calls("squeue")), len(commands.calls("sacct"))) == (2, 2)


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("Traceback\nmmadfer.errors.RunError: no store\nsrun: error: n1: task 0: Exited with exit code 1", "no store"),
        ("loading\nsrun: error: n1: task 0: Killed\nsrun: launch/slurm: _step_signal: Terminating", "task 0: Killed"),
        (
            "srun: error: n1: task 0: Killed\nsrun: launch/slurm: _step_signal: Terminating StepId=8.0\n"
            "srun: error: n2: task 1: Killed\nsrun: Force Terminated StepId=8.0",
            "task 0: Killed",  # and not the task that srun has killed then
        ),
        ("ready\nsrun: launch/slurm: _step_signal: Terminating StepId=8.0", "ready"),
        ("srun: Force Terminated StepId=8.0", "Force Terminated"),
        ("", ""),
    ],
)
def test_the_line_that_tells_why_is_shown(run: Path, commands: Commands, log: str, words: str) -> None:
    queue(commands, _11_0="FAILED|NonZeroExitCode|n1|1:00|0")
    (run / "jobs" / "11_0_0_log.err").write_text(log)
    assert words in json.loads(said("status", run, "--json").stdout)["folds"][0]["words"]


def test_status_without_an_answer_tells_what_lies_on_disk(run: Path, commands: Commands) -> None:
    finish(run, 1)
    commands.make("squeue", "connect failure", 1, stderr=True)
    shown = said("status", run)
    assert shown.exit_code == 0
    assert "finished" in shown.stdout
    assert "connect failure" in shown.stdout
    with pytest.raises(RunError, match="is not a run directory"):
        raise said("status", run.parent).exception


def test_a_second_launch_is_refused_and_says_who_holds_the_run(five: Path, run: Path, commands: Commands) -> None:
    running(commands)
    before = (run / "run.json").read_text()
    for words in (("resume", run), (five, "--run", run, *SLURM, "--resume"), ("resume", run, "--cluster", "local")):
        with pytest.raises(RunError, match=r"job 11_0 \(RUNNING\); fold 2 is SLURM job 11_1 \(PENDING\)"):
            raise said(*words).exception
    assert (run / "run.json").read_text() == before
    assert len(commands.scripts()) == 3
    commands.make("squeue", "connect failure", 1, stderr=True)
    with pytest.raises(RunError, match="does not answer"):  # the folds may be alive
        raise said("resume", run).exception


def test_a_living_lease_alone_is_enough_to_refuse(five: Path, run: Path) -> None:
    with lease(run / "fold-3"), pytest.raises(RunError, match=r"fold 3 is being trained by .*process"):
        raise said("resume", run).exception
    assert said("resume", run).exit_code == 0


def test_resume_needs_no_options_and_takes_new_ones(run: Path, commands: Commands) -> None:
    for fold in (1, 2, 3):
        finish(run, fold)
    waiting = "PENDING|Dependency||0|0"
    queue(commands, _11_0="COMPLETED|None|n1|0|0", _11_3="CANCELLED|None|n1|0|0", _12=waiting, _13=waiting)
    assert said("resume", run, "--time", "3:00:00").exit_code == 0
    array = commands.scripts()[3]
    for flag in ("--array=0-1%2", "--gpus-per-node=2", "--partition=gpu", "--time=180"):
        assert f"#SBATCH {flag}\n" in array
    assert "--dependency=afterany:14" in commands.scripts()[4]
    assert commands.calls("scancel") == [" 13 12"]  # else the earlier report and export came too early
    left = launch_record.read(run)
    assert left is not None
    assert (left.fold_ids, left.options.time) == ({4: "14_0", 5: "14_1"}, "180")


def test_what_follows_from_a_new_size_is_worked_out_anew(run: Path) -> None:
    shown = said("resume", run, "--gpus-per-fold", 4, "--folds", "2-4", "--no-export", "--dry-run").stdout
    for flag in ("--array=0-2%3", "--gpus-per-node=4", "--cpus-per-task=4", "--partition=gpu"):
        assert f"#SBATCH {flag}\n" in shown
    assert "sbatch: export" not in shown
    here = said("resume", run, "--cluster", "local", "--dry-run").stdout
    assert "at a time, local)" in here
    assert "export       each finished fold" in here


def test_a_finished_run_is_reported_at_once_and_exported_by_a_job(run: Path, commands: Commands) -> None:
    for fold in range(1, 6):
        finish(run, fold)
    shown = said("resume", run)
    assert shown.exit_code == 0, shown.exception
    assert (run / "report" / "report.html").is_file()
    assert "export: SLURM job 14" in shown.stdout
    assert len(commands.scripts()) == 4
    assert "--dependency" not in commands.scripts()[3]


def test_cancel_ends_the_report_before_the_folds(run: Path, commands: Commands) -> None:
    running(commands)
    shown = said("cancel", run)
    assert commands.calls("scancel") == [" 13 12", " 11_0 11_1"]
    assert f"mmadfer launch resume {run}" in shown.stdout
    queue(commands, _11_0="CANCELLED|None|n1|0|0")
    assert said("cancel", run).stdout == f"nothing of {run} is running or queued\n"
    assert len(commands.calls("scancel")) == 2


def test_ids_that_slurm_gave_anew_are_other_peoples_jobs(run: Path, commands: Commands) -> None:
    other = dict.fromkeys(("_11_0", "_11_1", "_12", "_13"), "RUNNING|None|n1|1:00|0|/elsewhere/jobs/a|b_%A_%a.out")
    queue(commands, **other)
    assert said("cancel", run).stdout == f"nothing of {run} is running or queued\n"
    assert "not begun" in said("status", run).stdout
    assert said("resume", run).exit_code == 0
    assert commands.calls("scancel") == []
    queue(commands, **{**other, "_14_3": f"RUNNING|None|n1|1:00|0|{run}/jobs/%A_%a_0_log.out"})
    with pytest.raises(RunError, match=r"is live.*: fold 4 is SLURM job 14_3 \(RUNNING\)"):
        raise said("resume", run).exception
    said("cancel", run)
    assert commands.calls("scancel") == [" 14_3"]


def test_a_run_that_plain_sbatch_goes_on_with(run: Path, commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    queue(commands, _11_2="CANCELLED|None|n1|0|0", _21_3="RUNNING|None|n7|1:00|0|/home/me/five_fold-21_3.log")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "21")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    with lease(run / "fold-3"):
        found = json.loads(said("status", run, "--json").stdout)["folds"][2]
        assert (found["job"], found["state"], found["detail"]) == ("21_3", "running", "on n7")
        told = said("cancel", run).stdout
    assert commands.calls("scancel") == [" 21_3"]
    assert "scancel 21 ends all of it" in told
    assert json.loads(said("status", run, "--json").stdout)["folds"][2]["state"] == "cancelled"


def test_a_refused_cancel_says_so(run: Path, commands: Commands) -> None:
    running(commands)
    commands.make("scancel", "scancel: error: Kill job error on job id 13: Access/permission denied", 1, stderr=True)
    with pytest.raises(RunError, match=r"SLURM does not allow it .*denied"):
        raise said("cancel", run).exception


def test_a_report_that_slurm_refuses_leaves_word_of_the_folds(five: Path, tmp_path: Path, commands: Commands) -> None:
    commands.refuse_after(1)
    with pytest.raises(RunError, match=r"did not take the job: .*It has taken fold 1 \(job 11_0\), .*launch cancel"):
        raise said(five, "--run", tmp_path / "run", *SLURM).exception
    left = launch_record.read(tmp_path / "run")
    assert left is not None
    assert set(left.jobs) == {f"fold {k}" for k in range(1, 6)}


def test_a_hundred_jobs_cost_as_many_calls_as_one(run: Path, commands: Commands) -> None:
    left = launch_record.read(run)
    assert left is not None
    many = launch_record.LaunchRecord(left.folds, left.options, {f"fold {k}": f"11_{k}" for k in range(1, 101)})
    many.write(run)
    queue(commands, **{f"_11_{k}": "RUNNING|None|n1|1:00|1" for k in range(1, 101)})
    said("status", run)
    assert len(commands.calls("squeue")) == 1
    said("cancel", run)
    assert (len(commands.calls("squeue")), len(commands.calls("scancel"))) == (2, 1)


def test_words_that_are_no_command_are_a_configuration(five: Path, tmp_path: Path) -> None:
    assert said("--run", tmp_path / "run", five, "--cluster", "local", "--dry-run").exit_code == 0
    assert "--array-parallelism" in said("--help").stdout
    command = [sys.executable, FIVE_FOLD, "status", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[:6]) == (2, "error:")


def test_a_record_that_cannot_be_read_is_no_run_without_jobs(run: Path) -> None:
    (run / launch_record.PLACE).write_text("{")
    for word in ("status", "cancel", "resume"):
        with pytest.raises(RunError, match=r"launch\.json cannot be read .* nobody knows which jobs"):
            raise said(word, run).exception
