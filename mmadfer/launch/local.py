"""The folds of a launch as processes of this machine, through submitit's local executor."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmadfer.launch import follow
from mmadfer.launch.jobs import RankJob
from mmadfer.run import directory as runs
from mmadfer.utils.files import no_link
from mmadfer.utils.optional import need
from mmadfer.utils.terminal import say

POLL = 0.5
"""Seconds between two looks at the folds."""
SAVE = 30
"""Seconds that the folds of a stopped launch have for a step and a checkpoint."""


class LocalFolds:
    """Starts folds as places become free, and knows how each of them stands.

    A fold is finished when its result lies on disk, and failed when its process has ended without one. Nothing is read
    back from submitit's pickles.
    """

    def __init__(
        self, run: Path, jobs: Sequence[RankJob], environment: dict[str, str], *, parallel: int, minutes: int
    ) -> None:
        submitit = need("submitit", extra="train")
        self.run = run
        self.states = {job.fold: "queued" for job in jobs}
        self._environment = dict(environment)
        self._parallel = parallel
        self._todo = list(jobs)
        self._freed: list[tuple[str, ...] | None] = []
        self._devices = {job.fold: job.devices for job in jobs}
        self._running: dict[int, Any] = {}
        self._logs: dict[int, list[Path]] = {}
        self._executor = submitit.LocalExecutor(run / "jobs", max_num_timeout=1000)
        ranks = max(1, len(jobs[0].devices or ())) if jobs else 1
        self._executor.update_parameters(timeout_min=minutes, tasks_per_node=ranks, signal_delay_s=120)

    def poll(self) -> dict[int, str]:
        """Start what can start; the state of every fold."""
        for fold, job in list(self._running.items()):
            if job.done():
                self.states[fold] = self._ended(fold)
                self._freed.append(self._devices[fold])
                del self._running[fold]
        while self._todo and len(self._running) < self._parallel:
            self._start(self._placed(self._todo.pop(0)))
        return dict(self.states)

    def last_words(self, fold: int) -> tuple[str, Path | None]:
        """Why the fold failed, or the end of its log; and the log's path."""
        told = runs.failure(runs.fold_dir(self.run, fold))
        if told and told.get("plain") and told.get("log"):
            return told["reason"], Path(told["log"])
        return follow.last_lines(self._logs.get(fold, []))

    def cancel(self) -> None:
        """End every fold: ask it to save and leave, then by force; an interrupt meanwhile is force at once."""
        self._todo.clear()
        try:
            for _ in range(SAVE):
                self._each(lambda job: os.kill(int(job.job_id), signal.SIGTERM))
                self._wait(1)  # then again: it is not heard while a fold starts
        finally:
            self._each(lambda job: os.kill(int(job.job_id), signal.SIGKILL))
            self._wait(5)

    def _placed(self, job: RankJob) -> RankJob:
        """The job on the GPUs of one that has ended, if one has."""
        self._devices[job.fold] = self._freed.pop(0) if self._freed else job.devices
        return replace(job, devices=self._devices[job.fold])

    def _start(self, job: RankJob) -> None:
        from submitit.core.utils import environment_variables

        with environment_variables(**self._environment), _apart(self.run / "jobs" / "controllers.log"):
            started = self._executor.submit(job)
        self._running[job.fold] = started
        paths = [started.task(k).paths for k in range(started.num_tasks)]
        self._logs[job.fold] = [*(path.stderr for path in paths), *(path.stdout for path in paths)]
        self.states[job.fold] = "running"

    def _ended(self, fold: int) -> str:
        folder = runs.fold_dir(self.run, fold)
        if runs.result(folder) is not None:
            return "finished"
        if runs.failure(folder) is None:  # killed: it had no time to say so itself
            words, log = self.last_words(fold)
            runs.mark_failed(folder, words.splitlines()[-1] if words else "the process ended without a word", log)
        return "failed"

    def _each(self, act: Callable[[Any], None]) -> None:
        for job in self._running.values():
            if not job.done():
                act(job)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and any(not job.done() for job in self._running.values()):
            time.sleep(0.05)


@contextmanager
def _apart(path: Path) -> Iterator[None]:
    """What is started here writes its errors to `path`, and leaves ctrl-C to the launch: submitit's controllers would
    kill their folds in the middle of a step."""
    path.parent.mkdir(exist_ok=True)
    kept, main = os.dup(2), threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    with open(path, "ab", opener=no_link) as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        if main:
            signal.signal(signal.SIGINT, before)


def train_here(folds: LocalFolds, show: follow.Follower) -> list[int]:
    """Wait for all folds; returns those that failed. An interrupt ends them and is passed on."""
    told: list[int] = []
    try:
        with show:
            while True:
                states = folds.poll()
                show.update(states)
                for fold in (k for k, state in states.items() if state == "failed" and k not in told):
                    show.failed(fold, *folds.last_words(fold))
                    told.append(fold)
                if all(state in ("finished", "failed") for state in states.values()):
                    return sorted(told)
                time.sleep(POLL)
    except BaseException:
        say(f"Stopping: the folds have {SAVE} s to save; ctrl-C again ends them at once.")
        folds.cancel()
        raise
