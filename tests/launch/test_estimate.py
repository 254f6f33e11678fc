"""`--estimate`: real measurements on this machine, and the arithmetic behind them against numbers made by hand."""

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from launch_setup import Commands, said, start

from mmadfer.config.schema import Config, PrepareConfig, parse
from mmadfer.data.store.store import Header, Store, write_store
from mmadfer.errors import RunError, TrainingError
from mmadfer.launch import estimate, extrapolate
from mmadfer.launch.plan import places
from mmadfer.launch.resources import Resources
from mmadfer.run.directory import mark_failed
from mmadfer.run.measurement import EpochSize, Measured, read
from mmadfer.utils.cores import granted

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
GB = 10**9
INF = float("inf")

MEASURED = Measured(
    at="2000-01-01T00:00:00+00:00",
    processor="an abacus",
    compiled=True,
    fold=1,
    ranks=2,
    sizes=[EpochSize(1, 100, 51), EpochSize(3, 90, 60)],
    steps=20,
    rounds=1,
    start=30.0,
    step=0.5,
    low=0.4,
    high=0.7,
    waiting=0.25,
    clip=0.1,
    save=2.0,
    checkpoint=90_000_000,
    weights=700_000_000,
    gpu=60 * GB,
    gpu_total=80 * GB,
    host=8 * GB,
    host_total=64 * GB,
)
RESOURCES = Resources(cluster="slurm", gpus=2, nodes=1, cpus=8, parallel=2, minutes=60)
# 10 epochs; a rank tests 26 or 30 clips twice, in 4 batches of 8. Of the steps 300, 600 and 900, all end an epoch of
# 100 steps, so there are 10 checkpoints; of 90 steps only 900 ends one, so there are 12.
FIRST = 30 + 10 * (100 * 0.5 + 32 * 2 * 0.1) + 10 * 2
THIRD = 30 + 10 * (90 * 0.5 + 32 * 2 * 0.1) + 12 * 2


def config(**train: object) -> Config:
    tree = {"epochs": 10, "batch_size": 8, "save_every": 300, "keep": 2, **train}
    return parse({"name": "made", "data": {"folds": 5, "test_clips": 2}, "train": tree}, "the test")


def test_whole_folds_follow_from_the_measured_steps() -> None:
    found = extrapolate.cost(MEASURED, config(), RESOURCES, export=True, places=INF)
    assert found.seconds == pytest.approx({1: FIRST, 3: THIRD})
    assert found.starts == {1: 1, 3: 1}
    assert found.wall == pytest.approx(FIRST)
    assert found.hours == pytest.approx(2 * (FIRST + THIRD) / 3600)
    assert found.checkpoints == 2 * 3 * 90_000_000
    assert found.exports == 2 * 700_000_000
    alone = extrapolate.cost(MEASURED, config(), replace(RESOURCES, gpus=0, parallel=1), export=False, places=INF)
    assert alone.wall == pytest.approx(FIRST + THIRD)
    assert alone.hours == pytest.approx(8 * (FIRST + THIRD) / 3600)
    assert alone.exports == 0


def test_the_clips_of_a_test_fill_whole_batches_where_they_are_more_than_one() -> None:
    assert [extrapolate.tested_clips_per_rank(clips, 2, 8) for clips in (1, 15, 16, 17, 32, 33)] == [
        1,
        8,
        8,
        16,
        16,
        24,
    ]


@pytest.mark.parametrize(("steps", "every", "epochs"), [(100, 300, 10), (90, 300, 10), (7, 3, 5), (5, 1, 2), (4, 8, 6)])
def test_checkpoints_are_counted_as_training_saves_them(steps: int, every: int, epochs: int) -> None:
    saved = [n for n in range(1, epochs * steps + 1) if n % steps == 0 or n % every == 0]
    assert extrapolate.saves(config(epochs=epochs, save_every=every).train, steps) == len(saved)


def test_folds_take_the_places_that_become_free() -> None:
    assert extrapolate.wall([5, 3, 4, 1], 2, INF) == 7  # 5+1 here, 3+4 there
    assert extrapolate.wall([5, 3], 9, INF) == 5


