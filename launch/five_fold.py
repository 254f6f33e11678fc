"""Train five folds on SLURM or on this machine, and report on them.

`python launch/five_fold.py CONFIG`, or the same as `mmadfer launch CONFIG`.
"""

import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from mmadfer import config as configs
from mmadfer import run as runs
from mmadfer.config import Config
from mmadfer.errors import RunError
from mmadfer.launch import plan, snapshot
from mmadfer.launch.job import FoldJob

SLURM = "SLURM"
"""Name of the help panel."""


@dataclass(frozen=True)
class Launch:
    """Everything that a launch needs to know."""

    run: Path
    config: Config
    folds: list[int]
    resources: plan.Resources
    resume: bool

    @property
    def environment(self) -> dict[str, str]:
        """Variables of every job."""
        return snapshot.environment(self.run)

    def todo(self) -> list[int]:
        """Folds that are not finished yet."""
        return [fold for fold in self.folds if runs.result(runs.fold_dir(self.run, fold)) is None]

    def jobs(self) -> list[FoldJob]:
        """The jobs of these folds."""
        return plan.jobs(self.run, self.todo(), self.resources)


def launch(
    config: Annotated[str, typer.Argument(help="Configuration file, or the name of a shipped one.")],
    *,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a configuration key: train.lr=3e-4.")
    ] = None,
    folds: Annotated[str | None, typer.Option(help="Folds to train: 1-5 or 1,3 (default: all).")] = None,
    run: Annotated[Path | None, typer.Option(help="Run directory (default: runs/NAME-TIME).")] = None,
    cluster: Annotated[str | None, typer.Option(help="local or slurm (default: slurm where there is one).")] = None,
    gpus: Annotated[int | None, typer.Option("--gpus-per-fold", min=0, help="GPUs of a fold; one rank each.")] = None,
    cpus: Annotated[int | None, typer.Option("--cpus-per-fold", min=1, help="CPU cores of a fold.")] = None,
    nodes: Annotated[int, typer.Option("--nodes-per-fold", min=1, help="Nodes of a fold.")] = 1,
    parallel: Annotated[
        int | None,
        typer.Option("--array-parallelism", min=1, help="Folds at a time (default: as GPUs allow)."),
    ] = None,
    time: Annotated[str | None, typer.Option(help="Time limit of a job: 480 or 8:00:00.")] = None,
    partition: Annotated[str | None, typer.Option(rich_help_panel=SLURM)] = None,
    account: Annotated[str | None, typer.Option(rich_help_panel=SLURM)] = None,
    qos: Annotated[str | None, typer.Option(rich_help_panel=SLURM)] = None,
    constraint: Annotated[str | None, typer.Option(rich_help_panel=SLURM)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show everything, make and submit nothing.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the unfinished folds of --run.")] = False,
) -> None:
    """Train the folds as an array of jobs, then report on them."""
    settings = runs.absolute(configs.load(config, overrides or ()))
    chosen = plan.parse_folds(folds, settings)
    wanted = {"gpus": gpus, "nodes": nodes, "cpus": cpus, "parallel": parallel, "time": time}
    where = {"partition": partition, "account": account, "qos": qos, "constraint": constraint}
    resources = plan.resources(settings, chosen, cluster, **wanted, **where)
    runs.check_files(settings)
    task = Launch(_place(run, settings, resume), settings, chosen, resources, resume)
    if dry_run:
        print(describe(task))
        return
    code = _on_slurm(task) if resources.cluster == "slurm" else _here(task)
    if code:
        raise typer.Exit(code)


