"""Faults of jobs on a real SLURM: the fold goes on, and ends as if nothing had been."""

from cluster import Cluster
from faulty import SAVE_EVERY, Faults
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
    for one in (run, plain):  # together, for SLURM looks at time limits every 30 s
        one.past(4)
        cluster.run("scontrol", "update", f"jobid={one.job}", "timelimit=2")  # USR2 comes 120 s before the end
    for one in (run, plain):
        one.until(lambda one=one: events(one.fold, "stop"), "the end of training", 60)
        one.hurt()
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
    run = faults.launch(ranks=2)
    run.past(6)
    run.hurt()
    cluster.kill_task(run.job, rank=1)
    assert cluster.wait_for(run.job) == "FAILED"
    cluster.wait_for(run.jobs["report"], "FAILED")  # there is no finished fold to report on
    first = run.job
    run.mmadfer("launch", "resume", str(run.folder))
    run.again()
    run.finish()
    assert run.job != first
    run.check("kill -9 of one rank of two", "the other rank ended with it, FAILED; `launch resume` by hand", SAVE_EVERY)


def test_plain_sbatch_is_preempted(cluster: Cluster, faults: Faults) -> None:
    run = faults.sbatch("--partition=preempt", ranks=2)
    run.past(6)
    run.hurt()
    cluster.preempt(run.job, grace=20, seconds=1)
    run.again()
    run.finish()
    assert cluster.restarts(run.job) == 1
    run.check("preemption, five_fold.sbatch, two ranks", "as under submitit", lost=0)
