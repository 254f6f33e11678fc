"""One launch from its beginning to its end, here or on SLURM."""

import os
import shlex
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mmadfer.config.schema import Config
from mmadfer.errors import RunError
from mmadfer.launch import in_use, parents, plan
from mmadfer.launch.jobs import FoldJob
from mmadfer.launch.resources import Resources
from mmadfer.launch.slurm import commands
from mmadfer.launch.slurm.dependencies import Waits
from mmadfer.run import code_snapshot, launch_record
from mmadfer.run import directory as runs
from mmadfer.run.lock import lock
from mmadfer.run.owner import this_process
from mmadfer.utils.files import own_folder
from mmadfer.utils.optional import need
from mmadfer.utils.terminal import say

INTERRUPTED = 130
"""Exit code."""


@dataclass(frozen=True)
class Launch:
    """Everything that a launch needs to know."""

    run: Path
    config: Config
    folds: list[int]
    resources: Resources
    resume: bool
    export: bool = False
    trust: bool = False
    """Whether the run's copy of the code may be another than the installed code."""
    after: tuple["Launch", ...] = ()
    """Launches that come before it in the same command, and that it may begin or learn from."""

    @property
    def environment(self) -> dict[str, str]:
        """Variables of every job."""
        return code_snapshot.environment(self.run)

    def todo(self) -> list[int]:
        """Folds that are not finished yet."""
        return [fold for fold in self.folds if runs.result(runs.fold_dir(self.run, fold)) is None]

    def jobs(self) -> list[FoldJob]:
        """The jobs of these folds."""
        return plan.jobs(self.run, self.todo(), self.resources)

    def waits(self) -> Waits:
        """The jobs that each fold waits for; raises as `parents.waits`."""
        return parents.waits(self.config, self.todo(), {one.run: (one.config, one.todo()) for one in self.after})

    def record(self) -> launch_record.LaunchRecord:
        """What is left in the run for status, cancel and resume."""
        launcher = this_process() if self.resources.cluster == "local" else None
        return launch_record.LaunchRecord(self.folds, self.resources.options(export=self.export), launcher=launcher)


def start_launch(task: Launch) -> int:
    """Carry out a launch; on SLURM it is submitted, here it is waited for. Returns the exit code.

    Raises:
        RunError: the run is live already, cannot be made, waits for what nobody trains, or SLURM does not take a job.
        MissingDependencyError: submitit is not installed.
    """
    check_launch(task)
    make_run(task)
    return go(task)


def check_launch(task: Launch) -> None:
    """Refuse what cannot be launched before anything is made; raises as `start_launch`."""
    need("submitit", "train")
    if task.resources.cluster == "slurm":
        from mmadfer.launch.slurm import submit

        submit.refuse_without_slurm()
        task.waits()
    in_use.refuse_live(task.run)
    told_of_code(task.run, task.trust)


def make_run(task: Launch) -> None:
    """Make the run, or open the one that is there; raises as `start_launch`."""
    runs.create(task.run, task.config, task.resume)
    code_snapshot.take_copy(task.run)


def go(task: Launch) -> int:
    """Submit what is prepared, or train it here; returns and raises as `start_launch`."""
    return _on_slurm(task) if task.resources.cluster == "slurm" else here(task)


def told_of_code(run: Path, trust: bool) -> None:
    """Check the run's copy of the code, and say where another one is run; raises as `check_copy`."""
    if changed := code_snapshot.check_copy(run, trust):
        say(f"note: {run / 'code'} differs from the installed code in {len(changed)} files ({changed[0]}, ...).")
        say("The run goes on with this copy; remove it to use the installed code.")


