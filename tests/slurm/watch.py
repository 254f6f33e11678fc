"""What the starts of one training have done, also what a later one has cut off."""

import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Start:
    """One start of a training, which went on after step `since`."""

    since: int = 0
    step: int = 0
    """The last that it has done."""
    trained: float | None = None
    """When its first step was seen, by time.monotonic()."""


@dataclass
class Watch:
    """Looks at metrics.jsonl all the time: what a later start does again is cut off there."""

    path: Path
    starts: list[Start] = field(default_factory=lambda: [Start()])

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def now(self) -> Start:
        return self.starts[-1]

    @property
    def twice(self) -> int:
        """Steps that were done again."""
        return sum(max(0, one.step - other.since) for one, other in zip(self.starts, self.starts[1:], strict=False))

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.05):
            with suppress(OSError):
                self._see(self.path.read_text())

    def _see(self, text: str) -> None:
        events = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        resumes = [k for k, event in enumerate(events) if event["event"] == "resume"]
        while len(resumes) >= len(self.starts):
            since = events[resumes[len(self.starts) - 1]]["step"]
            self.starts.append(Start(since, since))
        if len(resumes) < len(self.starts) - 1:  # it is just being written anew
            return
        steps = [event["step"] for event in events[resumes[-1] if resumes else 0 :] if event["event"] == "step"]
        if steps:
            self.now.step = max(self.now.step, *steps)  # the next start cuts the file before it says that it is one
            self.now.trained = self.now.trained or time.monotonic()
