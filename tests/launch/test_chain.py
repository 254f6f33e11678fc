"""Runs that begin from others: launched one by one, or together as a chain; here and on a stand-in for SLURM."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from launch_setup import FIVE_FOLD, Commands, said

from mmadfer.errors import ConfigError, RunError
from mmadfer.launch import launching
from mmadfer.launch.slurm.dependencies import arrays
from mmadfer.run import directory as runs
from mmadfer.run import launch_record
from mmadfer.utils.files import write_json

SLURM = ("--cluster", "slurm", "--gpus-per-fold", "0", "--time", "60")


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("PYTHONPATH", raising=False)


def stage(config: Path, name: str, **stages: object) -> Path:
    """A configuration of another name that begins from other runs."""
    tree = yaml.safe_load(config.read_text())
    path = config.with_name(f"{name}.yaml")
    path.write_text(yaml.safe_dump({**tree, "name": name, "stages": stages}))
    return path


def finish(run: Path, *folds: int) -> None:
    scores, table = {"uar": 0.5, "war": 0.5}, {"labels": ["glad", "sad"], "confusion": [[1, 1], [1, 1]]}
    for fold in folds:
        result = {"fold": fold, "epoch": 2, "epochs": 2, **scores, **table, "finished": True, "seconds": 1.0}
        (run / f"fold-{fold}").mkdir(exist_ok=True)
        write_json(run / f"fold-{fold}" / "result.json", result)


def queue(commands: Commands, **jobs: str) -> None:
    """What squeue says: `_11_0="RUNNING|None|n1|1:00|0"`."""
    commands.make("squeue", "\n".join(f"{name[1:]}|{told}|" for name, told in jobs.items()))


def waiting(commands: Commands, *jobs: str) -> None:
    queue(commands, **{f"_{name}": "PENDING|Priority||1:00:00|0" for name in jobs})


def dependencies(commands: Commands) -> list[tuple[str, str]]:
    """Name and dependency of each job that sbatch has got."""
    found = []
    for text in commands.scripts():
        options = dict(
            line[10:].split("=", 1) for line in text.splitlines() if line.startswith("#SBATCH --") and "=" in line
        )
        if options.get("dependency", "after")[:5] == "after" and "kill-on-invalid-dep" in options:
            assert options["kill-on-invalid-dep"] == "yes"
        found.append((options["job-name"], options.get("dependency", "")))
    return found


def test_folds_wait_together_where_one_array_can_wait_for_them() -> None:
    assert arrays({1: [], 2: []}) == [([1, 2], "")]
    assert arrays({1: ["11_0"], 2: ["11_1"]}) == [([1, 2], "aftercorr:11")]
    assert arrays({1: ["11_0", "7_0"], 2: ["11_1", "7_1"]}) == [([1, 2], "aftercorr:11,aftercorr:7")]
    assert arrays({2: ["11_1"], 3: ["11_2"]}) == [([2], "afterok:11_1"), ([3], "afterok:11_2")]
    assert arrays({1: [], 2: ["11"], 3: []}) == [([1, 3], ""), ([2], "afterok:11")]
    assert arrays({4: ["11", "7_3"]}) == [([4], "afterok:11,afterok:7_3")]
    assert arrays({}) == []


def test_a_child_waits_for_the_parents_array_element_by_element(five: Path, tmp_path: Path, commands: Commands) -> None:
    assert said(five, "--run", tmp_path / "parent", *SLURM).exit_code == 0  # array 11, report 12
    waiting(commands, *(f"11_{k}" for k in range(5)), "12")
    child = stage(five, "child", init=str(tmp_path / "parent"))
    shown = said(child, "--run", tmp_path / "child", *SLURM)
    assert shown.exit_code == 0, shown.exception
    assert dependencies(commands) == [
        ("tiny", ""),
        ("tiny-report", "afterany:11"),
        ("child", "aftercorr:11"),
        ("child-report", "afterany:13"),
    ]


def test_each_fold_waits_for_its_own_where_the_arrays_differ(five: Path, tmp_path: Path, commands: Commands) -> None:
    parent = tmp_path / "parent"
    assert said(five, "--run", parent, *SLURM, "--folds", "1-3").exit_code == 0
    finish(parent, 1)
    waiting(commands, "11_1", "11_2")
    child = stage(five, "child", init=str(parent))
    shown = said(child, "--run", tmp_path / "child", *SLURM, "--folds", "1-3")
    assert shown.exit_code == 0, shown.exception
    own = [one for one in dependencies(commands) if one[0].startswith("child")]
    after = "afterany:13:14:15"
    assert own == [("child", ""), ("child", "afterok:11_1"), ("child", "afterok:11_2"), ("child-report", after)]
    left = launch_record.read(tmp_path / "child")
    assert left is not None
    assert left.jobs == {"fold 1": "13", "fold 2": "14", "fold 3": "15", "report": "16"}


def test_a_parent_that_nobody_trains_is_not_waited_for(five: Path, tmp_path: Path, commands: Commands) -> None:
    parent = tmp_path / "parent"
    assert said(five, "--run", parent, *SLURM, "--folds", "1-2").exit_code == 0
    finish(parent, 1)
    queue(commands, _11_0="COMPLETED|None|n1|1:00|0", _11_1="FAILED|NonZeroExitCode|n1|1:00|0")
    child = stage(five, "child", init=str(parent))
    before = sorted(tmp_path.iterdir())
    for more in ((), ("--dry-run",)):
        shown = said(child, "--run", tmp_path / "child", *SLURM, "--folds", "1-2", *more)
        with pytest.raises(
            RunError, match=r"fold 2 of .*parent \(stages.init\) is not finished, and no job.*launch res"
        ):
            raise shown.exception
    assert sorted(tmp_path.iterdir()) == before
    assert said(child, "--run", tmp_path / "child", *SLURM, "--folds", "1").exit_code == 0


def test_status_says_what_a_fold_waits_for_and_why_it_never_began(
    five: Path, tmp_path: Path, commands: Commands
) -> None:
    parent, child = tmp_path / "parent", tmp_path / "child"
    assert said(five, "--run", parent, *SLURM).exit_code == 0
    waiting(commands, *(f"11_{k}" for k in range(5)))
    assert said(stage(five, "child", init=str(parent)), "--run", child, *SLURM).exit_code == 0
    finish(parent, 1)
    runs.fold_dir(parent, 2).mkdir()
    runs.mark_failed(runs.fold_dir(parent, 2), "the disk is full", None)
    queue(
        commands,
        _13_0="RUNNING|None|n1|1:00|0",
        _13_1="CANCELLED|DependencyNeverSatisfied||1:00|0",
        _13_2="PENDING|Dependency||1:00:00|0",
    )
    told = json.loads(said("status", child, "--json").stdout)
    assert told["parents"] == {"init": str(parent)}
    folds = told["folds"]
    assert (folds[0]["state"], folds[0]["words"]) == ("running", "")
    why = f"fold 2 of {parent} (stages.init) is not finished: the disk is full"
    assert (folds[1]["state"], folds[1]["words"]) == ("cancelled", why)
    after = f"Dependency: fold 3 of {parent} (stages.init) is not finished"
    assert (folds[2]["state"], folds[2]["detail"]) == ("queued", after)
    text = said("status", child).stdout
    assert f"init    {parent}\n" in text
    assert f"fold 2: {why}\n" in text


def test_a_chain_is_submitted_as_arrays_that_wait(config: Path, tmp_path: Path, commands: Commands) -> None:
    folder = tmp_path / "chain"
    files = (config, stage(config, "second", init="tiny"), stage(config, "third", init="second", teacher="tiny"))
    waiting(commands, "11_0", "11_1", "12", "13_0", "13_1", "14", "15_0", "15_1", "16")
    shown = said(*files, "--run", folder, *SLURM)
    assert shown.exit_code == 0, shown.exception
    assert dependencies(commands) == [
        ("tiny", ""),
        ("tiny-report", "afterany:11"),
        ("second", "aftercorr:11"),
        ("second-report", "afterany:13"),
        ("third", "aftercorr:13,aftercorr:11"),
        ("third-report", "afterany:15"),
    ]
    assert runs.read(folder / "third").config.stages.parents == {"init": folder / "second", "teacher": folder / "tiny"}
    told = json.loads(said("status", folder, "--json").stdout)
    assert [Path(one["run"]).name for one in told["runs"]] == ["tiny", "second", "third"]
    assert said("cancel", folder).exit_code == 0
    ended = [call.split()[-1] for call in commands.calls("scancel")]
    assert [number.partition("_")[0] for number in ended] == ["16", "15", "14", "13", "12", "11"]
    finish(folder / "tiny", 1, 2)
    queue(commands, **{"_13_0": "CANCELLED|None||1:00|0", "_15_1": "CANCELLED|None||1:00|0"})
    dry = said("resume", folder, "--dry-run")
    assert "#SBATCH --dependency=aftercorr:ARRAY-OF-second\n" in dry.stdout
    assert f"{folder / 'tiny'} is finished\n" in dry.stdout


DRY = """\
run          DIR/second
config       second: 2 epochs, batch 4
code         N files, copied to DIR/second/code
folds        1, 2 (2 at a time, slurm)
init         fold by fold from DIR/tiny
environment  PYTHONPATH=DIR/second/code
environment  PYTHONSAFEPATH=1
environment  PYTHONDONTWRITEBYTECODE=1
job          fold 1: 1 rank(s), GPUs 0, 4 CPU thread(s) per rank
job          fold 2: 1 rank(s), GPUs 0, 4 CPU thread(s) per rank
report       when all folds have ended
waits        fold 1 for SLURM job ARRAY-OF-tiny_0
waits        fold 2 for SLURM job ARRAY-OF-tiny_1

