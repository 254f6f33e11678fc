"""Faults of jobs on a real SLURM: the fold goes on, and ends as if nothing had been."""

import json

from cluster import Cluster
from faulty import SAVE_EVERY, Faults, Run
from setting import events


def test_requeued_by_an_administrator(cluster: Cluster, faults: Faults) -> None:
    run = faults.launch()
    run.past(6)
    run.stall()
    run.hurt()
    cluster.requeue(run.job)
    run.again()
    run.finish()
    assert cluster.restarts(run.job) == 1
    assert run.watch.starts[1].since == run.saved
    run.check("scontrol requeue", "killed in the middle of a step after KillWait, queued again", SAVE_EVERY)


def test_time_limit(cluster: Cluster, faults: Faults) -> None:
    run, plain = faults.launch("--time", "10", ranks=2, step=1), faults.sbatch("--time=10", step=1)
    for one in (run, plain):
        one.past(4)
    for one in (run, plain):  # together, for SLURM looks at time limits every 30 s
        assert cluster.limit(one.job, minutes=2), "USR2 comes 120 s before the end"
    hurt, spared = set[Run](), set[Run]()

    def restarts_are_spared() -> bool:
        """Each has its old limit before it starts again, or SLURM's next look would stop that start, too."""
        for one in {run, plain} - hurt:
            if events(one.fold, "stop"):
                one.hurt()
                hurt.add(one)
        spared.update(one for one in hurt - spared if cluster.limit(one.job, minutes=10))
        return spared == {run, plain}

    run.until(restarts_are_spared, "the end of training", 120)
    for one in (run, plain):
        one.again()
        one.finish()
        assert cluster.restarts(one.job) == 1
    told = "USR2, saved together at the end of the step, queued itself again"
    run.check("time limit, two ranks", told, lost=0)
    plain.check("time limit, five_fold.sbatch", told, lost=0)


def test_preemption_with_grace(cluster: Cluster, faults: Faults) -> None:
    run = faults.launch(partition="preempt")
    run.past(6)
    run.hurt()
    other = cluster.preempt(run.job, grace=20, seconds=1)
    run.again()
    run.finish()
    assert cluster.restarts(run.job) == 1
    assert cluster.state(other) == "COMPLETED"
    run.check("preemption, grace 20 s", "USR2, saved at the end of the step, queued again", lost=0)


def test_preemption_without_grace(cluster: Cluster, faults: Faults) -> None:
    run = faults.launch(partition="preempt")
    run.past(6)
    run.stall_save()
    run.hurt()
    cluster.preempt(run.job, grace=0, seconds=1)
    run.again()
    run.finish()
    assert cluster.restarts(run.job) == 1
    assert run.watch.starts[1].since == run.saved
    run.check("preemption, grace 0", "killed in the middle of a save, queued again", SAVE_EVERY)


def test_one_rank_of_two_is_killed(cluster: Cluster, faults: Faults) -> None:
    runs = [faults.launch(ranks=2) for _ in range(2)]  # one loses its rank 0, which alone writes; one the other
    for run in runs:
        run.past(6)
    first = [run.job for run in runs]
    for rank, run in enumerate(runs):
        run.hurt()
        cluster.kill_task(run.job, rank)
    for rank, run in enumerate(runs):
        assert cluster.wait_for(run.job) == "FAILED"
        cluster.wait_for(run.jobs["report"], "FAILED")  # there is no finished fold to report on
        (fold, *_) = json.loads(run.mmadfer("launch", "status", str(run.folder), "--json"))["folds"]
        assert (fold["state"], fold["restarts"]) == ("failed", 0)
        assert ("task 0: Killed", "rank 0 has lost another rank")[rank] in fold["words"]
        run.mmadfer("launch", "resume", str(run.folder))
    for rank, run in enumerate(runs):
        run.again()
        run.finish()
        assert run.job not in first
        told = "the other one ended with it, FAILED; `launch resume` by hand"
        run.check(f"kill -9 of rank {rank} of two", told, SAVE_EVERY)


def test_plain_sbatch_is_preempted(cluster: Cluster, faults: Faults) -> None:
    run = faults.sbatch("--partition=preempt", ranks=2)
    run.past(6)
    run.hurt()
    cluster.preempt(run.job, grace=20, seconds=1)
    run.again()
    run.finish()
    assert cluster.restarts(run.job) == 1
    run.check("preemption, five_fold.sbatch, two ranks", "as under submitit", lost=0)