def here(task: Launch) -> int:
    """Train on this machine; exit code 0 if every fold is finished."""
    from mmadfer.launch import follow
    from mmadfer.launch import local as on_local

    with _claimed(task):
        task.record().write(task.run)
    resources = task.resources
    say(f"run {task.run}\n  from elsewhere: {command('status', task.run)}")
    limits = {"parallel": resources.parallel, "minutes": resources.minutes}
    folds = on_local.LocalFolds(task.run, task.jobs(), task.environment, **limits)
    show = follow.Follower(task.run, task.todo(), task.config.train.epochs, task.config.task.spec)
    try:
        with stoppable():
            failed = on_local.train_here(folds, show)
    except KeyboardInterrupt:
        say(f"\nStopped. To go on from the last checkpoints:\n  {command('resume', task.run)}")
        return INTERRUPTED
    if failed:
        say(f"Failed: fold {join(failed)}. When the cause is mended, go on with:\n  {command('resume', task.run)}")
    if len(failed) == len(task.folds):
        return 1
    _write_report(task.run)
    return max(int(bool(failed)), _export_here(task))


def _write_report(run: Path) -> None:
    """Write the report of what is finished."""
    from mmadfer.report import report as write

    write(run, {})


def _export_here(task: Launch) -> int:
    """Export in a process of its own, for the launcher loads no model; its exit code."""
    if not task.export:
        return 0
    command = [sys.executable, "-m", "mmadfer", "export", "run", str(task.run)]
    return subprocess.run(command, env={**os.environ, **task.environment}, check=False).returncode


def _on_slurm(task: Launch) -> int:
    from mmadfer.launch.slurm import submit

    with _claimed(task) as last:
        if last:  # what still waits for folds of an earlier launch would report on these too early
            commands.cancel_jobs(*commands.live_jobs(in_use.asked(task.run, last, {}), last.followers))
        run, name, made = task.run, task.config.name, task.record()
        with explain_submission(run):
            if jobs := task.jobs():
                waiting = replace(task, after=()).waits()  # what came before it has been submitted by now
                made = submit.submit_array(run, name, jobs, waiting, task.resources, task.environment, made)
            else:
                _write_report(run)
                made = submit.submit_export(run, name, task.resources, task.environment, made)
    say_submitted("run", run, made.jobs, "it")
    return 0


def say_submitted(what: str, folder: Path, jobs: dict[str, str], which: str) -> None:
    """Say which jobs of SLURM's were submitted, and how to go on with `which`."""
    say("\n".join([f"{what} {folder}", *(f"  {job}: SLURM job {number}" for job, number in jobs.items())]))
    say(f"Logs are in {folder / 'jobs'}. To follow, end, and go on with {which}:")
    say("\n".join(f"  {command(word, folder)}" for word in ("status", "cancel", "resume")))


@contextmanager
def _claimed(task: Launch) -> Iterator[launch_record.LaunchRecord | None]:
    """Of launches that come together, one at a time looks whether the run is live, and leaves its own record."""
    with lock(own_folder(task.run / "jobs"), "launched"):
        in_use.refuse_live(task.run)
        clear_jobs(task.run / "jobs")
        yield launch_record.read(task.run)


def clear_jobs(folder: Path) -> None:
    """Make a folder of jobs safe to start jobs in, of which none is live: they open files there by guessable names.

    Pickles go: a new job with the number of an old one could load them.

    Raises:
        RunError: something in it is neither a file nor a folder.
    """
    for path in folder.iterdir():
        kind = path.lstat().st_mode
        if path.name[0] != "." and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):  # submitit keeps links itself
            raise RunError(f"{path} is a link or no regular file, and a job may write to it: remove it")
        if path.suffix == ".pkl":
            path.unlink()


@contextmanager
def explain_submission(run: Path) -> Iterator[None]:
    """Where SLURM refuses a job after it has taken others, the error says which, and how to end them."""
    before = launch_record.read(run)
    try:
        yield
    except RunError as error:
        left = launch_record.read(run)
        if left is None or left == before or not left.jobs:
            raise
        taken = ", ".join(f"{name} (job {job})" for name, job in left.jobs.items())
        raise RunError(f"{error}. It has taken {taken}: `{command('cancel', run)}` ends them") from error


def command(word: str, run: Path) -> str:
    """The words that a user types: status, cancel or resume."""
    return shlex.join(["mmadfer", "launch", word, str(run)])


def join(items: object) -> str:
    """Items as people list them."""
    return ", ".join(map(str, items)) if isinstance(items, list | tuple) else str(items)


@contextmanager
def stoppable() -> Iterator[None]:
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
