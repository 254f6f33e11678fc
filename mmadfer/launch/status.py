"""How the folds of a run stand: what lies on disk, and what SLURM says of their jobs, asked once for all."""

import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from mmadfer.errors import RunError
from mmadfer.export import finished_folds
from mmadfer.launch import follow, in_use, launching
from mmadfer.launch.slurm import commands
from mmadfer.launch.slurm.cached_query import JobQuery
from mmadfer.run import directory as runs
from mmadfer.run import launch_record
from mmadfer.run.owner import Owner
from mmadfer.run.parents import lacking
from mmadfer.tasks.spec import TaskSpec
from mmadfer.utils.console import Console
from mmadfer.utils.durations import duration

ENDED = {
    "COMPLETED": "stopped",
    "CANCELLED": "cancelled",
    "TIMEOUT": "time limit",
    "PREEMPTED": "preempted",
    "NODE_FAIL": "node failed",
    "OUT_OF_MEMORY": "out of memory",
}
"""What SLURM calls the end of a job that left no result; all else is a failure."""
AGAIN = {
    "REQUEUED": "requeue",
    "PREEMPTED": "preemption",
    "NODE_FAIL": "node failure",
    "TIMEOUT": "time limit",
    "FAILED": "failure",
}
"""Why a job that waits has been queued again."""
TELLING = re.compile(
    r"[\w.]*(Error|Exception|Interrupt)\b"
    r"|srun: error: .*(Killed|Out Of Memory|Segmentation|Aborted|Bus error)"
    r"|slurmstepd: error: .*(DUE TO|oom)"
)
"""Lines at the end of a log that say why; srun has more to say after them."""
ENDS_STEP = "_step_signal: Terminating StepId="
"""What srun says when one task has failed, before it kills the others."""
_STATUS_STYLES = {"finished": "green", "running": "cyan", "queued": "dim", "not begun": "dim", "stopped": "yellow"}


@dataclass(frozen=True)
class FoldStatus:
    """One fold."""

    fold: int
    state: str
    """finished, running, queued, not begun, stopped, failed, cannot run, or what ended it."""
    detail: str = ""
    """Node, or the reason to wait."""
    job: str | None = None
    epoch: int = 0
    epochs: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    """Of the last epoch that was tested, by name."""
    left: float | None = None
    """Seconds of training that are left, by the last epoch."""
    limit: str = ""
    """Until SLURM's time limit."""
    restarts: int = 0
    words: str = ""
    """The last words of a failure."""
    log: str | None = None

    @property
    def live(self) -> bool:
        """Whether it runs, or may still run."""
        return self.state not in ("finished", "not begun", "stopped", "failed", *ENDED.values())


@dataclass(frozen=True)
class RunStatus:
    """A run."""

    run: Path
    cluster: str
    folds: list[FoldStatus]
    report: str
    export: str
    spec: TaskSpec
    note: str = ""
    parents: dict[str, str] = field(default_factory=dict)
    """The runs that its folds begin and learn from, by key of `stages`."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        own = {key: value for key, value in vars(self).items() if key != "spec"}
        return {**own, "run": str(self.run), "folds": [self._plain(fold) for fold in self.folds]}

    def _plain(self, fold: FoldStatus) -> dict[str, Any]:
        """With the task's scores beside the rest."""
        plain = asdict(fold)
        scores = plain.pop("scores")
        return plain | {name: scores.get(name) for name in self.spec.names}


