"""Progress of a long job: a bar on a terminal, a plain line now and then in a log."""

from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY = 10.0
"""Seconds between two plain lines."""


class Meter:
    """Counts finished items; shows how many, how fast, and the time left, on standard error.

    Args:
        what: the job in a few words.
        total: items to do now.
        before: items done by an earlier, interrupted job.
    """

    def __init__(self, what: str, total: int, before: int = 0) -> None:
        self.what, self.total, self.before = what, total, before
        self.done, self.note = 0, ""
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(what, total=total, rate="", note="")

    def __enter__(self) -> "Meter":
        self._first = self._last = monotonic()
        if self.before:
            self._print(f"{self.what}: {self.before} were finished before and are kept")
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self._bar.stop()
        if kind is KeyboardInterrupt:
            self._print(f"{self.what}: stopped; the same command goes on from the last finished part")
        if kind is None and not self._console.is_terminal and self.done:
            self._line()

    def step(self, note: str = "") -> None:
        """One more item is done; `note` is shown beside the numbers."""
        self._first = self._first if self.done else monotonic()  # starting the workers is not part of the rate
        self.done, self.note = self.done + 1, note
        self._bar.update(self._task, completed=self.done, rate=f"{self._rate():.1f}/s", note=note)
        if not self._console.is_terminal and self.done > 1 and monotonic() - self._last > EVERY:
            self._last = monotonic()
            self._line()

    def _rate(self) -> float:
        return (self.done - 1) / max(monotonic() - self._first, 1e-6)

    def _line(self) -> None:
        left = (self.total - self.done) / max(self._rate(), 1e-6)
        note = f", {self.note}" if self.note else ""
        self._print(f"{self.what}: {self.done} of {self.total}, {self._rate():.1f}/s, {left:.0f} s left{note}")

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)
