"""`mmadfer launch sweep FILE`, and status, cancel and resume where they are given a sweep's folder."""

from pathlib import Path
from typing import Annotated

import typer

from mmadfer.cli import launch_options
from mmadfer.config import identity
from mmadfer.config import schema as configs
from mmadfer.config import sweep as sweep_file
from mmadfer.launch import launching
from mmadfer.launch.slurm import commands, submit
from mmadfer.launch.sweep.launch import Sweep, check_code, left_in, plan_sweep, start_sweep
from mmadfer.run import code_snapshot
from mmadfer.run import directory as runs
from mmadfer.run.launch_record import LaunchOptions
from mmadfer.utils.terminal import say


@launch_options.with_options
def sweep(
    file: Annotated[
        str, typer.Argument(help="YAML: name, base, and rows of keys that differ; or a shipped one, as table4.")
    ],
    *,
    base: Annotated[
        str | None,
        typer.Option(help="Another base for the same rows: a file or a shipped configuration (default: the file's)."),
    ] = None,
    overrides: launch_options.Set = None,
    run: Annotated[Path | None, typer.Option(help="Folder of all rows (default: runs/NAME-TIME).")] = None,
    dry_run: launch_options.DryRun = False,
    asked: LaunchOptions,
) -> None:
    """Train every row of a table over its folds, as one array of jobs, then report on all rows.

    `launch status`, `cancel_sweep` and `resume_sweep` take its folder, or that of one row, DIR/ROW.
    """
    table, settings = sweep_file.read(sweep_file.find_table(file), overrides or (), base)
    carry_out_sweep(plan_sweep(launch_options.run_folder(run, table.name), table, settings, asked), dry_run)


def carry_out_sweep(wanted: Sweep, dry_run: bool) -> None:
    """Start a sweep, or show what it would do; raises as `start_sweep`."""
    launch_options.check_path(wanted.folder)
    if dry_run:
        say(_describe_sweep(wanted))
    elif code := start_sweep(wanted):
        raise typer.Exit(code)


def _describe_sweep(wanted: Sweep) -> str:
    """What a dry run prints: the rows and their folds, what each fold gets, and on SLURM the sbatch files."""
    check_code(wanted)
    resources, environment = wanted.resources, wanted.environment
    count = sum(len(one.todo()) for one in wanted.rows.values())
    ranks = resources.ranks_per_node * resources.nodes
    each = f"{ranks} rank(s), {resources.gpus} GPU(s), {resources.threads} CPU thread(s) per rank"
    lines = [
        f"sweep        {wanted.folder}",
        f"base         {wanted.table.basis}",
        f"code         {len(code_snapshot.sources())} files, copied to {wanted.folder / 'code'}",
        *(f"row          {row}: {_row(wanted, row)}" for row in wanted.rows),
        f"folds        {count} in all ({resources.parallel} at a time, {resources.cluster})",
        f"each fold    {each}",
        *(f"environment  {key}={value}" for key, value in environment.items()),
        "report       when all folds have ended: each row's, and one line for each row",
    ]
    if resources.cluster == "slurm" and count:
        waits = {element: list[str]() for element in range(count)}
        texts = submit.texts(wanted.folder, wanted.table.name, waits, resources, environment)
        lines += ["", *(line for name, text in texts.items() for line in (f"--- sbatch: {name}", text))]
    return "\n".join([*lines, "Dry run: nothing was made or submitted."])


def _row(wanted: Sweep, row: str) -> str:
    folds = launching.join(wanted.rows[row].todo()) or "none"
    return f"folds {folds}; {sweep_file.keys_in_words(wanted.table.own(row)) or 'as the base'}"


def resume_sweep(folder: Path, overrides: list[str], asked: LaunchOptions, dry_run: bool, trust: bool) -> None:
    """Go on with the unfinished folds of all rows."""
    table = sweep_file.table_of(folder)
    places = {row: runs.read(folder / row).path / "config.yaml" for row in table.rows}
    settings = {row: identity.absolute(configs.load(place, overrides)) for row, place in places.items()}
    carry_out_sweep(plan_sweep(folder, table, settings, asked, resume=True, trust=trust), dry_run)


def cancel_sweep(folder: Path) -> list[str]:
    """End the array and its report, and what was launched of single rows; returns what was ended."""
    left, told = left_in(folder, sweep_file.table_of(folder).rows)
    jobs = {place: told.query(one.jobs.values(), one.folder(place)) for place, one in left.items()}
    after = [name for place, one in left.items() for name in commands.live_jobs(jobs[place], one.followers)]
    folds = {commands.base(name): None for each in jobs.values() for name, job in each.items() if job.live}
    arrays = [name for name in folds if name not in after]
    commands.cancel_jobs(*after)  # first: the report would start as soon as the folds have ended
    commands.cancel_jobs(*arrays)
    return [*arrays, *after]
