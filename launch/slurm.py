"""What SLURM says: asked once for all jobs of a run, with its own commands."""

import shutil
import subprocess

from mmadfer.errors import RunError

PATIENCE = 10.0
"""Seconds that a command of SLURM may take."""


def present() -> bool:
    """Whether a SLURM cluster can be reached from here; its commands alone, without a configuration, are none.

    Raises:
        RunError: there is a cluster, but it does not answer: nobody wants five folds on its login node then.
    """
    if not all(map(shutil.which, ("sbatch", "srun", "scontrol"))):
        return False
    try:
        said = subprocess.run(["scontrol", "ping"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        said = None
    if said is not None and " is UP" in said.stdout:
        return True
    if said is not None and " is DOWN" not in said.stdout:
        return False
    raise RunError(
        "SLURM does not answer (`scontrol ping`): wait for it, or train on this machine with --cluster local"
    )
