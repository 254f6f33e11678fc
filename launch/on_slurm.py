"""The folds of a launch as one SLURM array; then the report and the export, each waiting for what is before it."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmadfer.errors import RunError
from mmadfer.launch import plan, slurm
from mmadfer.launch.job import ExportJob, FoldJob, ReportJob
from mmadfer.launch.record import Record
from mmadfer.optional import need


def submit(
    run: Path, name: str, jobs: list[FoldJob], resources: plan.Resources, environment: dict[str, str], record: Record
) -> Record:
    """Submit the array, its report and (if the record says so) the export; returns the record with their SLURM ids.

    The record is written after each submission, so that what SLURM has taken is never unknown.

    Raises:
        RunError: SLURM does not take a job; it says why.
    """
    array = _executor(run, plan.slurm_parameters(name, resources, environment))
    started = _taken(lambda: array.submit_array(jobs))
    record = _noted(run, record, {f"fold {job.fold}": begun for job, begun in zip(jobs, started, strict=True)})
    first = str(started[0].job_id).partition("_")[0]
    after = _executor(run, plan.report_parameters(name, resources, environment, first))
    report = _taken(lambda: after.submit(ReportJob(str(run))))
    record = _noted(run, record, {"report": report})
    return submit_export(run, name, resources, environment, record, str(report.job_id))


def submit_export(
    run: Path,
    name: str,
    resources: plan.Resources,
    environment: dict[str, str],
    record: Record,
    report: str | None = None,
) -> Record:
    """Submit the export if the record says so, to start when the job `report` has ended (at once without one)."""
    if not record.options.get("export"):
        record.write(run)
        return record
    last = _executor(run, plan.export_parameters(name, resources, environment, report))
    return _noted(run, record, {"export": _taken(lambda: last.submit(ExportJob(str(run), resources.threads)))})


def refuse_without_slurm(run: Path) -> None:
    """Raise a RunError where there is no SLURM to submit to, or it could not write this run's logs."""
    if not slurm.present():
        raise RunError(
            "there is no SLURM here (sbatch, srun and a cluster that answers): use --cluster local, or --dry-run"
        )
    if "%" in str(run):
        raise RunError(f"{run}: SLURM takes % in the name of a log as a pattern: choose another --run")


def texts(
    run: Path, name: str, count: int, resources: plan.Resources, environment: dict[str, str], export: bool = False
) -> dict[str, str]:
    """The sbatch files that `submit` would write: `folds`, `report` and, if asked for, `export`."""
    need("submitit", extra="train")
    from submitit.slurm.slurm import _make_sbatch_string

    folder = run / "jobs"
    command = f"{shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(str(folder))}"
    folds = {**plan.slurm_parameters(name, resources, environment), **({"map_count": count} if count > 1 else {})}
    wanted = {"folds": folds, "report": plan.report_parameters(name, resources, environment, "ARRAY_ID")}
    if export:
        wanted["export"] = plan.export_parameters(name, resources, environment, "REPORT_ID")
    return {job: _make_sbatch_string(command, folder, **parameters) for job, parameters in wanted.items()}


def _noted(run: Path, record: Record, jobs: dict[str, Any]) -> Record:
    record = replace(record, jobs={**record.jobs, **{name: str(job.job_id) for name, job in jobs.items()}})
    record.write(run)
    return record


def _executor(run: Path, parameters: dict[str, Any]) -> Any:
    submitit = need("submitit", extra="train")
    executor = submitit.SlurmExecutor(run / "jobs", max_num_timeout=plan.RETRIES)
    executor.update_parameters(**parameters)
    return executor


def _taken(submission: Callable[[], Any]) -> Any:
    from submitit.core.utils import FailedJobError

    try:
        return submission()
    except FailedJobError as error:
        raise RunError(f"SLURM did not take the job: {error}") from error
