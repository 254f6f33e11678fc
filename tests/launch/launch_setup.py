"""Launches in tests, and stand-ins for SLURM's commands, for what a real cluster cannot be made to say at will."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from mmadfer.cli import launch

ROOT = Path(__file__).parents[2]
FIVE_FOLD, SWEEP = (str(ROOT / "launch" / name) for name in ("five_fold.py", "sweep.py"))
"""What people type."""


def said(*arguments: object) -> Any:
    """What `mmadfer launch` and these words come to, in this process."""
    return CliRunner().invoke(launch.app, [str(argument) for argument in arguments])


def start(config: Path, run: Path, *options: str) -> "subprocess.Popen[str]":
    """A launch on this machine, in a process of its own."""
    command = [sys.executable, FIVE_FOLD, str(config), "--run", str(run), "--cluster", "local", *options]
    quiet = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=quiet, start_new_session=True
    )


class Commands:
    """A folder of commands that say what they are told to, and keep a list of their calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("srun", "scancel", "squeue", "sacct"):
            self.make(name)
        self.make("scontrol", "Slurmctld(primary) at n1 is UP")
        self.refuse_after(100)

    def refuse_after(self, count: int) -> None:
        """An sbatch that takes so many jobs, 11 the first, and refuses the others."""
        number = "n=$(($(/bin/cat $0.n 2>/dev/null || echo 10) + 1)); echo $n > $0.n; "
        bound = f"if [ $n -gt {10 + count} ]; then echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2; exit 1; fi; "
        keep = '/bin/cp "${!#}" $0.script.$n; echo Submitted batch job $n'
        self._write("sbatch", f"{number} {bound} {keep}")

    def make(self, name: str, said: str = "", code: int = 0, stderr: bool = False) -> None:
        """A command that says this, always."""
        self._write(
            name, f"echo {shlex.quote(said)} {'>&2' if stderr else ''}; exit {code}" if said else f"exit {code}"
        )

    def remove(self, name: str) -> None:
        """Take a command away."""
        (self.folder / name).unlink()

    def calls(self, name: str) -> list[str]:
        """The arguments of each call of a command so far."""
        path = self.folder / f"{name}.calls"
        return path.read_text().splitlines() if path.exists() else []

    def scripts(self) -> list[str]:
        """What was given to sbatch, in order."""
        return [path.read_text() for path in sorted(self.folder.glob("sbatch.script.*"))]

    def _write(self, name: str, body: str) -> None:
        path = self.folder / name
        path.write_text(f'#!/bin/bash\necho " $*" >> $0.calls\n{body}\n')
        path.chmod(0o755)
