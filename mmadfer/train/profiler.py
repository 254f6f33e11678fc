"""A trace of a few training steps, to be looked at in Perfetto: `mmadfer train --profile`.

Its ranges are `data` (here), and `forward`, `backward` and `optimizer` (`mmadfer.train.engine`).
"""

import gzip
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TypeVar

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from mmadfer.run.lease import Held, LostError
from mmadfer.utils.files import atomic

SKIPPED = 3
"""Steps before it: the first compiles, and fills what later ones find."""
STEPS = 5
LAST = b"\n}"
"""How the profiler ends a trace; inside of one every bracket stands further to the right."""

T = TypeVar("T")


def take(stream: Iterator[T], count: int) -> list[T]:
    """The next items, fewer at the end, as the range `data`."""
    with record_function("data"):
        return list(islice(stream, count))


class Trace:
    """Records steps SKIPPED + 1 to SKIPPED + STEPS of this start into FOLD/trace.json.gz; training computes the same.

    Args:
        folder: the fold directory.
        held: its lease; once that is lost, nothing is written.
        say: told where the trace is, or why there is none. Neither ends training.
        on: whether to do anything at all.
    """

    def __init__(self, folder: Path, held: Held, say: Callable[[str], None], on: bool) -> None:
        self._path, self._held, self._say, self._on = folder / "trace.json.gz", held, say, on
        self._seen = 0
        self._running: profile | None = None

    def step(self) -> None:
        """Count a step, whose work a GPU may still have before it."""
        self._seen += self._on
        if self._on and self._seen == SKIPPED:
            self._running = _start()
        elif self._running and self._seen == SKIPPED + STEPS:
            self._end(self._running)

    def close(self) -> None:
        """Write what there is of a training that has ended before."""
        if self._running and self._seen > SKIPPED:
            self._end(self._running)
        elif self._on and self._seen <= SKIPPED:
            if self._running:
                self._running.stop()
            self._say(f"no trace: training ended after {self._seen} steps, and the first {SKIPPED} are not recorded")
        self._on, self._running = False, None

    def _end(self, running: profile) -> None:
        running.stop()
        self._running = None
        try:
            with suppress(LostError), atomic(self._path) as temporary:
                with NamedTemporaryFile(dir=temporary.parent, prefix=f".{self._path.name}.", suffix=".tmp") as plain:
                    running.export_chrome_trace(plain.name)
                    pack(Path(plain.name), temporary)
                self._held.check()
        except (OSError, RuntimeError) as error:
            self._say(f"WARNING: the trace {self._path} could not be written ({error}); training goes on")
            return
        if not self._held.lost:
            steps = self._seen - SKIPPED
            self._say(f"{steps} steps are recorded in {self._path}: open it at https://ui.perfetto.dev")


def pack(plain: Path, packed: Path) -> None:
    """Compress a trace, a piece at a time: it may be large, and other ranks wait.

    Raises:
        OSError: it is cut, for the disk was full; the profiler does not say so.
    """
    with plain.open("rb") as source, gzip.open(packed, "wb", compresslevel=6) as sink:
        source.seek(max(0, plain.stat().st_size - len(LAST)))
        if source.read() != LAST:
            raise OSError("its end is missing: the disk may be full")
        source.seek(0)
        shutil.copyfileobj(source, sink)


def _start() -> profile:
    gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    if not gpu:
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it calls it an error that there is none
    started = profile(activities=[ProfilerActivity.CPU, *gpu], acc_events=True)  # else it warns of later cycles
    started.start()
    return started
