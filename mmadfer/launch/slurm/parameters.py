"""submitit's SLURM parameters of the array of folds, the report and the export."""

import shlex
from dataclasses import replace
from typing import Any

from mmadfer.launch.resources import Resources

SIGNAL_DELAY = 120
"""Seconds between the signal and the end of the time limit: one step and one checkpoint."""
EXPORT_MINUTES = 8 * 60
"""Time limit of the export of all folds."""
RETRIES = 20
"""How often a fold may run into its time limit and be queued again."""


def slurm_parameters(
    name: str, resources: Resources, environment: dict[str, str], dependency: str = ""
) -> dict[str, Any]:
    """submitit's SLURM parameters for an array of folds; one whose `dependency` has failed is cancelled."""
    exports = [f"export {key}={shlex.quote(value)}" for key, value in environment.items()]
    wanted = {
        **{key: getattr(resources, key) for key in ("partition", "account", "qos", "constraint")},
        "job_name": name,
        "time": resources.minutes,
        "nodes": resources.nodes,
        "ntasks_per_node": resources.ranks_per_node,
        "cpus_per_task": resources.threads,
        "gpus_per_node": resources.gpus // resources.nodes or None,
        "array_parallelism": resources.parallel,
        "signal_delay_s": SIGNAL_DELAY,
        "setup": exports,
        # One lost rank ends the job, and a step does not inherit the cores of its job since SLURM 22.05.
        "srun_args": [f"--cpus-per-task={resources.threads}", "--kill-on-bad-exit=1"],
        "dependency": dependency or None,
        "additional_parameters": {"requeue": True, **({"kill_on_invalid_dep": "yes"} if dependency else {})},
    }
    return {key: value for key, value in wanted.items() if value is not None}


def report_parameters(name: str, resources: Resources, environment: dict[str, str], array: str) -> dict[str, Any]:
    """submitit's SLURM parameters for the report, which waits for every fold to end, well or badly."""
    return _after(f"{name}-report", replace(resources, cpus=1, minutes=30), environment, array)


def export_parameters(
    name: str, resources: Resources, environment: dict[str, str], report: str | None
) -> dict[str, Any]:
    """submitit's SLURM parameters for the export, which waits for the report to end, and looks what is finished."""
    one = replace(resources, cpus=resources.threads, minutes=EXPORT_MINUTES)
    return _after(f"{name}-export", one, environment, report)


def _after(name: str, resources: Resources, environment: dict[str, str], job: str | None) -> dict[str, Any]:
    """One process without GPUs after `job`, by afterany: with afterok, a fold that passes late would not count."""
    one = replace(resources, gpus=0, nodes=1, parallel=1)
    parameters = slurm_parameters(name, one, environment)
    del parameters["array_parallelism"]
    return {**parameters, "dependency": f"afterany:{job}"} if job else parameters
