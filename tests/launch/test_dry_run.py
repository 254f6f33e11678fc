import os
import subprocess
import sys
from pathlib import Path

import pytest
from launch_setup import FIVE_FOLD, said

from mmadfer.errors import ConfigError, MissingDependencyError, RunError
from mmadfer.launch import plan

LOCAL = """\
run          RUN
config       tiny: 2 epochs, batch 4
code         N files, copied to RUN/code
folds        1, 2 (2 at a time, local)
environment  PYTHONPATH=RUN/code
environment  PYTHONSAFEPATH=1
environment  PYTHONDONTWRITEBYTECODE=1
job          fold 1: 1 rank(s), GPUs none, 3 CPU thread(s) per rank
job          fold 2: 1 rank(s), GPUs none, 3 CPU thread(s) per rank
report       when all folds have ended
Dry run: nothing was made or submitted.
"""

SLURM = """\
run          RUN
config       tiny: 2 epochs, batch 4
code         N files, copied to RUN/code
folds        1, 2 (1 at a time, slurm)
environment  PYTHONPATH=RUN/code
environment  PYTHONSAFEPATH=1
environment  PYTHONDONTWRITEBYTECODE=1
job          fold 1: 4 rank(s), GPUs 4, 3 CPU thread(s) per rank
job          fold 2: 4 rank(s), GPUs 4, 3 CPU thread(s) per rank
report       when all folds have ended

--- sbatch: folds
#!/bin/bash

# Parameters
#SBATCH --account=lab
#SBATCH --array=0-1%1
#SBATCH --constraint=a100
#SBATCH --cpus-per-task=3
#SBATCH --error=RUN/jobs/%A_%a_0_log.err
#SBATCH --gpus-per-node=2
#SBATCH --job-name=tiny
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --open-mode=append
#SBATCH --output=RUN/jobs/%A_%a_0_log.out
#SBATCH --partition=gpu
#SBATCH --qos=high
#SBATCH --requeue
#SBATCH --signal=USR2@120
#SBATCH --time=510
#SBATCH --wckey=submitit

# setup
export PYTHONPATH=RUN/code
export PYTHONSAFEPATH=1
export PYTHONDONTWRITEBYTECODE=1

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output RUN/jobs/%A_%a_%t_log.out --error RUN/jobs/%A_%a_%t_log.err \
--cpus-per-task=3 --kill-on-bad-exit=1 PYTHON -u -m submitit.core._submit RUN/jobs

--- sbatch: report
#!/bin/bash

# Parameters
#SBATCH --account=lab
#SBATCH --constraint=a100
#SBATCH --cpus-per-task=1
#SBATCH --dependency=afterany:ARRAY_ID
#SBATCH --error=RUN/jobs/%j_0_log.err
#SBATCH --job-name=tiny-report
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=RUN/jobs/%j_0_log.out
#SBATCH --partition=gpu
#SBATCH --qos=high
#SBATCH --requeue
#SBATCH --signal=USR2@120
#SBATCH --time=30
#SBATCH --wckey=submitit

# setup
export PYTHONPATH=RUN/code
export PYTHONSAFEPATH=1
export PYTHONDONTWRITEBYTECODE=1

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output RUN/jobs/%j_%t_log.out --error RUN/jobs/%j_%t_log.err \
--cpus-per-task=1 --kill-on-bad-exit=1 PYTHON -u -m submitit.core._submit RUN/jobs

Dry run: nothing was made or submitted.
"""


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("PYTHONPATH", raising=False)


def plain(text: str, run: Path) -> str:
    """The text without what differs between machines."""
    lines = text.replace(str(run), "RUN").replace(sys.executable, "PYTHON").splitlines()
    return "".join(
        f"{'code         N' + line[line.index(' files') :] if ' files, ' in line else line}\n" for line in lines
    )


def test_local_dry_run(config: Path, tmp_path: Path) -> None:
    before, run = sorted(tmp_path.iterdir()), tmp_path / "run"
    shown = said(config, "--run", run, "--cluster", "local", "--cpus-per-fold", 3, "--dry-run")
    assert plain(shown.stdout, run) == LOCAL
    assert sorted(tmp_path.iterdir()) == before


def test_slurm_dry_run_shows_what_submitit_would_write_without_slurm(config: Path, tmp_path: Path) -> None:
    before, run = sorted(tmp_path.iterdir()), tmp_path / "run"
    where = ("--partition", "gpu", "--account", "lab", "--qos", "high", "--constraint", "a100", "--time", "8:30:00")
    size = ("--gpus-per-fold", 4, "--nodes-per-fold", 2, "--cpus-per-fold", 12, "--array-parallelism", 1)
    shown = said(config, "--run", run, "--cluster", "slurm", *where, *size, "--dry-run")
    assert plain(shown.stdout, run) == SLURM
    assert sorted(tmp_path.iterdir()) == before


