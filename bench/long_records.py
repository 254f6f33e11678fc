"""What reading a window of a long clip costs: seconds and bytes, for clips of a minute to an hour.

    python bench/long_records.py [--minutes 1 10 60] [--folder /tmp]

A clip has 30 frames of 4 kB in a second and all of its sound. A window is 16 frames, every fourth one, at a random
place. `window` reads what `mmadfer.data.window_sound.read_window` does, `whole sound` the same frames with all of
the sound, `whole` the record. The file stays in the system's memory; times are of one core, the fastest mean of three;
bytes are counted where they are read.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import machine, table

from mmadfer.config.schema import PrepareConfig, SoundConfig
from mmadfer.data.store.record import LATER, Clip, ClipRecord
from mmadfer.data.store.store import Header, Store, write_store
from mmadfer.data.window_sound import read_window

FPS, JPEG_BYTES, WINDOW, STRIDE, READS, REPEATS = 30, 4_000, 16, 4, 20, 3
SPAN = (WINDOW - 1) * STRIDE + 1


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=int, nargs="+", default=[1, 10, 60], help="lengths of the clips")
    parser.add_argument("--folder", type=Path, default=None, help="where the stores are made")
    given = parser.parse_args()
    print(machine())
    rows = list[list[str]]()
    for minutes in given.minutes:
        with tempfile.TemporaryDirectory(dir=given.folder, prefix="bench-long-") as folder:
            rows += _measured(make(Path(folder) / "long.store", minutes), minutes)
    print(table(["minutes", "read", "ms", "kB"], rows))


def make(path: Path, minutes: int) -> Path:
    """A store with one clip of noise."""
    rng, frames, sound = np.random.default_rng(0), minutes * 60 * FPS, minutes * 6_000
    clip = Clip("long", "a", 1, "long.mp4", frames, sound_frames=sound)
    fbank = rng.standard_normal((sound, 128), np.float32)
    jpegs = [rng.bytes(JPEG_BYTES) for _ in range(frames)]
    record = ClipRecord(jpegs, fbank[:512], np.arange(frames) / FPS, {LATER: fbank[512:]})
    settings = PrepareConfig(sound=SoundConfig(max_seconds=3600))
    write_store(path, Header("long", ("a", "b"), settings), [(clip, record)])
    return path


def _measured(path: Path, minutes: int) -> list[list[str]]:
    with Store(path) as store:
        starts = np.random.default_rng(1).integers(0, store.clips["long"].frames - SPAN, READS)
        ways: dict[str, Callable[[int], object]] = {
            "window": lambda first: read_window(store, "long", (first, SPAN), _frames(first)),
            "whole sound": lambda first: store.read("long", _frames(first), [LATER]),
            "whole": lambda _: store.read("long"),
        }
        return [
            [str(minutes), name, *_cost(way, starts[: READS if name != "whole" else 2])] for name, way in ways.items()
        ]


def _frames(first: int) -> list[int]:
    return [first + STRIDE * k for k in range(WINDOW)]


def _cost(way: Callable[[int], object], starts: np.ndarray) -> list[str]:
    """Milliseconds and kilobytes of a read."""
    best, read = float("inf"), 0
    plain = os.pread

    def counted(file: int, size: int, place: int) -> bytes:
        nonlocal read
        data = plain(file, size, place)
        read += len(data)
        return data

    for repeat in range(REPEATS + 1):
        os.pread = counted if repeat == REPEATS else plain
        begin = time.process_time()
        for first in starts:
            way(int(first))
        best = min(best, time.process_time() - begin)
    os.pread = plain
    return [f"{1000 * best / len(starts):.2f}", f"{read / len(starts) / 1000:.0f}"]


if __name__ == "__main__":
    main()
