"""The folds of a launch as a SLURM array; then the report and the export, each waiting for what is before it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmadfer.errors import RunError
from mmadfer.launch.jobs import ExportJob, FoldJob, ReportJob
from mmadfer.launch.resources import Resources
from mmadfer.launch.slurm import commands, parameters
from mmadfer.launch.slurm.dependencies import Waits, arrays
from mmadfer.run.launch_record import LaunchRecord
from mmadfer.utils import compat
from mmadfer.utils.optional import need


def submit_array(
    run: Path,
    name: str,
    jobs: list[FoldJob],
    waiting: Waits,
    resources: Resources,
    environment: dict[str, str],
    record: LaunchRecord,
) -> LaunchRecord:
    """Submit the folds, their report and (if the record says so) the export; returns the record with their SLURM ids.

    The record is written after each submission, so that what SLURM has taken is never unknown.

    Raises:
        RunError: SLURM does not take a job; it says why.
    """
    of, bases = {job.fold: job for job in jobs}, []
    for folds, dependency in arrays(waiting):
        ids = array(run, name, [of[fold] for fold in folds], resources, environment, dependency)
        record = record.noted(run, {f"fold {fold}": number for fold, number in zip(folds, ids, strict=True)})
        bases.append(commands.base(ids[0]))
    wanted = parameters.report_parameters(name, resources, environment, ":".join(bases))
    report = one(run, ReportJob(str(run)), wanted)
    return submit_export(run, name, resources, environment, record.noted(run, {"report": report}), report)


def array(
    folder: Path,
    name: str,
    jobs: Sequence[FoldJob],
    resources: Resources,
    environment: dict[str, str],
    dependency: str = "",
) -> list[str]:
    """Submit folds as one array, whose files and logs go to `folder/jobs`; their SLURM ids, in order.

    Raises:
        RunError: SLURM does not take it; it says why.
    """
    executor = _executor(folder, parameters.slurm_parameters(name, resources, environment, dependency))
    return [str(job.job_id) for job in _taken(lambda: executor.submit_array(jobs))]


def one(folder: Path, job: Callable[[], None], wanted: dict[str, Any]) -> str:
    """Submit one job as `array` does; its SLURM id."""
    executor = _executor(folder, wanted)
    return str(_taken(lambda: executor.submit(job)).job_id)


def submit_export(
    run: Path,
    name: str,
    resources: Resources,
    environment: dict[str, str],
    record: LaunchRecord,
    report: str | None = None,
) -> LaunchRecord:
    """Submit the export if the record says so, to start when the job `report` has ended (at once without one)."""
    if not record.options.export:
        record.write(run)
        return record
    wanted = parameters.export_parameters(name, resources, environment, report)
    return record.noted(run, {"export": one(run, ExportJob(str(run), resources.threads), wanted)})


def refuse_without_slurm() -> None:
    """Raise a RunError where there is no SLURM to submit to."""
    if not commands.present():
        raise RunError(
            "there is no SLURM here (sbatch, srun and a cluster that answers): use --cluster local, or --dry-run"
        )


def texts(
    run: Path, name: str, waiting: Waits, resources: Resources, environment: dict[str, str], export: bool = False
) -> dict[str, str]:
    """The sbatch files of `submit_array`: `folds` (for each array), `report` and `export` if asked for."""
    wanted, submitted = dict[str, dict[str, Any]](), arrays(waiting)
    for folds, dependency in submitted:
        own = parameters.slurm_parameters(name, resources, environment, dependency)
        title = "folds" if len(submitted) == 1 else f"folds {', '.join(map(str, folds))}"
        wanted[title] = {**own, **({"map_count": len(folds)} if len(folds) > 1 else {})}
    before = ":".join(["ARRAY_ID"] * len(submitted))
    wanted["report"] = parameters.report_parameters(name, resources, environment, before)
    if export:
        wanted["export"] = parameters.export_parameters(name, resources, environment, "REPORT_ID")
    return {job: compat.sbatch_text(run / "jobs", options) for job, options in wanted.items()}


def _executor(run: Path, wanted: dict[str, Any]) -> Any:
    submitit = need("submitit", extra="train")
    executor = submitit.SlurmExecutor(run / "jobs", max_num_timeout=parameters.RETRIES)
    executor.update_parameters(**wanted)
    return executor


def _taken(submission: Callable[[], Any]) -> Any:
    from submitit.core.utils import FailedJobError

    try:
        return submission()
    except FailedJobError as error:
        raise RunError(f"SLURM did not take the job: {error}") from error
