"""A trace of a few training steps, to be looked at in Perfetto: `mmadfer train --profile`.

Its ranges are `data` (here), and `forward`, `backward` and `optimizer` (`mmadfer.train.deepspeed_engine`).
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
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from mmadfer.run.lease import Held, LostError
from mmadfer.utils.files import atomic

SKIPPED = 3
"""Steps before it: the first compiles, and fills what later ones find."""
PROFILED_STEPS = 5
LAST = b"\n}"
"""How the profiler ends a trace; inside of one every bracket stands further to the right."""

T = TypeVar("T")


def next_items(stream: Iterator[T], count: int) -> list[T]:
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
        self._path, self._held, self._say = folder / "trace.json.gz", held, say
        self._seen = 0
        self._running = _profile(self._write) if on else None
        if self._running:
            self._running.start()

    def step(self) -> None:
        """Count a step, whose work a GPU may still have before it."""
        if self._running:
            self._seen += 1
            if self._seen == SKIPPED + PROFILED_STEPS:
                self.close()
            else:
                self._running.step()

    def close(self) -> None:
        """Write what there is, also of a training that has ended before."""
        running, self._running = self._running, None
        if running:
            running.stop()
            if self._seen <= SKIPPED:
                told = f"training ended after {self._seen} steps, and the first {SKIPPED} are not recorded"
                self._say(f"no trace: {told}")

    def _write(self, recorded: profile) -> None:
        steps = self._seen - SKIPPED
        if steps < 1:
            return
        try:
            with suppress(LostError), atomic(self._path) as temporary:
                with NamedTemporaryFile(dir=temporary.parent, prefix=f".{self._path.name}.", suffix=".tmp") as plain:
                    recorded.export_chrome_trace(plain.name)
                    pack(Path(plain.name), temporary)
                self._held.check()
        except (OSError, RuntimeError) as error:
            self._say(f"WARNING: the trace {self._path} could not be written ({error}); training goes on")
            return
        if not self._held.lost:
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


def _profile(write: Callable[[profile], None]) -> profile:
    gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    if not gpu:
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it calls it an error that there is none
    steps = schedule(wait=SKIPPED - 1, warmup=1, active=PROFILED_STEPS, repeat=1)
    return profile(  # acc_events: else it warns of later cycles
        activities=[ProfilerActivity.CPU, *gpu], schedule=steps, on_trace_ready=write, acc_events=True
    )
