"""Faults of the cluster itself, of one fold, and of a cancelled job: what is left is whole, and the rest goes on."""

import shutil
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from cluster import Cluster, argv
from faulty import SAVE_EVERY, Faults, Run
from processes import Process, send

SAVING = 30.0
"""Seconds of a save that a fault comes in."""


def test_a_node_is_lost_with_its_ranks_or_leaves_them_behind(cluster: Cluster, faults: Faults) -> None:
    killed, alive, frozen = (faults.launch(step=1) for _ in range(3))
    for run in (killed, alive, frozen):
        run.past(5)
        run.slow.set(step=3)  # at this pace, the one that lives trains on beside its replacement
    killed.stall()
    _in_a_save(frozen)
    assert len({cluster.node(run.job) for run in (killed, alive, frozen)}) == 1
    for run in (killed, alive, frozen):
        run.hurt()
    left = cluster.kill_node(cluster.node(alive.job), tasks=False)
    _kill(process for process in left if process.job == killed.job)
    for task in (ranks := cluster.tasks(frozen.job)):
        task.signal(signal.SIGSTOP)
    lives, done = cluster.tasks(alive.job), alive.watch.now.step
    for run in (killed, frozen, alive):
        run.again()
    for run in (killed, alive, frozen):
        run.finish()
        assert cluster.restarts(run.job) == 1
        assert cluster.accounts(run.job)[0] == "NODE_FAIL"
    assert alive.watch.starts[0].step > done
    _ends_as_lost(alive, lives)
    before = _contents(frozen.fold)
    for task in ranks:
        task.signal(signal.SIGCONT)
    _ends_as_lost(frozen, ranks)
    assert _contents(frozen.fold) == before
    killed.check("slurmd and task killed", "NODE_FAIL, queued again, runs elsewhere", SAVE_EVERY)
    alive.check("slurmd alone killed", "the same; the old rank trains on beside it, is fenced, and ends", SAVE_EVERY)
    thawed = "the same; thawed when the fold is finished, it writes nothing"
    frozen.check("slurmd killed, rank frozen in a save", thawed, SAVE_EVERY)


def test_cancelled_in_a_save(cluster: Cluster, faults: Faults) -> None:
    run = faults.launch()
    run.past(6)
    _in_a_save(run)
    whole = _published(run.fold)
    run.hurt()
    run.mmadfer("launch", "cancel", str(run.folder))
    cluster.wait_for(run.job, "CANCELLED")
    assert _published(run.fold) == whole
    assert len(_half(run.fold)) == 1
    assert "cancelled" in run.mmadfer("launch", "status", str(run.folder))
    run.slow.set()
    run.mmadfer("launch", "resume", str(run.folder))
    run.again()
    run.finish()
    assert not _half(run.fold)
    run.check("scancel during a save", "killed after KillWait, `launch resume`; the half save is not taken")


def test_cancelled_after_the_signal_before_a_time_limit(cluster: Cluster, faults: Faults) -> None:
    run = faults.launch()
    run.past(6)
    run.stall(4)  # shorter than KillWait: it hears both signals in one step, and would answer by queueing itself again
    cluster.run("scancel", "--signal=USR2", run.job)
    run.mmadfer("launch", "cancel", str(run.folder))
    cluster.wait_for(run.job, "CANCELLED")
    cluster.until(lambda: not cluster.tasks(run.job), "the end of its rank")
    time.sleep(3)  # for SLURM to queue it again
    assert cluster.state(run.job) == "CANCELLED"
    assert cluster.restarts(run.job) == 0


def test_one_fold_fails_for_good_and_slurmctld_is_killed(cluster: Cluster, faults: Faults) -> None:
    run = faults.launch(folds="1-5", step=1)
    _spoil(run.folder / "fold-3")
    run.past(5)
    cluster.wait_for(run.jobs["fold 3"], "FAILED")
    cluster.wait_for_saved_state()
    tasks, done = cluster.tasks(run.job), run.watch.now.step
    assert len(tasks) == 1
    cluster.kill_slurmctld()
    told = run.mmadfer("launch", "status", str(run.folder))
    assert "SLURM does not answer" in told
    assert "Go on with" not in told
    run.until(lambda: run.watch.now.step > done, "a step without slurmctld")
    cluster.restart()
    assert cluster.tasks(run.job) == tasks
    run.slow.set()
    run.finish()
    assert (cluster.restarts(run.job), run.watch.twice) == (0, 0)
    run.seconds = 0.0
    run.check("slurmctld killed, its state on disk", "the folds train on, and report after it is back", lost=0)
    _four_of_five(run)
    shutil.rmtree(run.folder / "fold-3" / "checkpoints")
    run.mmadfer("launch", "resume", str(run.folder))
    assert set(run.jobs) == {"fold 3", "report"}
    run.finish()
    assert {fold["state"] for fold in run.report().values()} == {"finished"}
    run.bench.row("one fold of five fails", "the report has four and names it; mended and resumed, five", "", "0")


