"""The options that `launch`, `launch sweep` and `launch resume` share, and what is done with them."""

import os
import time
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from mmadfer.errors import RunError
from mmadfer.launch import chain, launching
from mmadfer.run.launch_record import LaunchOptions
from mmadfer.utils.terminal import one_line, say

Set = Annotated[list[str] | None, typer.Option("--set", help="Override a configuration key: train.lr=3e-4.")]
EstimateOption = Annotated[
    bool, typer.Option("--estimate", help="Measure a few steps, tell what the folds would take, and start none.")
]
Trust = Annotated[
    bool, typer.Option("--trust-code", help="Run the run's own copy of the code, though it is not the installed code.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show everything, make and submit nothing.")]

_EXPORT = "Afterwards export each finished fold to RUN/export/fold-K.onnx, with parity (of a sweep, row by row)."
_SLURM = Annotated[str | None, typer.Option(rich_help_panel="SLURM")]
_SHARED: dict[str, Any] = {
    "folds": Annotated[str | None, typer.Option(help="Folds to train: 1-5 or 1,3 (default: all).")],
    "cluster": Annotated[str | None, typer.Option(help="local or slurm (default: slurm where a cluster answers).")],
    "gpus": Annotated[int | None, typer.Option("--gpus-per-fold", min=0, help="GPUs of a fold; one rank each.")],
    "nodes": Annotated[int | None, typer.Option("--nodes-per-fold", min=1, help="Nodes of a fold (default: 1).")],
    "cpus": Annotated[int | None, typer.Option("--cpus-per-fold", min=1, help="CPU cores of a fold.")],
    "parallel": Annotated[
        int | None, typer.Option("--array-parallelism", min=1, help="Folds at a time (default: as GPUs allow).")
    ],
    "time": Annotated[str | None, typer.Option(help="Time limit of a job: 480 or 8:00:00.")],
    **dict.fromkeys(("partition", "account", "qos", "constraint"), _SLURM),
    "export": Annotated[bool | None, typer.Option("--export/--no-export", help=_EXPORT)],
}
"""The fields of `LaunchOptions` as options of the command line."""


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each field of `LaunchOptions`, which it takes as its parameter `asked`."""

    @wraps(command)
    def given(**values: Any) -> None:
        asked = LaunchOptions(**{name: values.pop(name) for name in _SHARED})
        command(**values, asked=asked)

    shared = [Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=kind) for name, kind in _SHARED.items()]
    own = signature(command, eval_str=True)
    kept = [value for name, value in own.parameters.items() if name != "asked"]
    given.__signature__ = own.replace(parameters=[*kept, *shared])  # type: ignore[attr-defined]
    return given


def run_folder(run: Path | None, name: str) -> Path:
    """The absolute run directory: the one that was asked for, or a new one.

    Raises:
        RunError: jobs could not import from there.
    """
    found = (run or Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}").absolute()
    check_path(found)
    return found


def check_path(run: Path) -> None:
    """Refuse a run directory in which jobs would not keep to it.

    Raises:
        RunError: its path parts PYTHONPATH, or has what SLURM or submitit put a job's number in place of.
    """
    if wrong := {os.pathsep, "%", "\\"} & {*str(run)}:
        raise RunError(
            f"{run}: a run's path must not have {wrong.pop()!r} in it, for its jobs would go elsewhere: choose another "
            "--run"
        )
    if not one_line(str(run)):
        raise RunError(f"{str(run)!r}: a run's path must be one line of plain text: choose another --run")


def _check(wanted: launching.Launch) -> None:
    """Refuse what cannot work; raises as `carry_out`."""
    from mmadfer.data import training_files

    check_path(wanted.run)
    training_files.check_files(wanted.config, wanted.todo(), {one.run: one.config for one in wanted.after}, wanted.run)


def carry_out(wanted: launching.Launch, dry_run: bool, estimate: bool = False) -> None:
    """Start a launch, or show what it would do, or what it would take.

    Raises:
        ConfigError, DataError: a file that training needs is not there, or cannot be used.
        RunError: the run cannot be launched.
    """
    if estimate and (dry_run or wanted.resume):
        raise RunError(
            "--estimate measures a new run in a job of its own: leave out --resume, and --dry-run, which starts no job"
        )
    _check(wanted)
    if estimate:
        from mmadfer.launch.estimate import measure_and_estimate as measure

        say(measure(wanted))
    elif dry_run:
        from mmadfer.launch.dry_run import describe_launch

        say(describe_launch(wanted))
    elif code := launching.start_launch(wanted):
        raise typer.Exit(code)


def carry_out_chain(folder: Path, tasks: Sequence[launching.Launch], dry_run: bool) -> None:
    """Start a chain, or show what it would do; raises as `carry_out`, before anything is made."""
    for task in tasks:
        _check(task)
    if dry_run:
        from mmadfer.launch.dry_run import describe_launch

        say("\n\n".join(map(describe_launch, tasks)))
    elif code := chain.start(folder, tasks):
        raise typer.Exit(code)
