import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmadfer.utils import cores, slurm_env
from mmadfer.utils.cores import granted, of_a_rank, quota

HERE = len(os.sched_getaffinity(0))
ASK = "from mmadfer.utils import cores; print(cores.granted(), cores.of_a_rank())"
OTHERS = ("LOCAL_WORLD_SIZE", "WORLD_SIZE", "MASTER_ADDR", "SLURM_CPUS_PER_TASK", cores.VARIABLE)


def ask(*before: str, **environ: str) -> list[int]:
    """What a process of its own is granted, and takes as a rank."""
    clean = {name: text for name, text in os.environ.items() if name not in OTHERS}
    done = subprocess.run(
        [*before, sys.executable, "-c", ASK], capture_output=True, text=True, check=True, env=clean | environ
    )
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(not shutil.which("taskset"), reason="taskset is missing")
def test_taskset_bounds_the_cores() -> None:
    first = min(os.sched_getaffinity(0))
    assert ask("taskset", "-c", str(first)) == [1, 1]
    assert ask() == [granted(), granted()]


def test_ranks_of_a_node_share_what_it_was_granted() -> None:
    assert ask(LOCAL_WORLD_SIZE=str(granted()))[1] == 1
    assert ask(WORLD_SIZE=str(granted()), MASTER_ADDR="127.0.0.1")[1] == 1
    assert ask(WORLD_SIZE="1000", MASTER_ADDR="node7")[1] == granted()  # ranks of other nodes
    assert ask(LOCAL_WORLD_SIZE="1000")[1] == 1


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of version 1 or 2 that may have a quota."""
    name = f"mmadfer-test-{uuid.uuid4().hex[:8]}"
    for top, file in ((Path("/sys/fs/cgroup/cpu"), "cpu.cfs_quota_us"), (Path("/sys/fs/cgroup"), "cpu.max")):
        folder = top / name
        try:
            folder.mkdir()
        except OSError:
            continue
        if (folder / file).exists():
            yield folder
            folder.rmdir()
            return
        folder.rmdir()
    pytest.skip("no control group can be made here")


def test_the_quota_of_a_control_group_bounds_the_cores(group: Path) -> None:
    def allow(time: int) -> None:
        if (group / "cpu.max").exists():
            (group / "cpu.max").write_text(f"{time} 100000\n")
        else:
            (group / "cpu.cfs_quota_us").write_text(f"{time}\n")

    enter = ("sh", "-c", 'echo $$ > "$0"/cgroup.procs && exec "$@"', str(group))
    allow(100_000)
    assert ask(*enter) == [1, 1]
    allow(50_000)
    assert ask(*enter) == [1, 1]
    allow(100_000 * HERE)
    assert ask(*enter) == [HERE, HERE]
    assert ask(*enter, LOCAL_WORLD_SIZE=str(HERE))[1] == 1


def test_quotas_are_read_in_both_versions(tmp_path: Path) -> None:
    groups, root = tmp_path / "cgroup", tmp_path / "fs"

    def put(place: str, text: str) -> None:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(f"{text}\n")

    assert quota(groups, root) is None  # not Linux
    groups.write_text("0::/slurm/job_7/step_0\n")
    put("slurm/job_7/step_0/cpu.max", "max 100000")
    assert quota(groups, root) is None
    put("slurm/job_7/cpu.max", "450000 100000")
    put("slurm/cpu.max", "900000 100000")
    put("../cpu.max", "1000 100000")  # of nobody
    assert quota(groups, root) == 4.5
    groups.write_text("5:cpu,cpuacct:/docker/1f\n1:name=systemd:/\n0::/\n")
    put("cpu,cpuacct/cpu.cfs_quota_us", "-1")
    put("cpu,cpuacct/cpu.cfs_period_us", "100000")
    assert quota(groups, root) is None
    put("cpu,cpuacct/cpu.cfs_quota_us", "50000")  # in a container, whose group's name is the host's
    assert (quota(groups, root), granted(groups, root)) == (0.5, 1)
    put("cpu,cpuacct/docker/1f/cpu.cfs_quota_us", "nothing")
    assert quota(groups, root) == 0.5


@pytest.mark.parametrize(
    ("environ", "many"),
    [
        ({}, 64),
        ({"SLURM_CPUS_PER_TASK": "8", "SLURM_STEP_TASKS_PER_NODE": "4"}, 8),  # each task has its own
        ({"SLURM_CPUS_PER_TASK": "8", "SLURM_STEP_TASKS_PER_NODE": "4", "LOCAL_WORLD_SIZE": "4"}, 8),
        ({"SLURM_CPUS_PER_TASK": "8", "SLURM_STEP_TASKS_PER_NODE": "1", "LOCAL_WORLD_SIZE": "4"}, 2),  # torchrun
        ({"SLURM_CPUS_PER_TASK": "8", "LOCAL_WORLD_SIZE": "4"}, 2),  # torchrun in a batch script
        ({"SLURM_CPUS_PER_TASK": "128"}, 64),
        ({"SLURM_STEP_TASKS_PER_NODE": "4(x2),2", "SLURM_NODEID": "1"}, 16),
        ({"SLURM_STEP_TASKS_PER_NODE": "4(x2),2", "SLURM_NODEID": "2"}, 32),
        ({"LOCAL_WORLD_SIZE": "8"}, 8),
        ({"LOCAL_WORLD_SIZE": "3"}, 21),
        ({"LOCAL_WORLD_SIZE": "2", cores.VARIABLE: "5"}, 5),
        ({"LOCAL_WORLD_SIZE": "x", "SLURM_CPUS_PER_TASK": "", cores.VARIABLE: "-1"}, 64),
    ],
)
def test_ranks_of_a_large_node(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], many: int) -> None:
    monkeypatch.setattr(cores, "_affinity", lambda: 64)
    monkeypatch.setattr(cores, "quota", lambda: None)
    assert of_a_rank(environ) == many


def test_tasks_are_counted_node_by_node() -> None:
    text = {"SLURM_STEP_TASKS_PER_NODE": "2(x3),1"}
    assert [slurm_env.tasks_here({**text, "SLURM_NODEID": str(n)}) for n in range(5)] == [2, 2, 2, 1, 1]
    assert slurm_env.tasks_here({}) == 1
