"""`mmadfer launch status | cancel | resume RUN`, for runs, sweeps and chains, on SLURM and on this machine."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from mmadfer.cli import launch_options, launch_sweep
from mmadfer.config import identity, sweep
from mmadfer.config import schema as configs
from mmadfer.config.folds import parse_folds
from mmadfer.errors import RunError
from mmadfer.launch import chain, in_use, launching, plan
from mmadfer.launch.slurm import commands
from mmadfer.run import directory as runs
from mmadfer.run import launch_record
from mmadfer.run.launch_record import LaunchOptions
from mmadfer.run.owner import Owner
from mmadfer.utils.terminal import say

_STOP_SECONDS = 60.0
"""Seconds that a stopped local launch has to end its folds, which save."""
_RunArgument = Annotated[Path, typer.Argument(help="Run directory.")]


def status(
    run: _RunArgument, as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, for programs.")] = False
) -> None:
    """Show each fold's state, epoch, last scores, time left and restarts."""
    from mmadfer.launch import status as states
    from mmadfer.launch.sweep import status as sweep_status

    run = run.absolute()
    if sweep.is_sweep(run):
        rows = sweep_status.read_status(run)
        return say(json.dumps(rows.to_dict(), indent=2)) if as_json else sweep_status.show_status(rows)
    found = [states.read_status(one) for one in (chain.runs_of(run) if chain.is_chain(run) else [run])]
    if as_json:
        told = [one.to_dict() for one in found]
        return say(json.dumps({"chain": str(run), "runs": told} if chain.is_chain(run) else told[0], indent=2))
    for one in found:
        states.show_status(one)


def cancel(run: _RunArgument) -> None:
    """End a run's jobs, or its launcher on this machine; folds that train save first, as far as time allows."""
    run = _opened(run)
    if chain.is_chain(run):
        for one in reversed(chain.runs_of(run)):  # the last first: the others let it begin when they end
            cancel(one)
        return
    left = launch_record.read(run)
    if left and left.launcher and not left.jobs:
        _cancel_here(run, left, left.launcher)
        return
    if sweep.is_sweep(run):
        _tell(run, launch_sweep.cancel_sweep(run))
        return
    beating = in_use.live_folds(run)
    jobs = in_use.asked(run, left, beating)
    own = in_use.trainers(left, jobs, beating)
    followers, folds = commands.live_jobs(jobs, left.followers if left else ()), commands.live_jobs(jobs, own.values())
    commands.cancel_jobs(*followers)  # first: the report would start as soon as the folds have ended
    commands.cancel_jobs(*folds)
    _tell(run, [*folds, *followers])
    if plain := {name.partition("_")[0] for name in folds if not left or name not in left.jobs.values()}:
        say(f"Of sbatch's own arrays only what trains is known here: scancel {' '.join(sorted(plain))} ends all of it")


@launch_options.with_options
def resume(
    run: _RunArgument,
    *,
    overrides: launch_options.Set = None,
    trust_code: launch_options.Trust = False,
    dry_run: launch_options.DryRun = False,
    asked: LaunchOptions,
) -> None:
    """Go on with the unfinished folds of a run, as it was launched; options given here replace those of the launch."""
    run = _opened(run)
    if sweep.is_sweep(run):
        left = launch_record.read(run)
        options = asked.over(left.options.kept(asked)) if left else asked
        launch_sweep.resume_sweep(run, overrides or [], options, dry_run, trust_code)
    elif chain.is_chain(run):
        tasks: list[launching.Launch] = []
        for one in chain.to_go_on(run):
            tasks.append(_resumed(one, overrides, asked, trust_code, tuple(tasks)))
        launch_options.carry_out_chain(run, tasks, dry_run)
    else:
        launch_options.carry_out(_resumed(run, overrides, asked, trust_code), dry_run)


def _resumed(
    run: Path, overrides: list[str] | None, asked: LaunchOptions, trust: bool, after: tuple[launching.Launch, ...] = ()
) -> launching.Launch:
    """A launch that goes on with a run."""
    left = launch_record.read(run)
    options = asked.over(left.options.kept(asked)) if left else asked
    settings = identity.absolute(configs.load(run / "config.yaml", overrides or ()))
    chosen = parse_folds(options.folds, settings) if options.folds or not left else left.folds
    resources = plan.resources(chosen, options)
    return launching.Launch(run, settings, chosen, resources, True, bool(options.export), trust, after)


def _cancel_here(run: Path, left: launch_record.LaunchRecord, launcher: Owner) -> None:
    if not launcher.here():
        raise RunError(f"{run} was launched by {launcher}: end it there")
    if not left.launching:
        _nothing_to_end(run)
        return
    os.kill(launcher.pid, signal.SIGTERM)
    say(f"process {launcher.pid} ends its folds; they save first")
    end = time.monotonic() + _STOP_SECONDS
    while left.launching:
        if time.monotonic() > end:
            raise RunError(f"process {launcher.pid} has not ended within {_STOP_SECONDS:.0f} s: look at {run / 'jobs'}")
        time.sleep(0.1)
    say(f"ended; to go on:\n  {_resume(run)}")


def _opened(run: Path) -> Path:
    """The absolute path of a run, a sweep or a chain; raises a RunError where there is none."""
    run = run.absolute()
    return run if sweep.is_sweep(run) or chain.is_chain(run) else runs.read(run).path


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