--- sbatch: folds
#!/bin/bash

# Parameters
#SBATCH --array=0-1%2
#SBATCH --cpus-per-task=4
#SBATCH --dependency=aftercorr:ARRAY-OF-tiny
#SBATCH --error=DIR/second/jobs/%A_%a_0_log.err
#SBATCH --job-name=second
#SBATCH --kill-on-invalid-dep=yes
"""


def test_a_dry_run_shows_the_chain_and_makes_nothing(config: Path, tmp_path: Path) -> None:
    files, folder = (config, stage(config, "second", init="tiny")), tmp_path / "chain"
    before = sorted(tmp_path.iterdir())
    shown = said(*files, "--run", folder, *SLURM, "--dry-run")
    assert shown.exit_code == 0, shown.exception
    first, _, second = shown.stdout.replace(str(folder), "DIR").partition("\n\nrun  ")
    assert first.startswith("run          DIR/tiny\n")
    lines = f"run  {second}".splitlines()
    plain = "".join(
        f"code         N{line[line.index(' files') :]}\n" if " files, " in line else f"{line}\n" for line in lines
    )
    assert plain.startswith(DRY)
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_no_chain_is_refused_before_anything_is_made(config: Path, five: Path, tmp_path: Path) -> None:
    second = stage(config, "second", init="tiny")
    apart = stage(config, "apart")
    loop = stage(config, "loop", init=str(tmp_path / "chain" / "loop"))
    other = stage(five, "other", init="tiny")
    before = sorted(tmp_path.iterdir())

    def refused(*files: Path, words: tuple[str, ...] = ()) -> Exception:
        found: Exception = said(*files, "--run", tmp_path / "chain", "--cluster", "local", *words).exception
        assert sorted(tmp_path.iterdir()) == before
        return found

    assert "two configurations are named tiny" in str(refused(config, config))
    assert "apart begins or learns from none of tiny: name one" in str(refused(config, apart))
    assert "--estimate measures one run" in str(refused(config, second, words=("--estimate",)))
    assert isinstance(refused(second), RunError)  # alone, tiny is a path, and no run
    assert isinstance(refused(config, loop), (ConfigError, RunError))
    assert "tiny has folds 1, 2, and no fold 3" in str(refused(config, other))


def test_a_chain_that_was_interrupted_while_it_was_made_goes_on(
    config: Path, tmp_path: Path, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "chain"
    command = (config, stage(config, "second", init="tiny"), "--run", folder, *SLURM)
    make = launching.make_run

    def interrupted(task: launching.Launch) -> None:
        if task.run.name == "second":
            raise KeyboardInterrupt
        make(task)

    with monkeypatch.context() as patch:
        patch.setattr(launching, "make_run", interrupted)
        assert said(*command).exit_code != 0
    assert [path.name for path in sorted(folder.iterdir())] == ["chain.yaml", "tiny"]
    for words in ("status", "resume"):
        with pytest.raises(RunError, match=r"second is missing: launch the same configurations again, .* --resume"):
            raise said(words, folder).exception
    with pytest.raises(RunError, match="is a chain of tiny, second: choose another --run"):
        raise said(config, stage(config, "third", init="tiny"), "--run", folder, *SLURM, "--resume").exception
    waiting(commands, "11_0", "11_1", "12", "13_0", "13_1", "14")
    done = said(*command, "--resume")
    assert done.exit_code == 0, done.exception
    assert [path.name for path in sorted(folder.iterdir())] == ["chain.yaml", "second", "tiny"]
    assert [name for name, _ in dependencies(commands)] == ["tiny", "tiny-report", "second", "second-report"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_chain_on_this_machine_in_order(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "chain"
    second = stage(config, "second", init="tiny")
    command = [sys.executable, FIVE_FOLD, str(config), str(second), "--run", str(folder), "--cluster", "local"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ}, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    for fold in (1, 2):
        told = runs.about(folder / "second")["parents"][str(fold)]["init"]
        assert (told["run"], told["fold"]) == (str(folder / "tiny"), fold)
    report = json.loads((folder / "second" / "report" / "report.json").read_text())
    assert report["about"]["parents"].keys() == {"1", "2"}
    again = said("resume", folder)
    assert again.exit_code == 0, again.exception
    assert again.stdout.count("is finished") == 2
    # a fold that the parent has lost is named; the other one goes on
    for name in ("tiny", "second"):
        shutil.rmtree(folder / name / "fold-2")
    shutil.rmtree(folder / "second" / "fold-1")
    spoilt = folder / "tiny" / "fold-2" / "checkpoints" / "step-00000004"
    spoilt.mkdir(parents=True)
    (spoilt / "state.json").write_text("{")
    again = said("resume", folder)
    assert again.exit_code == 1
    assert runs.result(folder / "second" / "fold-1") is not None
    why = f"fold 2 of {folder / 'tiny'} (stages.init) is not finished: no checkpoint in "
    assert why in runs.failure(folder / "second" / "fold-2")["reason"]
    assert why in said("status", folder).stdout
