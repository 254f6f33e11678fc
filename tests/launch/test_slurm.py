"""What is made of SLURM's own words; the words were taken from a real cluster (22.05)."""

from pathlib import Path

import pytest

from mmadfer.errors import RunError
from mmadfer.launch import slurm


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def command(folder: Path, name: str, said: str = "", code: int = 0) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{said}'\nexit {code}\n")
    path.chmod(0o755)


def test_a_cluster_is_one_that_answers(commands: Path) -> None:
    assert not slurm.present()
    for name in ("sbatch", "srun"):
        command(commands, name)
    command(commands, "scontrol", "", 1)  # installed, but nothing says where a controller is
    assert not slurm.present()
    command(commands, "scontrol", "Slurmctld(primary) at n1 is DOWN\nSlurmctld(backup) at n2 is UP")
    assert slurm.present()
    command(commands, "scontrol", "Slurmctld(primary) at n1 is DOWN", 1)
    with pytest.raises(RunError, match="--cluster local"):
        slurm.present()
