"""`mmadfer launch CONFIG CONFIG ...`: a chain of runs, and what is done with it."""

from collections.abc import Sequence
from pathlib import Path

import typer

from mmadfer.cli import launch_options
from mmadfer.launch import chain
from mmadfer.launch.launching import Launch
from mmadfer.utils.terminal import say


def carry_out(folder: Path, tasks: Sequence[Launch], dry_run: bool) -> None:
    """Start a chain, or show what it would do; raises as `launch_options.carry_out`, before anything is made."""
    for task in tasks:
        launch_options.check(task)
    if dry_run:
        from mmadfer.launch.dry_run import describe_launch

        say("\n\n".join(map(describe_launch, tasks)))
    elif code := chain.start(folder, tasks):
        raise typer.Exit(code)
