"""The folds of a launch as one SLURM array, and the report as a job that waits for it."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from mmadfer.errors import RunError
from mmadfer.files import write_json
from mmadfer.launch import plan
from mmadfer.launch.job import FoldJob, ReportJob
from mmadfer.optional import need


def submit(
    run: Path, name: str, jobs: list[FoldJob], resources: plan.Resources, environment: dict[str, str]
) -> dict[str, str]:
    """Submit the array and its report; returns the SLURM id of each fold and of the report, as in `jobs/launch.json`.

    Raises:
        RunError: SLURM does not take a job; it says why.
    """
    array = _executor(run, plan.slurm_parameters(name, resources, environment))
    started = _taken(lambda: array.submit_array(jobs))
    ids = {f"fold {job.fold}": str(begun.job_id) for job, begun in zip(jobs, started, strict=True)}
    first = str(started[0].job_id).partition("_")[0]
    write_json(run / "jobs" / "launch.json", ids)
    after = _executor(run, plan.report_parameters(name, resources, environment, first))
    ids["report"] = str(_taken(lambda: after.submit(ReportJob(str(run)))).job_id)
    write_json(run / "jobs" / "launch.json", ids)
    return ids


def refuse_without_slurm() -> None:
    """Raise a RunError where there is no SLURM to submit to."""
    if not shutil.which("sbatch") or not shutil.which("srun"):
        raise RunError("there is no SLURM here (sbatch and srun are not on PATH): use --cluster local, or --dry-run")


def texts(run: Path, name: str, count: int, resources: plan.Resources, environment: dict[str, str]) -> tuple[str, str]:
    """The sbatch files that `submit` would write, for the array and for the report."""
    need("submitit", extra="train")
    from submitit.slurm.slurm import _make_sbatch_string

    command = f"{shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(str(run / 'jobs'))}"
    array = {**plan.slurm_parameters(name, resources, environment), **({"map_count": count} if count > 1 else {})}
    after = plan.report_parameters(name, resources, environment, "ARRAY_ID")
    folder = run / "jobs"
    return _make_sbatch_string(command, folder, **array), _make_sbatch_string(command, folder, **after)


def _executor(run: Path, parameters: dict[str, Any]) -> Any:
    submitit = need("submitit", extra="train")
    executor = submitit.SlurmExecutor(run / "jobs", max_num_timeout=plan.RETRIES)
    executor.update_parameters(**parameters)
    return executor


def _taken(submission: Any) -> Any:
    from submitit.core.utils import FailedJobError

    try:
        return submission()
    except FailedJobError as error:
        raise RunError(f"SLURM did not take the job: {error}") from error
