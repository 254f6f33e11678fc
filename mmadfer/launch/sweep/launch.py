"""Many configurations at once: every row of a table, each over all its folds, as one SLURM array.

`python launch/sweep.py TABLE`, or the same as `mmadfer launch sweep TABLE`.

DIR/sweep.yaml     what was asked for, with everything resolved; written last: with it the sweep is whole
DIR/code           one copy of the code
DIR/jobs           the array's job files and logs, and the sweep's own launch.json: `array` and `report`
DIR/ROW/           an ordinary run, whose `code` is a link; its launch.json names its own elements of the array
DIR/report/        sweep.json, sweep.md
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from mmadfer.config.folds import parse_folds
from mmadfer.config.schema import Config
from mmadfer.config.sweep import FILE, SweepTable
from mmadfer.errors import ConfigError, DataError, MmadferError, RunError
from mmadfer.launch import in_use, launching, plan
from mmadfer.launch.resources import Resources
from mmadfer.launch.slurm import cached_query, commands, parameters
from mmadfer.launch.sweep import report as sweep_report
from mmadfer.run import code_snapshot
from mmadfer.run import directory as runs
from mmadfer.run import launch_record as records
from mmadfer.run.launch_record import LaunchOptions, LaunchRecord
from mmadfer.run.lock import LOCK_FILE, lock
from mmadfer.run.owner import this_process
from mmadfer.utils.files import own_folder, write_text
from mmadfer.utils.terminal import say


@dataclass(frozen=True)
class Sweep:
    """The rows that are launched together."""

    folder: Path
    table: SweepTable
    rows: dict[str, launching.Launch]
    resources: Resources
    """Of the one array; on this machine, of the row with most folds."""
    folds: str | None = None
    """As in `--folds`."""
    resume: bool = False
    trust: bool = False
    """As of `Launch`."""

    @property
    def environment(self) -> dict[str, str]:
        """Variables of every job."""
        return code_snapshot.environment(self.folder)

    def record(self) -> LaunchRecord:
        """What is left in the sweep for status, cancel and resume."""
        launcher = this_process() if self.resources.cluster == "local" else None
        folds = sorted({fold for one in self.rows.values() for fold in one.folds})
        return LaunchRecord(folds, self.resources.options(folds=self.folds), launcher=launcher)


def plan_sweep(
    folder: Path,
    table: SweepTable,
    settings: dict[str, Config],
    asked: LaunchOptions,
    *,
    resume: bool = False,
    trust: bool = False,
) -> Sweep:
    """A sweep of these rows.

    Raises:
        ConfigError, DataError: a file that training needs is not there, or cannot be used; the row is named.
        RunError: as `plan.resources`; an export is asked for; or other folds of a row have read other sentences.
    """
    if asked.export:
        raise RunError(
            "a sweep is not exported as a whole: when a row is finished, `mmadfer launch resume DIR/ROW --export` "
            "exports its folds"
        )
    cluster = asked.cluster or ("slurm" if commands.present() else "local")
    settings = {row: _with_store(row, config) for row, config in settings.items()}
    chosen = {row: _of_row(row, config, asked.folds, folder / row) for row, config in settings.items()}
    together = max(chosen.values(), key=len) if cluster == "local" else [k for each in chosen.values() for k in each]
    whole = plan.resources(together, replace(asked, cluster=cluster))
    rows = {}
    for row, config in settings.items():
        own = replace(whole, parallel=min(whole.parallel, len(chosen[row])))
        rows[row] = launching.Launch(folder / row, config, chosen[row], own, resume, trust=trust)
    return Sweep(folder, table, rows, whole, asked.folds, resume, trust)


def check_code(sweep: Sweep) -> None:
    """Check all copies of the code: the sweep's, and of rows that have another; raises as `check_copy`."""
    own = sweep.folder / "code"
    others = (one.run for one in sweep.rows.values() if (one.run / "code").resolve() != own.resolve())
    for run in (sweep.folder, *others):
        launching.told_of_code(run, sweep.trust)


def _with_store(row: str, config: Config) -> Config:
    from mmadfer.data.training_files import from_store

    with _named(row):
        return from_store(config)


def _of_row(row: str, config: Config, folds: str | None, run: Path) -> list[int]:
    from mmadfer.data import training_files

    with _named(row):
        chosen = parse_folds(folds, config)
        todo = [fold for fold in chosen if runs.result(runs.fold_dir(run, fold)) is None]
        training_files.check_files(config, todo, run=run)
        return chosen


@contextmanager
def _named(row: str) -> Iterator[None]:
    """Errors that name the row."""
    try:
        yield
    except (ConfigError, DataError, RunError) as error:
        raise type(error)(f"row {row}: {error}") from error


def start_sweep(sweep: Sweep) -> int:
    """Carry out a sweep; on SLURM it is submitted, here it is waited for. Returns the exit code.

    Raises:
        RunError: a row is live, the folder is not empty, or SLURM does not take the array.
    """
    slurmed = sweep.resources.cluster == "slurm"
    if slurmed:
        from mmadfer.launch.slurm import submit

        submit.refuse_without_slurm()
        _refuse_more(sum(len(one.todo()) for one in sweep.rows.values()))
        _refuse_waiting(sweep)
    _refuse_live(sweep)
    _refuse_full(sweep)
    _prepare(sweep)
    return _on_slurm(sweep) if slurmed else _here(sweep)


def left_in(folder: Path, rows: Iterable[str]) -> tuple[dict[Path, LaunchRecord], cached_query.Once]:
    """The records of the last launches, of the sweep and of each row, and SLURM, asked at once for all their jobs."""
    places = (folder, *(folder / row for row in rows))
    left = {place: one for place in places if (one := records.read(place))}
    return left, cached_query.Once(number for one in left.values() for number in one.jobs.values())


