"""What is made of SLURM's own words, which were taken from a real cluster (22.05); tests/slurm asks one."""

from pathlib import Path

import pytest
from launch_setup import Commands

from mmadfer.cli.launch_options import check_path
from mmadfer.errors import RunError
from mmadfer.launch.slurm import commands as slurm

QUEUE = """\
6_2|PENDING|JobArrayTaskLimit||1:00:00|0|
6_3|PENDING|BeginTime||1:00:00|2|
7|PENDING|DependencyNeverSatisfied||1:00:00|0|
6_0|RUNNING|None|127.0.0.11|59:58|0|
6_1|CANCELLED|None|127.0.0.11|59:58|1|
"""


def test_a_cluster_is_one_that_answers(commands: Commands) -> None:
    commands.remove("scontrol")
    assert not slurm.present()
    commands.make("scontrol", "", 1)  # installed, but nothing says where a controller is
    assert not slurm.present()
    commands.make("scontrol", "Slurmctld(primary) at n1 is DOWN\nSlurmctld(backup) at n2 is UP")
    assert slurm.present()
    commands.make("scontrol", "Slurmctld(primary) at n1 is DOWN", 1)
    with pytest.raises(RunError, match="--cluster local"):
        slurm.present()


def test_all_jobs_are_asked_for_at_once(commands: Commands) -> None:
    commands.make("squeue", QUEUE)
    jobs = slurm.query([*(f"6_{k}" for k in range(100)), "7"])
    assert [call.split(" -j ")[1].split()[0] for call in commands.calls("squeue")] == ["6,7"]
    assert commands.calls("sacct") == []
    assert jobs["6_0"] == slurm.SlurmJob("6_0", "RUNNING", "", "127.0.0.11", "59:58")
    assert [name for name, job in jobs.items() if job.live] == ["6_2", "6_3", "7", "6_0"]
    assert [name for name, job in jobs.items() if job.stuck] == ["7"]
    assert jobs["6_3"].restarts == 2


def test_what_the_queue_has_forgotten_is_in_the_accounts(commands: Commands) -> None:
    commands.make("squeue", "slurm_load_jobs error: Invalid job id specified", 1, stderr=True)
    commands.make(
        "sacct", "6_0|TIMEOUT|None|n1\n6_1|CANCELLED by 1000|None|n1\n6_[2,4-5%2]|CANCELLED by 0|x|None\n8|RUNNING|x|n1"
    )
    jobs = slurm.query(["6_0", "6_1", "8"])  # 8: slurmctld was killed, and forgot it
    assert {name: job.state for name, job in jobs.items()} == {
        "6_0": "TIMEOUT",
        **{f"6_{k}": "CANCELLED" for k in (1, 2, 4, 5)},
    }
    assert len(commands.calls("sacct")) == 1
    commands.make("sacct", "8|COMPLETED|Dependency|None assigned\n9|COMPLETED|None|n1")  # slurmdbd closes 8 later
    assert list(slurm.query(["8", "9"])) == ["9"]
    commands.make("sacct", "Slurm accounting storage is disabled", 1, stderr=True)
    assert slurm.query(["6_0"]) == {}
    commands.remove("sacct")
    assert slurm.query(["6_0"]) == {}
    assert slurm.query([]) == {}


def test_how_the_start_before_ended(commands: Commands) -> None:
    commands.make("sacct", "6_0|PREEMPTED|None|n1\n6_0|PENDING|BeginTime|None assigned\n6_1|REQUEUED|None|n1")
    assert slurm.last_ends(["6_0", "6_1"]) == {"6_0": "PREEMPTED", "6_1": "REQUEUED"}
    assert " -D " in commands.calls("sacct")[0]


def test_silence_is_no_answer(commands: Commands) -> None:
    commands.make(
        "squeue", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)", 1, stderr=True
    )
    with pytest.raises(RunError, match=r"SLURM does not answer \(squeue: .*connect failure"):
        slurm.query(["6_0"])
    commands.make("scancel", "scancel: error: Kill job error on job id 6: Invalid job id specified", 1, stderr=True)
    slurm.cancel_jobs("6")  # it ended a moment ago
    slurm.cancel_jobs()
    assert len(commands.calls("scancel")) == 1
    commands.make("scancel", "Access/permission denied", 1, stderr=True)
    with pytest.raises(RunError, match="denied"):
        slurm.cancel_jobs("6")


@pytest.mark.parametrize(
    "reason", ["BadConstraints", "PartitionTimeLimit", "JobHeldUser", "QOSMaxCpuMinutesPerJobLimit", "InvalidQOS"]
)
def test_reasons_that_waiting_does_not_mend(reason: str) -> None:
    assert slurm.SlurmJob("1", "PENDING", reason).stuck
    assert not slurm.SlurmJob("1", "RUNNING", reason).stuck
    assert not slurm.SlurmJob("1", "PENDING", "Priority").stuck


def test_a_log_name_without_patterns(tmp_path: Path) -> None:
    check_path(tmp_path)
    with pytest.raises(RunError, match="choose another --run"):
        check_path(tmp_path / "100%j")
