import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cluster as clusters
from cluster import NODES, Cluster
from processes import alive
from slow import Slow

Five = Callable[..., Path]


def daemons(cluster: Cluster) -> dict[str, str]:
    return {path.stem: path.read_text().strip() for path in (cluster.folder / "run").glob("*.pid")}


def test_up_again_changes_nothing(cluster: Cluster) -> None:
    before = daemons(cluster)
    assert set(before) == {"munged", "mariadb", "slurmdbd", "slurmctld", *(f"slurmd.{node}" for node in NODES)}
    assert cluster.up() == f"export SLURM_CONF={cluster.folder}/slurm.conf"
    assert daemons(cluster) == before


def test_a_step_spans_nodes(cluster: Cluster) -> None:
    names = cluster.run("srun", "-N2", "bash", "-c", "echo $SLURM_PROCID $SLURMD_NODENAME").splitlines()
    assert sorted(names) == [f"{rank} {NODES[rank]}" for rank in range(2)]


def test_a_job_sees_the_gpus_it_asked_for(cluster: Cluster) -> None:
    show = ("bash", "-c", "echo $CUDA_VISIBLE_DEVICES")
    assert cluster.run("srun", "--gpus-per-node=4", *show) == "0,1,2,3"
    assert cluster.run("srun", "--gpus-per-node=1", *show) in "0123"
    assert "not available" in cluster.attempt("srun", "--gpus-per-node=5", *show).stderr


def test_accounts_tell_how_a_job_ended(cluster: Cluster) -> None:
    good, bad = cluster.wrap("true"), cluster.wrap("exit 3")
    assert cluster.wait_for(good) == "COMPLETED"
    assert cluster.wait_for(bad) == "FAILED"
    cluster.until(lambda: cluster.accounts(bad, "State,ExitCode") == ["FAILED|3:0"], "the account of a failed job")
    assert cluster.accounts(good) == ["COMPLETED"]


def test_a_requeued_job_comes_back(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.wrap(f"echo $SLURM_RESTART_COUNT. >> {tmp_path}/starts; sleep 100", "--array=3", "--requeue") + "_3"
    cluster.wait_for(job, "RUNNING")
    cluster.until((tmp_path / "starts").exists, "the job's first words")
    cluster.requeue(job)
    cluster.wait_for_restart(job)
    cluster.until(lambda: len((tmp_path / "starts").read_text().split()) > 1, "the job's second words")
    assert (tmp_path / "starts").read_text().split() == [".", "1."]
    assert cluster.restarts(job) == 1


def test_a_preempted_job_is_told_and_is_queued_again(cluster: Cluster, tmp_path: Path) -> None:
    tell = (
        f"trap 'echo told >> {tmp_path}/said; exit 0' USR2; echo begun >> {tmp_path}/said; while sleep .1; do :; done"
    )
    script = tmp_path / "job.sh"
    script.write_text(f'#!/bin/bash\nsrun bash -c "{tell}"\nsleep 100\n')
    options = ("--partition=preempt", "--requeue", "--signal=USR2@60", "--time=10", "--output=/dev/null")
    job = cluster.submit(*options, str(script), cwd=tmp_path)
    cluster.until((tmp_path / "said").exists, "the task")
    other = cluster.preempt(job, grace=5)
    cluster.wait_for(job, "PENDING")
    cluster.wait_for(other, "RUNNING", "COMPLETED")
    assert (tmp_path / "said").read_text().split() == ["begun", "told"]
    assert cluster.restarts(job) == 1


def test_tasks_are_found_and_killed_alone(cluster: Cluster) -> None:
    job = cluster.wrap("srun sleep 100", "--nodes=2", "--ntasks-per-node=2")
    cluster.until(lambda: len(cluster.tasks(job)) == 4, "four ranks")
    assert [(task.task, task.node) for task in cluster.tasks(job)] == list(enumerate(sorted(NODES[:2] * 2)))
    killed = cluster.kill_task(job, rank=2)
    assert cluster.wait_for(job) == "FAILED"
    assert not killed.alive
    cluster.until(lambda: not cluster.processes(job), "the other ranks' end")


def test_a_lost_node_leaves_its_ranks_or_takes_them_along(cluster: Cluster) -> None:
    stays, goes = (cluster.wrap("srun sleep 100", "--nodelist", node, "--requeue") for node in NODES[:2])
    cluster.until(lambda: cluster.tasks(stays) and cluster.tasks(goes), "both jobs' ranks")
    left, gone = cluster.kill_node(NODES[0], tasks=False), cluster.kill_node(NODES[1])
    assert all(process.alive for process in left)
    cluster.until(lambda: not any(process.alive for process in gone), "the end of the node's processes", 5)
    cluster.restart()
    assert cluster.run("sinfo", "-h", "-p", "gpu", "-o", "%D", "-t", "idle,mix,alloc,comp") == "4"


def test_slurmctld_killed_after_its_state_is_on_disk_goes_on(cluster: Cluster) -> None:
    job = cluster.wrap("sleep 100")
    cluster.wait_for(job, "RUNNING")
    cluster.wait_for_saved_state()
    cluster.kill_slurmctld()
    cluster.restart()
    assert (cluster.state(job), cluster.restarts(job)) == ("RUNNING", 0)


def test_training_is_slowed_and_let_go(cluster: Cluster, five: Five, slow: Slow, tmp_path: Path) -> None:
    fold = tmp_path / "run" / "fold-1"
    command = [
        str(slow.python),
        "-m",
        "mmadfer",
        "train",
        str(five()),
        "--run",
        str(fold.parent),
        "--fold",
        "1",
    ]
    env = {**cluster.env, "OMP_NUM_THREADS": "1"}
    slow.set(step=1)
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    try:
        cluster.until(lambda: (fold / "metrics.jsonl").exists() or process.poll(), "the first step")
        begun = time.monotonic()
        cluster.until(lambda: (fold / "metrics.jsonl").read_text().count("\n") >= 3, "two more")
        assert time.monotonic() - begun > 1.5
        assert process.poll() is None
        slow.set()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    assert (fold / "result.json").exists()


def test_another_one_without_accounting_ends_when_its_tests_are_killed(cluster: Cluster) -> None:
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import cluster, time\n"
    code += "one = cluster.start(); print(one.wrap('srun sleep 100'), flush=True); time.sleep(100)"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "CLUSTER_ACCT": "0"}) as process:
        assert process.stdout
        assert process.stdout.readline() == b"1\n"
        one = Cluster(clusters.folder_of(process.pid), 0)
        one.until(lambda: one.tasks("1"), "the task")
        pids = [int(pid) for pid in daemons(one).values()] + [task.pid for task in one.tasks("1")]
        assert len(pids) == 7
        process.kill()
    one.until(lambda: not one.folder.exists(), "the watcher", 30)
    assert not any(map(alive, pids))
    assert all(alive(int(pid)) for pid in daemons(cluster).values())