def _spoil(fold: Path) -> None:
    """A checkpoint of which nothing can be read, and no other."""
    checkpoint = fold / "checkpoints" / "step-00000004"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").write_text("{")


def _four_of_five(run: Run) -> None:
    """Report and status give the four, and name the third with the cause."""
    states = {number: fold["state"] for number, fold in run.report().items()}
    assert states == {1: "finished", 2: "finished", 3: "failed", 4: "finished", 5: "finished"}
    cause = f"no checkpoint in {run.folder / 'fold-3' / 'checkpoints'} is whole"
    assert cause in run.report()[3]["note"]
    told = run.mmadfer("launch", "status", str(run.folder))
    assert f"fold 3: {cause}" in told
    assert told.count("finished") == 4
    assert "Go on with: mmadfer launch resume" in told


def test_slurmctld_forgets_what_is_young(cluster: Cluster, faults: Faults) -> None:
    saved = cluster.folder / "state" / "job_state"
    # after 5 s of quiet slurmctld saves the array as soon as it has it, still waiting; and not again for 5 s
    cluster.until(lambda: not saved.exists() or _age(saved) > 6, "quiet")
    run = faults.launch(folds="1-2")
    cluster.wait_for(run.job, "RUNNING")
    time.sleep(3)
    begun = time.monotonic()
    cluster.kill_slurmctld()
    cluster.restart()
    run.slow.set()
    folds = [run.jobs[f"fold {fold}"] for fold in (1, 2)]
    cluster.until(lambda: all(_left_alone(cluster, job) for job in folds), "both folds")
    told = run.mmadfer("launch", "status", str(run.folder))
    known = cluster.run("squeue", "-h", "-r", "-t", "all", "-o", "%i").split()
    assert ("report  gone (SLURM knows no job" in told) == (run.jobs["report"] not in known)
    assert told.count("scontrol release") == sum("held" in _queued(cluster, job) for job in folds)
    run.mmadfer("launch", "cancel", str(run.folder))
    run.mmadfer("launch", "resume", str(run.folder))
    run.until(lambda: run.watch.now.trained, "the first step")
    run.until((run.folder / "report" / "report.json").exists, "the report")
    assert all(run.report()[fold]["state"] == "finished" for fold in (1, 2))
    run.seconds = (run.watch.now.trained or 0) - begun
    outcome = "jobs forgotten, held or begun anew: `launch cancel`, `launch resume`"
    run.check("slurmctld killed 3 s into a job", outcome, SAVE_EVERY)


def _left_alone(cluster: Cluster, job: str) -> bool:
    """Whether SLURM has ended or held a job, or forgotten it and ended its orphans."""
    said = _queued(cluster, job)
    return "COMPLETED" in said or ("PENDING" in said and "held" in said) or not (said or cluster.processes(job))


def _queued(cluster: Cluster, job: str) -> str:
    """State and reason; empty where slurmctld does not know the job."""
    return cluster.run("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%T %r", check=False)


def _in_a_save(run: Run) -> None:
    """Return once a save has begun that takes long."""
    run.slow.set(step=0.3, save=SAVING)
    run.until(lambda: any(_age(path) > 2 for path in _half(run.fold)), "a save")


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:  # of a save that was quick
        return 0.0


def _half(fold: Path) -> list[Path]:
    return list((fold / "checkpoints").glob("*.tmp"))


def _published(fold: Path) -> list[str]:
    return sorted(path.name for path in (fold / "checkpoints").iterdir() if not path.suffix)


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _kill(processes: Iterable[Process]) -> None:
    """With the slurmstepd above them, first: no last words."""
    inside = list(processes)
    for parent in {process.parent for process in inside if argv(process.parent).startswith("slurmstepd")}:
        send(parent, signal.SIGKILL)
    for process in inside:
        process.signal()


def _ends_as_lost(run: Run, ranks: list[Process]) -> None:
    run.until(lambda: not any(task.alive for task in ranks), "the end of the ranks left behind", 30)
    assert "LostError" in run.logs()
