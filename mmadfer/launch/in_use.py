"""Who holds a run: a second launch into it is refused while anybody does."""

from pathlib import Path

from mmadfer.errors import RunError
from mmadfer.launch.slurm import commands
from mmadfer.launch.slurm.cached_query import JobQuery
from mmadfer.run import directory as runs
from mmadfer.run import launch_record, lease
from mmadfer.run.owner import Owner

_MAX_NAMED = 4
"""Holders that a message names; of the others it gives the number."""


def refuse_live(run: Path, told: JobQuery = commands) -> None:
    """Raise a RunError that names who holds the run, if anybody does; or where that cannot be known."""
    who = holders(run, told)
    if not who:
        return
    more = f", and {len(who) - _MAX_NAMED} more" if len(who) > _MAX_NAMED else ""
    raise RunError(
        f"{run} is live, and two launches never share a run: {'; '.join(who[:_MAX_NAMED])}{more}. "
        f"`mmadfer launch status {run}` shows it, `mmadfer launch cancel {run}` ends it."
    )


def holders(run: Path, told: JobQuery = commands) -> list[str]:
    """In words, everything that trains in this run, or may still begin to."""
    left = launch_record.read(run)
    who = []
    if left:
        jobs = asked(run, left, {}, told)
        for fold, name in left.fold_ids.items():
            if commands.live_jobs(jobs, [name]):
                who.append(f"fold {fold} is SLURM job {name} ({jobs[name].state})")
        if left.launching:
            who.append(f"it was launched here by {left.launcher}")
    return who or [f"fold {fold} is being trained by {owner}" for fold, owner in live_folds(run).items()]


def asked(
    run: Path, left: launch_record.LaunchRecord | None, beating: dict[int, Owner], told: JobQuery = commands
) -> dict[str, commands.SlurmJob]:
    """What SLURM says of the jobs of the last launch, and of those that train now without one; raises as `query`."""
    launched = told.query(left.jobs.values(), left.folder(run)) if left else {}
    others = {owner.job for owner in beating.values() if owner.job} - set(left.jobs.values() if left else ())
    return {**launched, **told.query(others)}


def trainers(
    left: launch_record.LaunchRecord | None, jobs: dict[str, commands.SlurmJob], beating: dict[int, Owner]
) -> dict[int, str]:
    """SLURM's id of each fold: of its last launch, unless that is over and another job trains the fold."""
    found = left.fold_ids if left else {}
    for fold, owner in beating.items():
        name = found.get(fold, "")
        if not commands.live_jobs(jobs, [name]):
            found[fold] = owner.job
    return {fold: name for fold, name in found.items() if name}


def live_folds(run: Path) -> dict[int, Owner]:
    """Who is training each fold right now, whoever started it."""
    found = {fold: lease.holder(runs.fold_dir(run, fold)) for fold in runs.folds(run)}
    return {fold: owner for fold, owner in found.items() if owner is not None}
