"""Progress of a long job: a bar on a terminal, a plain line now and then in a log."""

from time import monotonic

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mmadfer.utils.console import Console
from mmadfer.utils.durations import duration

_LINE_EVERY_SECONDS = 30.0
"""Seconds between two plain lines, which a log can take for days."""
SHORT = 1.0
"""Seconds of work that a log says nothing of."""


class Meter:
    """Counts finished clips; shows how many, how fast, and the time left, on standard error.

    Args:
        what: the job in a few words.
        total: clips to do now.
        before: clips done by an earlier, interrupted job.
        goes_on: a job that is stopped can go on where it was.
        unit: what is counted.
    """

    def __init__(self, what: str, total: int, before: int = 0, *, goes_on: bool = True, unit: str = "clips") -> None:
        self._goes_on, self._unit = goes_on, unit
        self.what, self.total, self.before = what, total, before
        self.done, self.note = 0, ""
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(what, total=total + before, completed=before, rate="", note="")

    def __enter__(self) -> "Meter":
        self._begin = self._first = self._last = monotonic()
        if self.before:
            self._print(f"{self.what}: {self.before} were finished before and are kept")
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self._bar.stop()
        if kind is KeyboardInterrupt and self._goes_on:
            self._print(f"{self.what}: stopped; the same command goes on from the last finished part")
        if kind is None and not self._console.is_terminal and monotonic() - self._begin > SHORT:
            self._line()

    def step(self, note: str = "") -> None:
        """One more clip is done; `note` is shown beside the numbers."""
        self._first = self._first if self.done else monotonic()  # starting the workers is not part of the rate
        self.done, self.note = self.done + 1, note
        self._bar.update(self._task, advance=1, rate=self._speed(), note=note)
        if not self._console.is_terminal and self.done < self.total and monotonic() - self._last > _LINE_EVERY_SECONDS:
            self._last = monotonic()
            self._line()

    def _speed(self) -> str:
        if self.done < 2:
            return ""
        rate = (self.done - 1) / max(monotonic() - self._first, 1e-6)
        return f"{rate:.1f} {self._unit}/s, {duration(round((self.total - self.done) / rate))} left"

    def _line(self) -> None:
        counted = f"{self.before + self.done} of {self.before + self.total}"
        self._print(f"{self.what}: {', '.join(part for part in (counted, self._speed(), self.note) if part)}")

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)
