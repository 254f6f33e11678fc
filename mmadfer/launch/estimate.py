"""`mmadfer launch CONFIG --estimate`: a few steps where the folds would train, and what whole folds would take.

The measurement is one job with a fold's own resources. It has a folder of its own beside the run, which goes with it,
also after an interrupt. A launcher that is killed leaves both: `.estimate-*`, and on SLURM the job NAME-estimate.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from rich.markup import escape

from mmadfer.errors import RunError
from mmadfer.launch import extrapolate, follow, local, plan
from mmadfer.launch.jobs import MeasureJob
from mmadfer.launch.launching import Launch, stoppable
from mmadfer.launch.slurm import commands, parameters, submit
from mmadfer.run import code_snapshot, measurement
from mmadfer.run import directory as runs
from mmadfer.run.measurement import Measured
from mmadfer.utils.console import Console
from mmadfer.utils.terminal import say

ASK = (0.5, 10.0)
"""Seconds between the first two questions to SLURM, and at most."""
SETTLE_SECONDS = 30.0
"""Seconds for a shared file system to show a result, and for a cancelled job to leave."""
DONE = ("finished", "COMPLETED")
"""States of a job that leaves a result, here and in SLURM."""
MINUTES, MINUTES_CPU = 30, 60
"""Most that the measurement asks SLURM for, with and without GPUs: a short job finds a gap before a long one."""
_MAX_SHOWN = 3
"""Ranks whose last words are shown."""
_FAILED_ELSEWHERE = "log says why"
"""Words of a rank that has failed because another one has."""
Say = Callable[[str], None]


def measure_and_estimate(task: Launch) -> str:
    """Measure, and return what the launch would take, in words; an interrupt ends the measurement.

    Raises:
        RunError: SLURM does not take the job, or the measurement fails; says why.
    """
    if task.resources.cluster == "slurm":
        submit.refuse_without_slurm()
    with stoppable(), _beside(task.run) as folder:
        found = _measure(task, folder)
        free = shutil.disk_usage(folder).free
    return extrapolate.describe_estimate(
        found, task.config, task.resources, task.export, free, plan.places(task.resources)
    )


def _measure(task: Launch, folder: Path) -> Measured:
    runs.create(folder, task.config)
    code_snapshot.take_copy(folder)
    (one,) = plan.jobs(folder, task.folds[:1], task.resources)
    job = MeasureJob(**vars(one), folds=tuple(task.folds))
    with _waiting() as say:
        state = (_slurm if task.resources.cluster == "slurm" else _local)(task, job, folder, say)
        found = _result(runs.fold_dir(folder, job.fold), SETTLE_SECONDS if state in DONE else 0)
    if found is None:
        why = _reason(folder, job.fold)
        raise RunError(
            f"the measurement has ended ({state}): {why}\nNo fold was started, and nothing is left behind, also no "
            "file that is named above; the same launch without --estimate keeps its logs"
        )
    return found


def _local(task: Launch, job: MeasureJob, folder: Path, say: Say) -> str:
    """Measure here; the last state of the job."""
    environment = code_snapshot.environment(folder)
    folds = local.LocalFolds(folder, [job], environment, parallel=1, minutes=task.resources.minutes)
    say("measuring on this machine; ctrl-C ends it")
    try:
        while (state := folds.poll()[job.fold]) in ("queued", "running"):
            time.sleep(local.POLL)
    except BaseException:
        folds.cancel()
        raise
    return state


def _slurm(task: Launch, job: MeasureJob, folder: Path, say: Say) -> str:
    """Measure in a job of SLURM; its last state."""
    most = MINUTES if task.resources.gpus else MINUTES_CPU
    short = replace(task.resources, minutes=min(task.resources.minutes, most))
    wanted = parameters.slurm_parameters(f"{task.config.name}-estimate", short, code_snapshot.environment(folder))
    number = None
    try:
        number = submit.one(folder, job, wanted)
        return _followed(number, folder / "jobs", say)
    except BaseException:
        if number:
            _cancel(number)
        raise


def _followed(number: str, logs: Path, say: Say) -> str:
    pause = ASK[0]
    while True:
        try:
            found = commands.query([number], logs).get(number)
        except RunError as error:
            say(f"SLURM job {number}: {error}")
        else:
            if found is None or not found.live:
                return found.state if found else "forgotten by SLURM"
            if found.stuck:
                raise RunError(f"SLURM cannot start the measurement: {found.reason}. Choose other options")
            where = f" on {found.nodes}" if found.nodes else f" ({found.reason})" if found.reason else ""
            say(f"measuring in SLURM job {number}: {found.state.lower()}{where}; ctrl-C cancels it")
        time.sleep(pause)
        pause = min(ASK[1], 1.5 * pause)


def _cancel(number: str) -> None:
    """End the job, and wait for it to leave its folder."""
    try:
        commands.cancel_jobs(number)
    except RunError as error:
        raise RunError(f"SLURM job {number} is left; `scancel {number}` ends it: {error}") from error
    end = time.monotonic() + SETTLE_SECONDS
    with suppress(RunError):  # it is cancelled, whether SLURM goes on answering or not
        while commands.live_jobs(commands.query([number]), [number]) and time.monotonic() < end:
            time.sleep(ASK[0])


def _result(folder: Path, patience: float) -> Measured | None:
    end = time.monotonic() + patience
    while (found := measurement.read(folder)) is None and time.monotonic() < end:
        time.sleep(ASK[0])
    return found


def _reason(folder: Path, fold: int) -> str:
    """What the job said itself, or the ends of its ranks' logs."""
    told = runs.failure(runs.fold_dir(folder, fold))
    plain = str(told["reason"]) if told and told.get("plain") else ""
    if plain and _FAILED_ELSEWHERE not in plain:
        return plain
    return "\n".join(_ends(folder / "jobs")) or plain or "it wrote nothing"


def _ends(logs: Path) -> list[str]:
    """The ends of ranks' logs, one of those with the same last line; of ranks that only lost another, if all did."""
    ends: dict[str, str] = {}
    for rank, path in sorted((int(path.name.split("_")[-2]), path) for path in logs.glob("*_log.err")):
        words, _ = follow.last_lines([path, path.with_suffix(".out")])
        if words:
            ends.setdefault(words.splitlines()[-1], f"the end of rank {rank}'s log is\n{words}")
    return ([text for text in ends.values() if _FAILED_ELSEWHERE not in text] or list(ends.values()))[:_MAX_SHOWN]


@contextmanager
def _beside(run: Path) -> Iterator[Path]:
    """A new folder on the file system where the run would lie; it goes, and so do folders that were made for it."""
    made = [folder for folder in run.parents if not folder.exists()]
    run.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".estimate-", dir=run.parent))
    try:
        yield folder
    finally:
        _remove(folder)
        for parent in made:
            with suppress(OSError):  # another process has put something into it
                parent.rmdir()


def _remove(folder: Path) -> None:
    """Delete it; a rank that is just ending may write once more."""
    for _ in range(10):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(ASK[0])
    say(f"note: {folder} could not be removed as a whole: delete it", err=True)


@contextmanager
def _waiting() -> Iterator[Say]:
    """Says what is being waited for (stderr): on a terminal in one line with a sign of life, else a line for each."""
    console, told = Console(stderr=True), [""]
    with console.status("", spinner="line") if console.is_terminal else nullcontext() as status:

        def tell(text: str) -> None:
            if status:
                status.update(escape(text))
            elif text != told[-1]:
                say(text, err=True)
                told.append(text)

        yield tell
