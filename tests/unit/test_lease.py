"""One process at a time has a fold, whatever has become of the one before; real processes throughout."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mmadfer.errors import RunError
from mmadfer.run import directory as runs
from mmadfer.run.lease import STALE, LostError, holder, lease, left_to_later_start
from mmadfer.run.lock import BusyError
from mmadfer.run.owner import Owner, this_process
from mmadfer.utils.slurm_env import hosts, ranks

KEEP = """
import sys, time
from pathlib import Path
from mmadfer.run.lease import lease
from mmadfer.errors import RunError
folder, wait, together = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
while time.time() < together: pass
try:
    with lease(folder, wait) as held:
        print("has it", flush=True)
        for line in sys.stdin:
            try:
                held.write_text(folder / "result.json", line)
                print("wrote", flush=True)
            except Exception as error:
                print(type(error).__name__, flush=True)
except RunError as error:
    print(type(error).__name__, error, flush=True)
"""
SLURM = ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_CLUSTER_NAME")


def start(folder: Path, wait: float = 0, together: float = 0, **job: str) -> "subprocess.Popen[str]":
    """A process that takes the lease, says so, and then writes each line that it is sent."""
    env = {name: value for name, value in os.environ.items() if name not in SLURM} | job
    words = [sys.executable, "-c", KEEP, str(folder), str(wait), str(together)]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, env=env, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)


def job(number: int, restart: int = 0, task: int = 3) -> dict[str, str]:
    """SLURM's variables of a start of an array's task."""
    array = {"SLURM_ARRAY_JOB_ID": str(number), "SLURM_ARRAY_TASK_ID": str(task), "SLURM_JOB_ID": str(number + task)}
    return array | ({"SLURM_RESTART_COUNT": str(restart)} if restart else {})


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ask(process: "subprocess.Popen[str]", line: str) -> str:
    """Have it write a line; what it says of that."""
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()
    return said(process)


def leave(folder: Path, **changes: object) -> Owner:
    """A lease that another machine has left behind."""
    away = {"host": "elsewhere", "boot": "another", "pid": 1, "born": "1", "cluster": "", "job": ""}
    owner = replace(this_process(), **(away | changes))
    (folder / ".lease-7").write_text(json.dumps(asdict(owner)))
    return owner


def old(path: Path) -> None:
    then = time.time() - STALE - 5
    os.utime(path, (then, then))


def test_a_later_start_of_the_job_takes_over_and_the_earlier_one_writes_nothing(tmp_path: Path) -> None:
    earlier = start(tmp_path, **job(12))
    assert said(earlier) == "has it"
    assert ask(earlier, "one") == "wrote"
    earlier.send_signal(signal.SIGSTOP)
    later = start(tmp_path, **job(12, restart=1))
    assert said(later) == "has it"
    assert ask(later, "two") == "wrote"
    earlier.send_signal(signal.SIGCONT)
    assert ask(earlier, "three") == "LostError"
    assert ask(later, "four") == "wrote"
    earlier.communicate(timeout=30)
    owner = holder(tmp_path)
    assert owner is not None
    assert (owner.job, owner.restart, owner.pid) == ("12_3", 1, later.pid), "the earlier one's end changes nothing"
    later.communicate(timeout=30)
    assert holder(tmp_path) is None
    assert {path.name for path in tmp_path.iterdir()} == {".lease-2.free", "result.json"}
    assert (tmp_path / "result.json").read_text() == "four\n"


def test_an_earlier_start_that_comes_late_is_refused(tmp_path: Path) -> None:
    later = start(tmp_path, **job(12, restart=2))
    assert said(later) == "has it"
    assert said(start(tmp_path, wait=60, **job(12, restart=1))).startswith("LostError")
    later.communicate(timeout=30)


@pytest.mark.parametrize("other", [{}, job(13), job(12, task=4), {**job(12), "SLURM_CLUSTER_NAME": "b"}])
def test_a_living_owner_is_waited_for_and_then_refuses(tmp_path: Path, other: dict[str, str]) -> None:
    owner = start(tmp_path, **job(12))
    assert said(owner) == "has it"
    begun = time.monotonic()
    restarted = {**other, "SLURM_RESTART_COUNT": "1"}
    refused = said(start(tmp_path, wait=1.5, **restarted))
    assert time.monotonic() - begun > 1.5
    assert refused.startswith("BusyError")
    assert f"job 12_3, start 1, process {owner.pid} on " in refused
    waiting = start(tmp_path, wait=30, **restarted)
    time.sleep(0.3)
    owner.communicate(timeout=30)
    assert said(waiting) == "has it"
    waiting.communicate(timeout=30)


def test_what_was_killed_here_is_taken_over_at_once(tmp_path: Path) -> None:
    owner = start(tmp_path)
    assert said(owner) == "has it"
    owner.kill()
    os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
    with lease(tmp_path, wait=0):
        pass
    owner.communicate(timeout=30)


def test_another_process_of_the_same_number_is_not_the_owner(tmp_path: Path) -> None:
    me = this_process()
    leave(tmp_path, boot=me.boot, pid=me.pid, born="1")
    assert holder(tmp_path) is None
    with lease(tmp_path, wait=0) as held:
        held.check()
    leave(tmp_path, boot=me.boot, pid=me.pid, born=me.born)
    (tmp_path / ".lease-8.free").unlink()
    with pytest.raises(BusyError, match="process"), lease(tmp_path, wait=0):
        pass


def test_nobody_can_ask_another_machine_but_its_beat_tells(tmp_path: Path) -> None:
    owner = leave(tmp_path)
    assert holder(tmp_path) == owner
    with pytest.raises(BusyError, match="process 1 on elsewhere since"), lease(tmp_path, wait=0.2):
        pass
    old(tmp_path / ".lease-7")
    assert holder(tmp_path) is None
    with lease(tmp_path, wait=0):
        assert (tmp_path / ".lease-8").exists()


def test_a_lease_cut_short_while_it_was_written_counts_by_its_beat(tmp_path: Path) -> None:
    (tmp_path / ".lease-1").write_text("")
    assert str(holder(tmp_path)) == "a process that is just beginning"
    with pytest.raises(BusyError), lease(tmp_path, wait=0.2):
        pass
    old(tmp_path / ".lease-1")
    with lease(tmp_path, wait=0):
        pass


def test_waiting_ends_when_asked(tmp_path: Path) -> None:
    leave(tmp_path)
    with pytest.raises(BusyError), lease(tmp_path, wait=60, stop=lambda: True):
        pass


@pytest.mark.slow
def test_of_those_that_come_together_one_wins(tmp_path: Path) -> None:
    for number in range(10):
        folder, together = tmp_path / str(number), time.time() + 0.7
        folder.mkdir()
        if number % 2:  # taken over, half of the time
            leave(folder)
            old(folder / ".lease-7")
        both = [start(folder, together=together, **job(12 + k)) for k in range(2)]
        words = [said(process).split(" ")[0] for process in both]
        assert sorted(words) == ["BusyError", "has"], words
        for process in both:
            process.communicate(timeout=30)


def test_a_beat_shows_that_the_owner_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmadfer.run.lease.BEAT", 0.05)
    with lease(tmp_path) as held:
        old(tmp_path / ".lease-1")
        time.sleep(0.5)
        assert holder(tmp_path) is not None
        os.rename(tmp_path / ".lease-1", tmp_path / ".lease-2")
        time.sleep(0.5)
        assert held.lost, "the thread has noticed"
        with pytest.raises(LostError):
            held.check()


def test_a_temporary_that_the_successor_has_removed_is_not_published(tmp_path: Path) -> None:
    """The owner is suspended between its check and its rename; the successor has swept meanwhile."""
    with lease(tmp_path) as held:
        check = held.check

        def suspended() -> None:
            check()
            for path in tmp_path.glob(".*.tmp"):
                path.unlink()

        held.check = suspended  # type: ignore[method-assign]
        with pytest.raises(FileNotFoundError):
            held.write_text(tmp_path / "result.json", "late")
    assert not (tmp_path / "result.json").exists()


def test_a_fold_that_another_trains_is_not_marked_as_failed(tmp_path: Path) -> None:
    with lease(tmp_path):
        runs.mark_failed(tmp_path, "lost", None)
    assert runs.failure(tmp_path) is None
    assert not runs.begun(tmp_path)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("node7", "node7"),
        ("node[01-03,7]", "node01 node02 node03 node7"),
        ("a,b[1-2]c", "a b1c b2c"),
        ("127.0.0.[11-12]", "127.0.0.11 127.0.0.12"),
        ("n-1,gpu-a[098-101],z", "n-1 gpu-a098 gpu-a099 gpu-a100 gpu-a101 z"),
        ("r[0-1]n[08-10].x", "r0n08.x r0n09.x r0n10.x r1n08.x r1n09.x r1n10.x"),
    ],
)
def test_lists_of_nodes(text: str, names: str) -> None:
    assert hosts(text) == names.split()


@pytest.mark.parametrize("text", ["", "a,,b", "a[1-2", "a[x]", "a[1-2-3]", "a b", "(null),", "a[]"])
def test_what_is_no_list_of_nodes(text: str) -> None:
    with pytest.raises(RunError, match="not a "):
        hosts(text)


STEP = {
    **{"SLURM_STEP_ID": "0", "SLURM_JOB_ID": "15", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NTASKS": "8"},
    **{"SLURM_STEP_NUM_TASKS": "6", "SLURM_STEP_NODELIST": "n[09-11]", "SLURM_NODELIST": "n[08-11]"},
}


def test_ranks_of_a_step() -> None:
    found = ranks(STEP)
    assert {**found, "MASTER_PORT": ""} == {
        **{"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "6", "MASTER_ADDR": "n09", "MASTER_PORT": ""}
    }
    assert found["MASTER_PORT"] == ranks({**STEP, "SLURM_PROCID": "0"})["MASTER_PORT"]
    assert found["MASTER_PORT"] != ranks({**STEP, "SLURM_RESTART_COUNT": "1"})["MASTER_PORT"]
    assert ranks({**STEP, "SLURM_STEP_NODELIST": "n09"})["MASTER_ADDR"] == "127.0.0.1"
    own = {"SLURM_GPUS_PER_TASK": "1", "CUDA_VISIBLE_DEVICES": "0"}
    assert ranks({**STEP, **own})["LOCAL_RANK"] == "0"
    with pytest.raises(RunError, match="SLURM_PROCID"):
        ranks({key: value for key, value in STEP.items() if key != "SLURM_PROCID"})


@pytest.mark.parametrize(
    ("job", "restart", "ends"), [("12", 2, True), ("12", 1, False), ("13", 2, False), ("", 0, False)]
)
def test_a_fold_lost_to_a_later_start_of_the_job_is_no_failure(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    job: str,
    restart: int,
    ends: bool,
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    leave(tmp_path, job=job, restart=restart)
    with nullcontext() if ends else pytest.raises(LostError, match="gone"), left_to_later_start(tmp_path):
        raise LostError("gone")
    assert ("LostError: gone" in capsys.readouterr().err) == ends
    (tmp_path / "never").mkdir()
    with pytest.raises(LostError), left_to_later_start(tmp_path / "never"):
        raise LostError("gone")
