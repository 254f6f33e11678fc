"""Faults of the cluster itself, of one fold, and of a cancelled job: what is left is whole, and the rest goes on."""

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
    killed, alive, frozen = (faults.launch() for _ in range(3))
    for run in (killed, alive, frozen):
        run.past(6)
    alive.slow.set(step=3)  # it goes on training beside its replacement
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
    frozen.check(
        "slurmd killed, rank frozen in a save",
        "the same; thawed when the fold is finished, it writes nothing",
        SAVE_EVERY,
    )


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