def test_folds_that_share_gpus_or_cores_are_not_faster_than_these(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7,9")
    here = replace(RESOURCES, cluster="local", parallel=2)
    assert places(RESOURCES) == INF
    assert places(here) == 1.5  # of two GPUs each
    assert places(replace(here, gpus=1)) == 3
    assert places(replace(here, gpus=0, cpus=1)) == max(1, granted())
    assert places(replace(here, gpus=0, cpus=1000)) == 1  # what one takes was measured
    assert extrapolate.wall([5, 5, 5], 3, 1.5) == 10
    assert extrapolate.gpu_memory(MEASURED, here, 1.5) == 2 * MEASURED.gpu  # one of the three has both
    assert extrapolate.gpu_memory(MEASURED, RESOURCES, INF) == MEASURED.gpu


def test_a_fold_that_is_stopped_before_its_time_limit_starts_anew() -> None:
    # 614 s in one go; of each start SLURM's signal leaves all but 120 + 60 s, and 30 s are its start
    def seconds(minutes: int, **other: object) -> tuple[float, int]:
        wanted = replace(RESOURCES, minutes=minutes, **other)
        found = extrapolate.cost(MEASURED, config(), wanted, export=False, places=INF)
        return found.seconds[1], found.starts[1]

    again = 30 + 2
    assert seconds(14) == pytest.approx((FIRST, 1))
    assert seconds(13) == pytest.approx((FIRST + again, 2))
    assert seconds(13, cluster="local") == pytest.approx((FIRST, 1))
    assert seconds(5) == pytest.approx((FIRST + 6 * again, 7))  # 584 s in pieces of 90 s
    assert seconds(5, cluster="local") == pytest.approx((FIRST + 3 * again, 4))
    assert seconds(4) == pytest.approx((FIRST + 19 * again, 20))
    assert seconds(4, cluster="local")[1] == 0
    assert seconds(3)[1] == seconds(1)[1] == 0


def test_what_would_go_wrong_is_said() -> None:
    def told(resources: Resources = RESOURCES, free: int = 10 * GB, **measured: object) -> str:
        room = places(resources)
        return extrapolate.describe_estimate(replace(MEASURED, **measured), config(), resources, True, free, room)

    assert "WARNING" not in told()
    assert "60.0 GB of 80.0 GB on each" in told()
    assert "GPU hours" in told()
    assert "0.5 s (10th to 90th percentile 0.4 s to 0.7 s), 16.0 clips/s, 25% of it waiting for data" in told()
    assert "the GPU's memory is 95% full: raise train.accumulate" in told(gpu=76 * GB)
    assert "training takes 64.0 GB of 64.0 GB of main memory" in told(host=32 * GB)
    assert "the disk has only 1.0 GB of 1.9 GB: make room" in told(free=GB)
    assert "fold 1: --time 0:13:00 takes 2 starts; training saves 120 s before" in told(replace(RESOURCES, minutes=13))
    short, words = replace(RESOURCES, minutes=3), "no time for steps, and 21 starts are not enough: give at least"
    assert f"fold 1, 3: --time 0:03:00 leaves each start {words} 0:04:00" in told(short)
    assert f"{words} 0:07:00" in told(short, step=2.0, start=90.0)
    assert "WARNING" not in told(replace(RESOURCES, minutes=14), save=0.1)
    assert "a step and a checkpoint take 0:02:01" in told(replace(RESOURCES, minutes=20), save=120.5)
    here = replace(RESOURCES, gpus=0, cluster="local", parallel=1000, cpus=1)
    assert "of 64.0 GB on each node, 1000 folds at a time" in told(here)
    assert f"from first to last with 1000 fold(s) at a time, on CPU cores for {granted()}\n" in told(here)
    assert "WARNING: training takes 8.0 TB of 64.0 GB of main memory: lower --array-parallelism" in told(here)
    assert "1,234 CPU core hours" in told(replace(here, parallel=1), start=2_221_000.0)


def test_what_was_measured_is_read_back(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    MEASURED.write(tmp_path)
    assert read(tmp_path) == MEASURED


@linux
def test_an_estimate_here_leaves_nothing_behind(config: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    begun = start(config, tmp_path / "new" / "runs" / "run", "--estimate", "--cpus-per-fold", "1", "--export")
    text, _ = begun.communicate(timeout=120)
    assert begun.returncode == 0, text
    assert text.startswith("measuring on this machine; ctrl-C ends it\n")
    assert "20 steps of fold 1 (8 rounds of its few clips)" in text
    assert "1 rank(s) with 1 CPU thread(s) each" in text
    rows = [line.split()[:3] for line in text.splitlines() if line.split()[:1] in (["1"], ["2"])]
    assert ["1", "3", "12"] in rows
    assert ["2", "3", "12"] in rows
    assert "2 epochs of 2 fold(s)" in text
    assert "for exported models" in text
    assert sorted(tmp_path.iterdir()) == before


@linux
def test_a_measurement_that_fails_says_why(config: Path, store: Path, tmp_path: Path) -> None:
    deaf, silence = tmp_path / "deaf.store", np.full((512, 128), np.nan, np.float32)
    with Store(store) as whole:
        clips = [(clip, replace(whole.read(name), fbank=silence)) for name, clip in whole.clips.items()]
        write_store(deaf, Header("tiny", whole.labels, PrepareConfig(face_size=32)), clips)
    before = sorted(tmp_path.iterdir())
    begun = start(config, tmp_path / "run", "--estimate", "--set", f"data.store={deaf}")
    text, _ = begun.communicate(timeout=120)
    assert begun.returncode == 2, text
    assert "error: the measurement has ended (failed): " in text
    assert "3 steps in a row had a loss or a gradient that is not finite" in text
    assert "Traceback" not in text
    assert sorted(tmp_path.iterdir()) == before


@linux
def test_an_interrupt_ends_the_measurement(config: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    sizes = ("joint.width=2048", "temporal.mlp_width=8192", "temporal.depth=2")  # ten seconds of steps
    begun = start(config, tmp_path / "run", "--estimate", *(f"--set=model.{size}" for size in sizes))
    end = time.monotonic() + 60
    while not list(tmp_path.glob(".estimate-*/fold-1/checkpoints")):
        if time.monotonic() > end or begun.poll() is not None:
            os.killpg(begun.pid, signal.SIGKILL)
            pytest.fail(f"no checkpoint was measured: {begun.communicate()[0]}")
        time.sleep(0.05)
    (log,) = tmp_path.glob(".estimate-*/jobs/*_0_log.out")
    os.killpg(begun.pid, signal.SIGINT)
    text, _ = begun.communicate(timeout=60)
    assert begun.returncode == 130, text
    assert "Traceback" not in text
    assert not Path("/proc", log.name.partition("_")[0]).exists()
    assert sorted(tmp_path.iterdir()) == before


def test_slurm_that_refuses_or_cannot_start_the_job_leaves_nothing(
    config: Path, tmp_path: Path, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, options = sorted(tmp_path.iterdir()), ("--run", tmp_path / "run", "--cluster", "slurm", "--estimate")
    monkeypatch.setattr(estimate, "SETTLE_SECONDS", 0)
    commands.make("squeue", "11|PENDING|PartitionTimeLimit||1:00:00|0|")
    with pytest.raises(RunError, match="SLURM cannot start the measurement: PartitionTimeLimit"):
        raise said(config, *options).exception
    assert commands.calls("scancel") == [" 11"]
    (script,) = commands.scripts()
    assert "#SBATCH --time=30\n" in script  # not the fold's day: a short job waits less
    assert "#SBATCH --job-name=tiny-estimate\n" in script
    commands.refuse_after(0)
    with pytest.raises(RunError, match="QOSMaxSubmitJobPerUserLimit"):
        raise said(config, *options).exception
    assert sorted(tmp_path.iterdir()) == before


def test_a_cancelled_measurement_waits_for_no_slurm_that_is_silent(commands: Commands) -> None:
    commands.make("squeue", "slurm_load_jobs error: Unable to contact slurm controller", code=1, stderr=True)
    estimate._cancel("11")
    assert commands.calls("scancel") == [" 11"]


def test_what_is_waited_for_is_not_among_the_results(capfd: pytest.CaptureFixture[str]) -> None:
    with estimate._waiting() as say:
        say("measuring")
        say("measuring")
    assert capfd.readouterr() == ("", "measuring\n")


def test_the_rank_that_failed_first_is_heard(tmp_path: Path) -> None:
    def leave(rank: int, text: str, end: str = "err") -> None:
        (tmp_path / "jobs").mkdir(exist_ok=True)
        (tmp_path / "jobs" / f"11_{rank}_log.{end}").write_text(text)

    fold, lost = tmp_path / "fold-1", "rank {} has lost another rank (Connection reset); that rank's log says why. More"
    assert estimate._reason(tmp_path, 1) == "it wrote nothing"
    mark_failed(fold, TrainingError(lost.format(0)), None)
    assert estimate._reason(tmp_path, 1) == lost.format(0)
    for rank in (0, 1, 3):
        leave(rank, f"a warning\nTraceback ...\nmmadfer.errors.TrainingError: {lost.format(rank)}\n")
    for rank in (2, 10):
        leave(rank, "Traceback ...\nMemoryError: no more\n")
    leave(4, "")
    leave(4, "killed\n", end="out")
    said = ["the end of rank 2's log is\nTraceback ...\nMemoryError: no more", "the end of rank 4's log is\nkilled"]
    assert estimate._reason(tmp_path, 1) == "\n".join(said)
    for rank in range(20, 30):
        leave(rank, f"words of {rank}")
    assert estimate._reason(tmp_path, 1).count("the end of rank") == 3
    mark_failed(fold, TrainingError("the loss is not finite"), None)
    assert estimate._reason(tmp_path, 1) == "the loss is not finite"


@pytest.mark.parametrize("other", ["--dry-run", "--resume"])
def test_what_starts_no_job_or_goes_on_is_not_estimated(config: Path, tmp_path: Path, other: str) -> None:
    shown = said(config, "--run", tmp_path / "run", "--cluster", "local", "--estimate", other)
    with pytest.raises(RunError, match="measures a new run"):
        raise shown.exception
    assert not (tmp_path / "run").exists()
