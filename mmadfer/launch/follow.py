"""Live progress of the folds, read from the metrics that training writes.

A table on a terminal; elsewhere one line for each finished epoch.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from mmadfer.errors import FileError
from mmadfer.run import directory as runs
from mmadfer.run import records
from mmadfer.tasks.spec import TaskSpec
from mmadfer.tasks.tables import of_events
from mmadfer.utils.console import Console
from mmadfer.utils.durations import duration
from mmadfer.utils.files import no_link

_FOLD_STYLES = {"queued": "dim", "running": "cyan", "finished": "green", "failed": "bold red"}


class Tail:
    """Reads the whole lines that were added to a JSONL file since the last look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """New events; a line that is still being written waits, and one that is torn is passed over."""
        try:
            with open(self.path, "rb", opener=no_link) as file:
                if file.seek(0, 2) < self._offset:  # the file was begun anew
                    self._offset = 0
                file.seek(self._offset)
                data = file.read(records.LOG)
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return list(records.events(whole))


@dataclass
class FoldView:
    """What is known of one fold."""

    fold: int
    epochs: int
    tail: Tail
    state: str = "queued"
    latest: dict[str, Any] = field(default_factory=dict)
    """The last value of each field of the events."""
    done: int = 0
    """Finished epochs."""
    resumes: int = 0
    """How often it went on from a checkpoint."""
    started: float = 0.0
    ended: float = 0.0

    def advance(self, state: str) -> list[dict[str, Any]]:
        """Take in the state and the new events; returns the epochs that have finished since."""
        now = time.monotonic()
        if state == "running" and not self.started:
            self.started = now
        if state in ("finished", "failed") and not self.ended:
            self.ended = now
        self.state = state
        finished = []
        for event in self.tail.read():
            self.latest.update({key: value for key, value in event.items() if value is not None})
            self.resumes += event.get("event") == "resume"
            if event["event"] == "epoch" and (event.get("epoch") or 0) > self.done:
                finished.append(event)
                self.done = event["epoch"]
        return finished

    @property
    def seconds(self) -> float:
        """How long the fold has been running."""
        return (self.ended or time.monotonic()) - self.started if self.started else 0.0


class Follower:
    """Shows the folds of a run while they train; a context manager around the waiting."""

    def __init__(
        self, run: Path, folds: Iterable[int], epochs: int, spec: TaskSpec, console: Console | None = None
    ) -> None:
        self.run, self.spec = run, spec
        self.console = console or Console()
        self.views = {k: FoldView(k, epochs, Tail(runs.fold_dir(run, k) / "metrics.jsonl")) for k in folds}
        for view in self.views.values():
            view.advance("queued")  # what an earlier launch wrote is not news
        self._live = Live(self.table(), console=self.console, auto_refresh=False) if self.console.is_terminal else None

    def __enter__(self) -> "Follower":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, states: dict[int, str]) -> None:
        """Show the states of the folds and what they have written."""
        for fold, state in states.items():
            view = self.views[fold]
            before = view.state
            for event in view.advance(state):
                if not self._live:
                    self._line(fold, epoch_line(event, view.epochs, self.spec))
            if not self._live and state not in (before, "failed"):
                self._line(fold, state)
        if self._live:
            self._live.update(self.table(), refresh=True)

    def failed(self, fold: int, tail: str, log: Path | None) -> None:
        """Say that a fold's job has ended before its time, with its last words."""
        self.console.print(f"[bold red]fold {fold} failed[/]; its last words ({escape(str(log))}):", soft_wrap=True)
        self.console.print(escape(tail) or "(it wrote nothing)", style="dim", highlight=False, soft_wrap=True)

    def table(self) -> Table:
        """The folds as they stand."""
        table = Table(title=escape(self.run.name), title_justify="left")
        for heading in ("fold", "state", "epoch", "step", "loss", *self.spec.titles, "time"):
            table.add_column(heading, justify="left" if heading == "state" else "right")
        for view in self.views.values():
            get = view.latest.get
            table.add_row(
                str(view.fold),
                f"[{_FOLD_STYLES[view.state]}]{view.state}",
                f"{view.done}/{view.epochs}",
                escape(str(get("step", ""))),
                _number(get("loss"), "{:.4f}"),
                *(score.shown(get(score.name)) for score in self.spec.scores),
                duration(int(view.seconds)),
            )
        return table

    def _line(self, fold: int, text: str) -> None:
        self.console.print(f"fold {fold}  {text}", highlight=False, soft_wrap=True, markup=False)


def epoch_line(event: dict[str, Any], epochs: int, spec: TaskSpec) -> str:
    """One finished epoch in words."""
    parts = [
        f"epoch {event.get('epoch', '?'):>{len(str(epochs))}}/{epochs}",
        _number(event.get("loss"), "loss {:.4f}"),
        *(f"{title} {score.shown(event[key])}" for key, title, score in of_events(spec) if score.fits(event.get(key))),
        _number(event.get("seconds"), "{:.0f} s"),
    ]
    return "  ".join(part for part in parts if part)


def last_lines(paths: Iterable[Path], count: int = 15) -> tuple[str, Path | None]:
    """The end of the first of `paths` that holds anything, and which one that was; else the first that is there."""
    paths = list(paths)
    for path in paths:
        try:
            text = _end(path).decode("utf-8", errors="replace").strip()
        except (OSError, FileError):
            continue
        if text:
            return "\n".join(text.splitlines()[-count:]), path
    return "", next((path for path in paths if path.exists()), None)


def _end(path: Path, most: int = 65536) -> bytes:
    with open(path, "rb", opener=no_link) as file:
        file.seek(max(0, file.seek(0, 2) - most))
        return file.read(most)


def _number(value: Any, form: str) -> str:
    return form.format(value) if isinstance(value, int | float) else ""