def test_on_one_machine_folds_go_round_the_gpus(five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7,9")
    options = ("--run", tmp_path / "run", "--cluster", "local", "--dry-run")
    assert "(3 at a time, local)" in said(five, *options).stdout
    assert "(1 at a time, local)" in said(five, *options, "--gpus-per-fold", 2).stdout
    assert "(5 at a time, local)" in said(five, *options, "--array-parallelism", 5).stdout
    apart = [line for line in said(five, *options, "--folds", "1,4").stdout.splitlines() if line.startswith("job")]
    assert [line.split("GPUs ")[1].split(",")[0] for line in apart] == ["4", "7"]
    one = [line for line in said(five, *options).stdout.splitlines() if line.startswith("job")]
    assert [line.split("GPUs ")[1].split(",")[0] for line in one] == ["4", "7", "9", "4", "7"]
    two = [line for line in said(five, *options, "--gpus-per-fold", 2).stdout.splitlines() if line.startswith("job")]
    assert [line.split("GPUs ")[1].rpartition(",")[0] for line in two] == ["4, 7", "9, 4", "7, 9", "4, 7", "9, 4"]
    assert all("2 rank(s)" in line for line in two)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("--folds", "1-3"), RunError, "folds 1 to 2"),
        (("--folds", "one"), RunError, "must look like"),
        (("--cluster", "cloud"), RunError, "must be local or slurm"),
        (("--cluster", "local", "--gpus-per-fold", "1"), RunError, "shows 0 GPU"),
        (("--cluster", "local", "--nodes-per-fold", "2"), RunError, "has one node"),
        (("--cluster", "slurm", "--gpus-per-fold", "3", "--nodes-per-fold", "2"), RunError, "shared evenly"),
        (("--cluster", "slurm", "--time", "soon"), RunError, "must look like"),
        (("--resume",), RunError, "--resume needs --run"),
        (("--set", "data.store=nowhere.store"), ConfigError, r"data\.store: .*nowhere.store does not exist"),
        (("--set", "data.store=null"), ConfigError, "mmadfer prepare"),
        (("--set", "train.lr=fast"), ConfigError, r"train\.lr"),
        (("--set", "train.batch_size=13"), ConfigError, "set train.batch_size to 12 or less"),
        (("--set", "data.labels=[glad]"), ConfigError, "data.labels names glad: .*two labels"),
        (("--set", "data.labels=[glad, mad]"), ConfigError, "data.labels names mad, but .* has glad, "),
        (("--set", "data.folds=1000000000"), ConfigError, r"data\.folds: .*less than or equal to 1000"),
        (("--partition", "a\n#SBATCH --uid=0"), RunError, r"--partition 'a\\n#SBATCH.*one line"),
        (("--account", "a\x1b[2J"), RunError, "--account .*one line"),
        (("--qos", ""), RunError, "--qos '': .*not empty"),
        (("--run", "runs/%j", "--cluster", "local"), RunError, "must not have '%' in it"),
        (("--run", "a\\b", "--cluster", "local"), RunError, "must not have .* in it"),
        (("--run", "a\nb"), RunError, "one line of plain text"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(
    config: Path, tmp_path: Path, arguments: tuple[str, ...], error: type, words: str
) -> None:
    before = sorted(tmp_path.iterdir())
    shown = said(config, *(() if "--resume" in arguments else ("--run", tmp_path / "run")), *arguments)
    assert isinstance(shown.exception, error)
    with pytest.raises(error, match=words):
        raise shown.exception
    assert sorted(tmp_path.iterdir()) == before


def test_sbatch_files_take_paths_as_they_are(config: Path, tmp_path: Path) -> None:
    run = tmp_path / "my $HOME run"
    shown = said(config, "--run", run, "--cluster", "slurm", "--dry-run").stdout
    exports = [line for line in shown.splitlines() if line.startswith("export PYTHONPATH=")]
    assert exports == [f"export PYTHONPATH='{run}/code'"] * 2


def test_no_slurm_is_said_before_anything_is_made(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    shown = said(config, "--run", tmp_path / "run", "--cluster", "slurm")
    assert "there is no SLURM here" in str(shown.exception)
    assert not (tmp_path / "run").exists()


def test_times_are_read_as_slurm_reads_them() -> None:
    times = {"90": 90, "90:00": 90, "0:30": 1, "8:00:00": 480, "1-0": 1440, "1-12:30": 2190, "2-00:00:01": 2881}
    assert {text: plan.parse_time(text) for text in times} == times
    for wrong in ("", "0", "1:2:3:4", "-5", "1d"):
        with pytest.raises(RunError):
            plan.parse_time(wrong)


def test_the_launcher_imports_nothing_heavy() -> None:
    modules = "local, mmadfer.launch.slurm.submit, mmadfer.launch.estimate"
    code = f"import sys, mmadfer.launch.{modules}\n"
    code += (
        "print([name for name in ('torch', 'deepspeed', 'submitit', 'nvidia', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_runs_as_a_script(config: Path, tmp_path: Path) -> None:
    command = [sys.executable, FIVE_FOLD, str(config), "--dry-run", "--folds", "7"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ}, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --folds '7'")
    assert "Traceback" not in done.stderr


def test_a_run_whose_path_would_part_the_jobs_search_path_is_refused(config: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="must not have ':'"):
        raise said(config, "--run", tmp_path / "at 12:30", "--cluster", "local").exception
    assert not (tmp_path / "at 12:30").exists()


def test_without_submitit_no_run_is_made(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    shown = said(config, "--run", tmp_path / "run", "--cluster", "local")
    assert isinstance(shown.exception, MissingDependencyError)
    assert "needs submitit" in str(shown.exception)
    assert not (tmp_path / "run").exists()