def describe(task: Launch) -> str:
    """What a dry run prints: the run, the code, the jobs and their environment, and on SLURM the sbatch files."""
    resources, todo = task.resources, task.todo()
    done = sorted(set(task.folds) - set(todo))
    lines = [
        f"run          {task.run}",
        f"config       {task.config.name}: {task.config.train.epochs} epochs, batch {task.config.train.batch_size}",
        f"code         {len(snapshot.sources())} files, copied to {task.run / 'code'}",
        f"folds        {_join(todo) or 'none'} ({resources.parallel} at a time, {resources.cluster})",
        *([f"finished     {_join(done)}: not trained again"] if done else []),
        *(f"environment  {key}={value}" for key, value in task.environment.items()),
    ]
    ranks = resources.ranks_per_node * resources.nodes
    for job in task.jobs():
        gpus = _join(job.devices or ()) or "none" if resources.cluster == "local" else str(resources.gpus)
        lines.append(
            f"job          fold {job.fold}: {ranks} rank(s), GPUs {gpus}, {job.threads} CPU thread(s) per rank"
        )
    lines.append("report       when all folds have ended")
    if resources.cluster == "slurm" and todo:
        from mmadfer.launch import on_slurm

        array, after = on_slurm.texts(task.run, task.config.name, len(todo), resources, task.environment)
        lines += ["", "--- sbatch: folds", array, "--- sbatch: report", after]
    return "\n".join([*lines, "Dry run: nothing was made or submitted."])


def _place(run: Path | None, config: Config, resume: bool) -> Path:
    if run is not None:
        return run.absolute()
    if resume:
        raise RunError("--resume needs --run: say which run to go on with")
    return Path("runs").absolute() / f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}"


def _prepare(task: Launch) -> None:
    runs.create(task.run, task.config, task.resume)
    kept = (task.run / "code").is_dir()
    snapshot.take(task.run)
    changed = snapshot.changed(task.run) if kept else []
    if changed:
        print(f"note: {len(changed)} files of the code have changed since the run began ({changed[0]}, ...).")
        print(f"The run goes on with its own copy; remove {task.run / 'code'} to use the present code.")


def _here(task: Launch) -> int:
    """Train on this machine; exit code 0 if every fold is finished."""
    from mmadfer.launch import follow, on_local

    _prepare(task)
    resources = task.resources
    print(f"run {task.run}", flush=True)
    limits = {"parallel": resources.parallel, "minutes": resources.minutes}
    folds = on_local.LocalFolds(task.run, task.jobs(), task.environment, **limits)
    show = follow.Follower(task.run, task.todo(), task.config.train.epochs)
    try:
        with _stoppable():
            failed = on_local.train_here(folds, show)
    except KeyboardInterrupt:
        print(f"\nStopped. To go on from the last checkpoints:\n  {_again(task)}")
        return 130
    if failed:
        print(f"Failed: fold {_join(failed)}. When the cause is mended, go on with:\n  {_again(task)}")
    if len(failed) < len(task.folds):
        _report(task.run)
    return 1 if failed else 0


def _report(run: Path) -> None:
    from mmadfer.report import report

    report(run, {})


def _on_slurm(task: Launch) -> int:
    from mmadfer.launch import on_slurm

    on_slurm.refuse_without_slurm()
    _prepare(task)
    jobs = task.jobs()
    if not jobs:
        _report(task.run)
        return 0
    ids = on_slurm.submit(task.run, task.config.name, jobs, task.resources, task.environment)
    print(f"run {task.run}")
    for name, job in ids.items():
        print(f"  {name}: SLURM job {job}")
    print(f"Logs are in {task.run / 'jobs'}; `mmadfer report {task.run}` shows at any time how far it is.")
    return 0


def _again(task: Launch) -> str:
    resources = task.resources
    options = {
        "folds": ",".join(map(str, task.folds)),
        "run": task.run,
        "cluster": resources.cluster,
        "gpus-per-fold": resources.gpus,
        "cpus-per-fold": resources.cpus,
        "array-parallelism": resources.parallel,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return shlex.join(["mmadfer", "launch", str(task.run / "config.yaml"), *words, "--resume"])


def _join(items: object) -> str:
    return ", ".join(map(str, items)) if isinstance(items, list | tuple) else str(items)


@contextmanager
def _stoppable() -> Iterator[None]:
    """While folds train, a polite end of this process is an interrupt, so that no fold is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGHUP) if os.name == "posix" else (signal.SIGTERM,)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    from mmadfer.cli import run as run_application

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(launch)
    sys.exit(run_application(app))
