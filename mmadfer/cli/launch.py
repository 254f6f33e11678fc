"""Train the folds on SLURM or on this machine, and report on them.

`python launch/five_fold.py CONFIG`, or the same as `mmadfer launch CONFIG`.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from mmadfer.cli import launch_control, launch_options, launch_sweep
from mmadfer.config import identity
from mmadfer.config import schema as configs
from mmadfer.config.folds import parse_folds
from mmadfer.config.schema import Config
from mmadfer.errors import RunError
from mmadfer.launch import chain, plan
from mmadfer.launch.launching import Launch
from mmadfer.run.launch_record import LaunchOptions


@launch_options.with_options
def launch(
    config: Annotated[
        list[str], typer.Argument(help="Configuration file, or the name of a shipped one; of a chain, all in order.")
    ],
    *,
    overrides: launch_options.Set = None,
    run: Annotated[
        Path | None, typer.Option(help="Run directory (default: runs/NAME-TIME); of a chain, the folder of its runs.")
    ] = None,
    estimate: launch_options.EstimateOption = False,
    dry_run: launch_options.DryRun = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the unfinished folds of --run.")] = False,
    trust_code: launch_options.Trust = False,
    asked: LaunchOptions,
) -> None:
    """Train the folds as an array of jobs, then report on them.

    With several configurations, each is a run of its own, DIR/NAME, and may name an earlier one as the run that it
    begins from (`stages.init`) or learns from (`stages.teacher`): its folds wait for the same folds there.

    `mmadfer launch status RUN`, `launch cancel RUN` and `launch resume RUN` take it from there, and `launch sweep FILE`
    trains many configurations at once; each has its --help.
    """
    from mmadfer.data import training_files  # late, as all that brings NumPy: --help and status need none

    loaded = [configs.load(one, overrides or ()) for one in config]
    if resume and run is None:
        raise RunError("--resume needs --run: say which run to go on with")
    place = launch_options.run_folder(run, loaded[-1].name)

    def planned(run: Path, own: Config, after: tuple[Launch, ...] = ()) -> Launch:
        settings = training_files.from_store(identity.absolute(own))
        chosen = parse_folds(asked.folds, settings)
        resources = plan.resources(chosen, asked)
        return Launch(run, settings, chosen, resources, resume, bool(asked.export), trust_code, after)

    if len(loaded) == 1:
        launch_options.carry_out(planned(place, loaded[0]), dry_run, estimate)
        return
    if estimate:
        raise RunError("--estimate measures one run: give one configuration")
    tasks: list[Launch] = []
    for own in chain.linked(loaded, place):
        tasks.append(planned(place / own.name, own, tuple(tasks)))
    launch_options.carry_out_chain(place, tasks, dry_run)


class _Group(typer.core.TyperGroup):
    """`launch CONFIG` beside `launch status RUN`: what is no command is a configuration."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command of the first word, or the launch itself with all words."""
        known = bool(args) and args[0] in self.commands
        return super().resolve_command(ctx, args if known else ["CONFIG", *args])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Leave all words, options too, to the command that they choose."""
        if not args:
            args = ["--help"]
        return list(super().parse_args(ctx, ["--", *args]))


app = typer.Typer(cls=_Group, add_completion=False, pretty_exceptions_enable=False, help="Train the folds, and report.")
app.command("CONFIG", hidden=True)(launch)
app.command()(launch_sweep.sweep)
app.command()(launch_control.status)
app.command()(launch_control.cancel)
app.command()(launch_control.resume)
