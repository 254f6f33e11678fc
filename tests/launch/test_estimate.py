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

from mmadfer.config import Config, PrepareConfig, parse
from mmadfer.data.store import Header, Store, write
from mmadfer.errors import RunError
from mmadfer.launch import estimate, extrapolate
from mmadfer.launch.plan import Resources
from mmadfer.train.measured import Measured, Size, read

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
GB = 10**9

MEASURED = Measured(
    at="2000-01-01T00:00:00+00:00",
    processor="an abacus",
    compiled=True,
    fold=1,
    ranks=2,
    sizes=[Size(1, 100, 51), Size(3, 90, 60)],
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
    found = extrapolate.cost(MEASURED, config(), RESOURCES, export=True)
    assert found.seconds == pytest.approx({1: FIRST, 3: THIRD})
    assert found.wall == pytest.approx(FIRST)
    assert found.hours == pytest.approx(2 * (FIRST + THIRD) / 3600)
    assert found.checkpoints == 2 * 3 * 90_000_000
    assert found.exports == 2 * 700_000_000
    alone = extrapolate.cost(MEASURED, config(), replace(RESOURCES, gpus=0, parallel=1), export=False)
    assert alone.wall == pytest.approx(FIRST + THIRD)
    assert alone.hours == pytest.approx(8 * (FIRST + THIRD) / 3600)
    assert alone.exports == 0


def test_the_clips_of_a_test_fill_whole_batches_where_they_are_more_than_one() -> None:
    assert [extrapolate.tested(clips, 2, 8) for clips in (1, 15, 16, 17, 32, 33)] == [1, 8, 8, 16, 16, 24]


@pytest.mark.parametrize(("steps", "every", "epochs"), [(100, 300, 10), (90, 300, 10), (7, 3, 5), (5, 1, 2), (4, 8, 6)])
def test_checkpoints_are_counted_as_training_saves_them(steps: int, every: int, epochs: int) -> None:
    saved = [n for n in range(1, epochs * steps + 1) if n % steps == 0 or n % every == 0]
    assert extrapolate.saves(config(epochs=epochs, save_every=every).train, steps) == len(saved)


def test_folds_take_the_places_that_become_free() -> None:
    assert extrapolate.wall([5, 3, 4, 1], 2) == 7  # 5+1 here, 3+4 there
    assert extrapolate.wall([5, 3], 9) == 5


def test_what_would_go_wrong_is_said() -> None:
    def told(resources: Resources = RESOURCES, free: int = 10 * GB, **measured: object) -> str:
        return extrapolate.describe(replace(MEASURED, **measured), config(), resources, True, free)

    assert "WARNING" not in told()
    assert "60.0 GB of 80.0 GB on each" in told()
    assert "GPU hours" in told()
    assert "0.5 s (10th to 90th percentile 0.4 s to 0.7 s), 16.0 clips/s, 25% of it waiting for data" in told()
    assert "the GPU's memory is 95% full: raise train.accumulate" in told(gpu=76 * GB)
    assert "training takes 64.0 GB of 64.0 GB of main memory" in told(host=32 * GB)
    assert "the disk has only 1.0 GB of 1.9 GB: make room" in told(free=GB)
    assert "fold 1, 3: longer than --time 0:02:00; training saves before the limit, is started again" in told(
        replace(RESOURCES, minutes=2)
    )
    assert "20 more starts are not enough with --time 60 s" in told(replace(RESOURCES, minutes=1), step=2.0)
    here = replace(RESOURCES, cluster="local", parallel=4)
    assert "64.0 GB of 64.0 GB on each node, 4 folds at a time" in told(here)


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
@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("train.batch_size=100", "leaves 12 training clips, which do not fill one batch"),
        ("train.seed=2", "3 steps in a row had a loss or a gradient that is not finite"),
    ],
)
def test_a_measurement_that_fails_says_why(config: Path, store: Path, tmp_path: Path, key: str, reason: str) -> None:
    deaf, silence = tmp_path / "deaf.store", np.full((512, 128), np.nan, np.float32)
    with Store(store) as whole:
        clips = [(clip, replace(whole.read(name), fbank=silence)) for name, clip in whole.clips.items()]
        write(deaf, Header("tiny", whole.labels, PrepareConfig(face_size=32)), clips)
    before = sorted(tmp_path.iterdir())
    given = ("--set", f"data.store={deaf}", "--set", key)
    begun = start(config, tmp_path / "run", "--estimate", *given)
    text, _ = begun.communicate(timeout=120)
    assert begun.returncode == 2, text
    assert "error: the measurement has ended (failed): " in text
    assert reason in text
    assert "Traceback" not in text
    assert sorted(tmp_path.iterdir()) == before


@linux
def test_an_interrupt_ends_the_measurement(config: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    begun = start(config, tmp_path / "run", "--estimate")
    end = time.monotonic() + 60
    while not list(tmp_path.glob(".estimate-*/fold-1/checkpoints")) and time.monotonic() < end:
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
    monkeypatch.setattr(estimate, "PATIENCE", 0)
    commands.make("squeue", "11|PENDING|PartitionTimeLimit||1:00:00|0|")
    with pytest.raises(RunError, match="SLURM cannot start the measurement: PartitionTimeLimit"):
        raise said(config, *options).exception
    assert commands.calls("scancel") == [" 11"]
    commands.refuse_after(0)
    with pytest.raises(RunError, match="QOSMaxSubmitJobPerUserLimit"):
        raise said(config, *options).exception
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("other", ["--dry-run", "--resume"])
def test_what_starts_no_job_or_goes_on_is_not_estimated(config: Path, tmp_path: Path, other: str) -> None:
    shown = said(config, "--run", tmp_path / "run", "--cluster", "local", "--estimate", other)
    with pytest.raises(RunError, match="measures a new run"):
        raise shown.exception
    assert not (tmp_path / "run").exists()
