"""SLURM asked once for the jobs of many runs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from mmadfer.errors import RunError
from mmadfer.launch.slurm import commands


class JobQuery(Protocol):
    """What knows jobs: the module `commands`, which asks each time, or `Once`."""

    def query(self, ids: Iterable[str], logs: Path | None = None) -> dict[str, commands.SlurmJob]:
        """As `commands.query`."""

    def last_ends(self, ids: Iterable[str]) -> dict[str, str]:
        """As `commands.last_ends`."""


class Once:
    """Asks for all these jobs at once, and answers from that; where SLURM does not answer, that is remembered, too."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._jobs: dict[str, commands.SlurmJob] = {}
        self._ends: dict[str, str] = {}
        self._known = {commands.base(name) for name in ids}
        self.error: RunError | None = None
        try:
            self._ask(self._known)
        except RunError as error:
            self.error = error

    def query(self, ids: Iterable[str], logs: Path | None = None) -> dict[str, commands.SlurmJob]:
        """As `commands.query`; only of jobs that it was not asked for before, SLURM is asked."""
        bases = {commands.base(name) for name in ids}
        if self.error and bases:
            raise self.error
        self._ask(bases - self._known)
        self._known |= bases
        return commands.jobs_of({name: job for name, job in self._jobs.items() if commands.base(name) in bases}, logs)

    def last_ends(self, ids: Iterable[str]) -> dict[str, str]:
        """As `commands.last_ends`."""
        return {name: self._ends[name] for name in ids if name in self._ends}

    def _ask(self, bases: Iterable[str]) -> None:
        jobs = commands.query(bases)
        self._jobs.update(jobs)
        self._ends.update(commands.last_ends(commands.again(jobs)))
