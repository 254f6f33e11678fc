"""Trackers at work in threads: what they are told waits in a queue, and nobody waits for them but at the end."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from mmadfer.config.training import TRACKERS
from mmadfer.tracking.tracker import TrackedRun, Tracker
from mmadfer.utils.memory import first_line

MOST_WAITING = 10_000
"""Calls that wait for a tracker; more are dropped."""
CLOSE_SECONDS = 60.0
"""Seconds that all trackers together have at the end to send what is left."""
STOPPED_SECONDS = 10.0
"""The same where training was stopped or failed: a cluster ends the job soon."""
_Call = Callable[[Tracker], None]


class Trackers:
    """Those that `train.trackers` names.

    Args:
        names: of the trackers.
        run: what they track.
        warn: takes a line for people where one fails.

    Raises:
        MissingDependencyError: the package of one is not installed.
        PlugInError: that of another package does not load.
    """

    def __init__(self, names: Sequence[str], run: TrackedRun, warn: Callable[[str], None]) -> None:
        self._all = [_Background(name, TRACKERS.load(name)(run), warn) for name in names]

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Tell them numbers after a step."""
        if values:
            self._tell(lambda tracker: tracker.scalars(step, values))

    def state(self, state: str) -> None:
        """Tell them how the run stands."""
        self._tell(lambda tracker: tracker.state(state), always=True)

    def file(self, path: Path) -> None:
        """Give them a file, which stays as it is until they have it."""
        self._tell(lambda tracker: tracker.file(path))

    def close(self, state: str | None) -> None:
        """Tell them how it ended, if that is known, and wait until they have sent what is left, but not for long."""
        if state is not None:
            self.state(state)
        end = time.monotonic() + (CLOSE_SECONDS if state == "finished" else STOPPED_SECONDS)
        for one in self._all:
            one.close()
        for one in self._all:
            one.join(max(0.0, end - time.monotonic()))

    def _tell(self, call: _Call, always: bool = False) -> None:
        for one in self._all:
            one.tell(call, always)


class _Background:
    """One tracker, and the thread that calls it."""

    def __init__(self, name: str, tracker: Tracker, warn: Callable[[str], None]) -> None:
        self._name, self._tracker, self._warn = name, tracker, warn
        self._calls = SimpleQueue[_Call | None]()
        self._dropped = 0
        self._thread = Thread(target=self._work, name=f"tracker {name}", daemon=True)  # one that hangs ends with us
        self._thread.start()

    def tell(self, call: _Call, always: bool = False) -> None:
        """Let a call wait, unless too many do; `always` for states, which are few."""
        if always or self._calls.qsize() < MOST_WAITING:
            self._calls.put(call)
        else:
            self._dropped += 1

    def close(self) -> None:
        """Let it end when what waits is done."""
        self._calls.put(None)

    def join(self, seconds: float) -> None:
        """Wait for its end, and say what it has not got."""
        self._thread.join(seconds)
        left = self._dropped + (self._calls.qsize() if self._thread.is_alive() else 0)
        if self._thread.is_alive() or left:
            self._say(f"was too slow, and lacks {left} of what it was told")

    def _work(self) -> None:
        try:
            self._tracker.open()
            while call := self._calls.get():
                call(self._tracker)
            self._tracker.close()
        except Exception as error:  # whatever a service's client may raise: training goes on
            self._say(f"failed ({type(error).__name__}: {first_line(error)}), and is told nothing more")
            while self._calls.get():
                pass

    def _say(self, what: str) -> None:
        self._warn(f"WARNING: the tracker {self._name} {what}. metrics.jsonl and TensorBoard have all of it")
