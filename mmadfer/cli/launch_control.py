"""`mmadfer launch status | cancel | resume RUN`, for runs and sweeps, on SLURM and on this machine."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from mmadfer.cli import launch_options, launch_sweep
from mmadfer.config import identity, sweep
from mmadfer.config import schema as configs
from mmadfer.config.folds import parse_folds
from mmadfer.errors import RunError
from mmadfer.launch import in_use, launching, plan
from mmadfer.launch.slurm import commands
from mmadfer.run import directory as runs
from mmadfer.run import launch_record
from mmadfer.run.launch_record import Options
from mmadfer.run.owner import Owner
from mmadfer.utils.terminal import say

LEAVE = 60.0
"""Seconds that a stopped local launch has to end its folds, which save."""
Run = Annotated[Path, typer.Argument(help="Run directory.")]


def status(
    run: Run, as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, for programs.")] = False
) -> None:
    """Show each fold's state, epoch, last scores, time left and restarts."""
    from mmadfer.launch import status as states
    from mmadfer.launch.sweep import status as sweep_status

    run = run.absolute()
    of: Any = sweep_status if sweep.is_sweep(run) else states
    found = of.status(run)
    if as_json:
        say(json.dumps(found.to_dict(), indent=2))
    else:
        of.show(found)


def cancel(run: Run) -> None:
    """End a run's jobs, or its launcher on this machine; folds that train save first, as far as time allows."""
    run = _opened(run)
    left = launch_record.read(run)
    if left and left.launcher and not left.jobs:
        _cancel_here(run, left, left.launcher)
        return
    if sweep.is_sweep(run):
        _tell(run, launch_sweep.cancel(run))
        return
    beating = in_use.live(run)
    jobs = in_use.asked(run, left, beating)
    own = in_use.trainers(left, jobs, beating)
    followers, folds = commands.live(jobs, left.followers if left else ()), commands.live(jobs, own.values())
    commands.cancel(*followers)  # first: the report would start as soon as the folds have ended
    commands.cancel(*folds)
    _tell(run, [*folds, *followers])
    if plain := {name.partition("_")[0] for name in folds if not left or name not in left.jobs.values()}:
        say(f"Of sbatch's own arrays only what trains is known here: scancel {' '.join(sorted(plain))} ends all of it")


@launch_options.with_options
def resume(
    run: Run,
    *,
    overrides: launch_options.Set = None,
    trust_code: launch_options.Trust = False,
    dry_run: launch_options.DryRun = False,
    asked: Options,
) -> None:
    """Go on with the unfinished folds of a run, as it was launched; options given here replace those of the launch."""
    run = _opened(run)
    left = launch_record.read(run)
    options = asked.over(left.options.kept(asked)) if left else asked
    if sweep.is_sweep(run):
        launch_sweep.resume(run, overrides or [], options, dry_run, trust_code)
        return
    settings = identity.absolute(configs.load(run / "config.yaml", overrides or ()))
    chosen = parse_folds(options.folds, settings) if options.folds or not left else left.folds
    resources = plan.resources(chosen, options)
    task = launching.Launch(run, settings, chosen, resources, True, bool(options.export), trust_code)
    launch_options.carry_out(task, dry_run)


def _cancel_here(run: Path, left: launch_record.Record, launcher: Owner) -> None:
    if not launcher.here():
        raise RunError(f"{run} was launched by {launcher}: end it there")
    if not left.launching:
        _nothing_to_end(run)
        return
    os.kill(launcher.pid, signal.SIGTERM)
    say(f"process {launcher.pid} ends its folds; they save first")
    end = time.monotonic() + LEAVE
    while left.launching:
        if time.monotonic() > end:
            raise RunError(f"process {launcher.pid} has not ended within {LEAVE:.0f} s: look at {run / 'jobs'}")
        time.sleep(0.1)
    say(f"ended; to go on:\n  {_resume(run)}")


def _opened(run: Path) -> Path:
    """The absolute path of a run or a sweep; raises a RunError where there is neither."""
    run = run.absolute()
    return run if sweep.is_sweep(run) else runs.read(run).path


def _tell(run: Path, ended: list[str]) -> None:
    if ended:
        say(f"SLURM ends {', '.join(ended)}; folds that run save, and go on with\n  {_resume(run)}")
    else:
        _nothing_to_end(run)


def _nothing_to_end(run: Path) -> None:
    who = in_use.holders(run)
    if who:
        raise RunError(f"{run} was not started by `mmadfer launch`: {'; '.join(who)}; end it there")
    say(f"nothing of {run} is running or queued")


def _resume(run: Path) -> str:
    return launching.command("resume", run)