def _refuse_live(sweep: Sweep) -> tuple[dict[Path, LaunchRecord], cached_query.Once]:
    left, told = left_in(sweep.folder, sweep.rows)
    for place in (sweep.folder, *(one.run for one in sweep.rows.values())):
        in_use.refuse_live(place, told)
    own = left.get(sweep.folder)
    array = own.jobs.get("array") if own else None
    jobs = told.query([array], own.folder(sweep.folder)) if own and array else {}
    if live := commands.live_jobs(jobs, jobs):  # of a launch that was killed before it wrote its rows' records
        raise RunError(
            f"{sweep.folder} is live (SLURM job {live[0]}): `{launching.command('cancel', sweep.folder)}` ends it"
        )
    return left, told


def _refuse_more(count: int) -> None:
    most = commands.array_limit()
    if most is not None and count > most:
        raise RunError(
            f"{count} folds are more than one array of this cluster may have ({most}, MaxArraySize): share the rows "
            "out over several files, or launch fewer --folds, and resume with the others when these have ended"
        )


def _refuse_waiting(sweep: Sweep) -> None:
    for row, one in sweep.rows.items():
        if jobs := [name for names in one.waits().values() for name in names]:
            raise RunError(
                f"row {row} begins or learns from folds that are not finished (SLURM job {jobs[0]}): a sweep waits for "
                "no other run, so launch it when they are"
            )


def _refuse_full(sweep: Sweep) -> None:
    folder = sweep.folder
    runs.refuse_file(folder)
    if not sweep.resume and folder.is_dir() and any(path.name != LOCK_FILE for path in folder.iterdir()):
        raise RunError(
            f"{folder} exists and is not empty: choose another --run; a sweep that is there goes on with "
            f"{launching.command('resume', folder)}"
        )


def _prepare(sweep: Sweep) -> None:
    """Make the sweep, or note in its rows that it goes on; of launches that come together, one makes it."""
    with lock(sweep.folder, "made"):
        _refuse_full(sweep)
        check_code(sweep)
        code = code_snapshot.take_copy(sweep.folder)
        for one in sweep.rows.values():
            runs.create(one.run, one.config, sweep.resume)
            code_snapshot.share(code, one.run)
        if not sweep.resume:
            write_text(sweep.folder / FILE, yaml.safe_dump(sweep.table.with_seeds(), sort_keys=False))


@contextmanager
def _claimed(sweep: Sweep) -> Iterator[tuple[dict[Path, LaunchRecord], cached_query.Once]]:
    """As a launch claims its run: the sweep, and all its rows, that no launch of one row comes between."""
    with ExitStack() as stack:
        folders = [place / "jobs" for place in (sweep.folder, *(one.run for one in sweep.rows.values()))]
        for jobs in folders:
            stack.enter_context(lock(own_folder(jobs), "launched"))
        found = _refuse_live(sweep)
        for jobs in folders:
            launching.clear_jobs(jobs)
        yield found


def _on_slurm(sweep: Sweep) -> int:
    with _claimed(sweep) as (left, told):
        # what still waits for folds of an earlier launch would report on these too early
        after = {place: told.query(one.followers, one.folder(place)) for place, one in left.items()}
        commands.cancel_jobs(*(name for jobs in after.values() for name, job in jobs.items() if job.live))
        with launching.explain_submission(sweep.folder):
            made = _submit(sweep)
    if not made.jobs:
        return _report(sweep)
    launching.say_submitted("sweep", sweep.folder, made.jobs, "it, or with one of its rows")
    return 0


def _submit(sweep: Sweep) -> LaunchRecord:
    """Submit the array and its report; each is written down as soon as SLURM has taken it."""
    from mmadfer.launch.slurm import submit

    folder, name, environment = sweep.folder, sweep.table.name, sweep.environment
    jobs = [(row, job) for row, one in sweep.rows.items() for job in one.jobs()]
    made, own = sweep.record(), {row: dict[str, str]() for row in sweep.rows}
    made.write(folder)  # where SLURM takes nothing, resume still knows the options
    if jobs:
        ids = submit.array(folder, name, [job for _, job in jobs], sweep.resources, environment)
        for (row, job), number in zip(jobs, ids, strict=True):
            own[row][f"fold {job.fold}"] = number
        made = made.noted(folder, {"array": commands.base(ids[0])})  # first: with it, cancel ends every row
    for row, one in sweep.rows.items():
        replace(one.record(), jobs=own[row], logs=str(folder / "jobs")).write(one.run)
    if jobs:
        after = parameters.report_parameters(name, sweep.resources, environment, made.jobs["array"])
        made = made.noted(folder, {"report": submit.one(folder, sweep_report.SweepReport(str(folder)), after)})
    return made


def _here(sweep: Sweep) -> int:
    """Train the rows on this machine, one after the other; one that fails does not stop the others."""
    with _claimed(sweep):
        sweep.record().write(sweep.folder)
    codes = [0]
    for row, one in sweep.rows.items():
        say(f"row {row}")
        try:
            codes.append(launching.here(one))
        except MmadferError as error:
            say(f"row {row}: {error}")
            codes.append(1)
        if codes[-1] == launching.INTERRUPTED:
            say(f"To go on with all rows:\n  {launching.command('resume', sweep.folder)}")
            return launching.INTERRUPTED
    return max(_report(sweep), *codes)


def _report(sweep: Sweep) -> int:
    say(sweep_report.write_sweep_report(sweep.folder))
    return 0