def read_status(run: Path, told: JobQuery = commands) -> RunStatus:
    """How a run stands; where SLURM does not answer, what lies on disk. `told` may have asked it for many runs at once.

    Raises:
        RunError: it is not a run.
    """
    config, left, beating = runs.read(run).config, launch_record.read(run), in_use.live_folds(run)
    jobs, ends, note = _asked(run, left, beating, told)
    own, ids = in_use.trainers(left, jobs, beating), left.jobs if left else {}
    launched = left.folds if left and left.launching else []
    logs = left.folder(run) if left else run / "jobs"
    folds = []
    for fold in range(1, config.data.folds + 1):
        one, job = _on_disk(run, fold, config.train.epochs, config.task.spec), jobs.get(own.get(fold, ""))
        if one.state != "finished":
            one = _in_slurm(one, job, ends) if job else _here(one, beating.get(fold), fold in launched)
        one = _with_words(run, logs, replace(one, job=own.get(fold)))
        wanted = left is None or fold in left.folds
        folds.append(_with_parents(one, lacking(config, fold)) if wanted else one)
    page = run / "report" / "report.html"
    known = {} if note else ids
    report = follower(run, logs, known.get("report", ""), jobs, str(page) if page.is_file() else "")
    done = finished_folds.exported(run)
    export = follower(run, logs, known.get("export", ""), jobs, f"{len(done)} of {len(folds)} folds" if done else "")
    parents = {key: str(path) for key, path in config.stages.parents.items()}
    return RunStatus(run, left.cluster if left else "", folds, report, export, config.task.spec, note, parents)


def show_status(found: RunStatus, console: Console | None = None) -> None:
    """Print the table, then the last words of what failed."""
    lines = [
        line
        for one in found.folds
        if one.words
        for line in (f"fold {one.fold}: {one.words}", *([f"  {one.log}"] if one.log else []))
    ]
    last = {**found.parents, "report": found.report, "export": found.export, "note": found.note}
    print_status(found.run, _table(found), lines, last, found.folds, console)


def print_status(
    place: Path, table: Table, lines: list[str], last: dict[str, str], folds: list[FoldStatus], console: Console | None
) -> None:
    """Print a table of the folds, `lines` below it, what of `last` is not empty, and how to go on where none is live.

    Not on a terminal, a table has 160 columns.
    """
    console = console or Console()
    if not console.is_terminal:
        console = Console(width=160, file=console.file)
    console.print(table)
    lines = [*lines, *(f"{name:<7} {text}" for name, text in last.items() if text)]
    left = [one for one in folds if one.state != "finished"]
    if left and not last.get("note") and not any(one.live for one in left):  # what SLURM hides may be live
        lines.append(f"Go on with: {launching.command('resume', place)}")
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _asked(
    run: Path, left: launch_record.LaunchRecord | None, beating: dict[int, Owner], told: JobQuery
) -> tuple[dict[str, commands.SlurmJob], dict[str, str], str]:
    """The jobs, how those that were queued again had ended, and what kept SLURM from telling."""
    try:
        jobs = in_use.asked(run, left, beating, told)
        return jobs, told.last_ends(commands.again(jobs)), ""
    except RunError as error:
        return {}, {}, f"{error}; this is what lies on disk"


def _on_disk(run: Path, fold: int, epochs: int, spec: TaskSpec) -> FoldStatus:
    folder = runs.fold_dir(run, fold)
    view = follow.FoldView(fold, epochs, follow.Tail(folder / "metrics.jsonl"))
    view.advance("")
    get = view.latest.get
    one = FoldStatus(fold, "not begun", epoch=view.done, epochs=epochs, restarts=view.resumes)
    one = replace(one, scores={name: view.latest[name] for name in spec.names if name in view.latest})
    if result := runs.scored(folder, spec):
        scores = {name: result[name] for name in spec.names}
        return replace(one, state="finished", epoch=result["epoch"], scores=scores)
    if view.done and get("seconds"):
        one = replace(one, left=float(get("seconds", 0)) * (epochs - view.done))
    return replace(one, state="failed" if runs.failure(folder) else "stopped" if view.latest else "not begun")


def _in_slurm(one: FoldStatus, job: commands.SlurmJob, ends: dict[str, str]) -> FoldStatus:
    """What SLURM says of an unfinished fold goes before what lies on disk."""
    one = replace(one, restarts=max(one.restarts, job.restarts), limit=job.left if job.state == "RUNNING" else "")
    if job.stuck:
        words = f"`scontrol release {job.id}` lets it run; or end it with `mmadfer launch cancel`, and resume"
        return replace(one, state="cannot run", detail=job.reason, words=words if job.held else "")
    if job.state == "PENDING":
        after = f"after {AGAIN.get(ends.get(job.id, ''), 'restart')}: " if job.restarts else ""
        return replace(one, state="queued", detail=f"{after}{job.reason}")
    if job.live:
        return replace(one, state=job.state.lower(), detail=f"on {job.nodes}" if job.nodes else job.reason)
    return replace(
        one, state=ENDED.get(job.state, "failed"), detail="" if job.state in (*ENDED, "FAILED") else job.state
    )


