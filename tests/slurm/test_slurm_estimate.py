"""`--estimate` on a real SLURM: measured by all ranks of a fold on its nodes, and nothing is left."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from cluster import Cluster

from mmadfer.config.schema import load
from mmadfer.data.loading.loader import batches
from mmadfer.data.store.store import ClipRecord, Store, write_store

COMMAND = (sys.executable, "-m", "mmadfer", "launch")
SIZE = ("--cluster", "slurm", "--gpus-per-fold", "0", "--nodes-per-fold", "2", "--cpus-per-fold", "2", "--time", "90")


def test_two_ranks_on_two_nodes(cluster: Cluster, five: Callable[..., Path], tmp_path: Path) -> None:
    config = five(epochs=3)
    before = sorted(tmp_path.iterdir())
    done = cluster.attempt(*COMMAND, str(config), "--run", str(tmp_path / "run"), "--estimate", *SIZE, timeout=120)
    text = done.stdout
    assert done.returncode == 0, text + done.stderr
    assert "measuring in SLURM job" in done.stderr
    assert text.startswith("tiny: measured at ")
    assert "2 rank(s) with 1 CPU thread(s) each" in text
    assert "3 epochs of 5 fold(s)" in text
    assert "CPU core hours" in text
    assert "Not in it: time in the queue" in text
    assert sorted(tmp_path.iterdir()) == before
    assert not cluster.run("squeue", "-h")


def test_an_interrupt_cancels_the_job(cluster: Cluster, five: Callable[..., Path], tmp_path: Path) -> None:
    config = five()
    before = sorted(tmp_path.iterdir())
    begun, job = begin(cluster, config, tmp_path / "run")
    assert cluster.run("squeue", "-h", "-o", "%l") == "1:00:00"
    os.kill(begun.pid, signal.SIGTERM)
    text, _ = begun.communicate(timeout=60)
    assert begun.returncode == 130, text
    assert cluster.wait_for(job) == "CANCELLED"
    assert sorted(tmp_path.iterdir()) == before


def test_a_job_that_others_end_is_told(cluster: Cluster, five: Callable[..., Path], tmp_path: Path) -> None:
    config = five()
    before = sorted(tmp_path.iterdir())
    begun, job = begin(cluster, config, tmp_path / "run")
    cluster.until(lambda: len(cluster.tasks(job)) == 2, "both ranks")
    cluster.kill_task(job, rank=1)
    text, _ = begun.communicate(timeout=60)
    assert begun.returncode == 2, text
    assert "error: the measurement has ended (FAILED): " in text
    assert sorted(tmp_path.iterdir()) == before


def test_the_rank_that_failed_is_heard(
    cluster: Cluster, five: Callable[..., Path], store: Path, tmp_path: Path
) -> None:
    config = five()
    with Store(store) as whole:
        ((victim, *_), *_), *_ = batches(load(str(config), ()), whole, 1, 0, rank=1, world=2)
        clips = [(clip, whole.read(name)) for name, clip in whole.clips.items()]
        torn = [
            (clip, ClipRecord([b"torn"] * len(data.jpegs), data.fbank) if clip.id == victim else data)
            for clip, data in clips
        ]
        write_store(tmp_path / "torn.store", whole.header, torn)
    words = [*COMMAND, str(config), "--run", str(tmp_path / "run"), "--set", f"data.store={tmp_path / 'torn.store'}"]
    done = cluster.attempt(*words, "--estimate", *SIZE, timeout=120)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "the end of rank 1's log is" in done.stderr
    assert "mmadfer.errors.DataError" in done.stderr
    assert f"frames that cannot be decoded, of {victim}" in done.stderr


def begin(cluster: Cluster, config: Path, run: Path) -> "tuple[subprocess.Popen[str], str]":
    """A launcher that measures, and its job, which runs."""
    words = [*COMMAND, str(config), "--run", str(run), "--estimate", *SIZE]
    begun = subprocess.Popen(words, env=cluster.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    cluster.until(lambda: cluster.run("squeue", "-h", "-t", "running", "-o", "%i"), "the measurement's job")
    return begun, cluster.run("squeue", "-h", "-o", "%i")