def _here(one: FoldStatus, owner: Owner | None, launched: bool) -> FoldStatus:
    """An unfinished fold that SLURM knows nothing of."""
    if owner:
        where = f"process {owner.pid} on {owner.host}" if owner.token else str(owner)
        return replace(one, state="running", detail=where)
    return replace(one, state="queued") if launched and one.state != "failed" else one


def _with_words(run: Path, logs: Path, one: FoldStatus) -> FoldStatus:
    """With the reason that a failed fold left, or else the end of its SLURM log."""
    if one.live or one.state in ("finished", "not begun"):
        return one
    told = runs.failure(runs.fold_dir(run, one.fold))
    if told:
        return replace(one, words=told["reason"], log=told.get("log"))
    words, log = _last_words(logs, one.job) if one.job else ("", None)
    return replace(one, words=words, log=str(log) if log else None)


def _with_parents(one: FoldStatus, lacking: str) -> FoldStatus:
    """With what an unfinished fold lacks of other runs, in words, where it lacks anything."""
    if not lacking or one.state in ("finished", "running"):
        return one
    if one.state == "queued" and one.detail.startswith("Dependency"):
        return replace(one, detail=f"{one.detail}: {lacking}")
    return one if lacking in one.words else replace(one, words="; ".join(filter(None, (one.words, lacking))))


def _last_words(logs: Path, job: str) -> tuple[str, Path | None]:
    """The line of a SLURM job's log that tells most of its end, and where it is."""
    words, log = follow.last_lines(logs / f"{job}_0_log.{end}" for end in ("err", "out"))
    lines = [*reversed(words.splitlines())]
    telling = [line for line in (*reversed(_causes(words.splitlines())), *lines) if TELLING.match(line)]
    own = [line for line in lines if not line.startswith(("srun:", "slurmstepd:"))]
    return next(iter([*telling, *own, *lines]), ""), log


def _causes(lines: list[str]) -> list[str]:
    """Without the tasks that srun says were killed after it had begun to end the step, which it does to all of them."""
    ended = max((k for k, line in enumerate(lines) if ENDS_STEP in line), default=len(lines))
    return [line for k, line in enumerate(lines) if k < ended or not line.startswith("srun: error:")]


def follower(run: Path, logs: Path, name: str, jobs: dict[str, commands.SlurmJob], written: str) -> str:
    """The state of the report or the export, SLURM's job `name`."""
    job = jobs.get(name)
    if name and job is None and not written:  # slurmctld was killed before it had saved what it had taken
        return (
            f"gone (SLURM knows no job {name}): `{launching.command('resume', run)}` makes it when the folds have ended"
        )
    if job is None or job.state == "COMPLETED":
        return written
    state = "cannot run" if job.stuck else ENDED.get(job.state, job.state.lower())
    words, log = _last_words(logs, job.id) if job.state == "FAILED" else ("", None)
    told = f"{state} ({', '.join(filter(None, (f'SLURM job {job.id}', job.reason)))})"
    return "; ".join(filter(None, (told, words, str(log or ""), written)))


def _table(found: RunStatus) -> Table:
    where = f"{found.run}" + (f", launched on {found.cluster}" if found.cluster else "")
    table = Table(title=escape(where), title_justify="left")
    for heading in ("fold", "state", "", "job", "epoch", *found.spec.titles, "left", "limit", "restarts"):
        table.add_column(heading, justify="left" if heading in ("state", "") else "right")
    for one in found.folds:
        table.add_row(
            str(one.fold),
            f"[{_STATUS_STYLES.get(one.state, 'bold red')}]{escape(one.state)}",
            escape(one.detail),
            one.job or "",
            f"{one.epoch}/{one.epochs}",
            *(score.shown(one.scores.get(score.name)) for score in found.spec.scores),
            duration(round(one.left)) if one.left is not None else "",
            one.limit,
            str(one.restarts),
        )
    return table
