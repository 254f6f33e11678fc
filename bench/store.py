"""How the store grows from 1,000 to 20,000 clips: bytes, seconds, memory, reads.

    python bench/store.py [--clips 1000 5000 20000] [--folder /tmp]

Records are noise of the size of JPEGs and filter banks, written, joined and read by the program's own code; only
decoding is left out (see bench/prepare.py). To fit a small disk, the growing stores have frames of 1.5 kB and filter
banks of 64 rows; one more store has 65 frames of 12 kB and 512 rows, which is DFEW's average. Each store is made in a
process of its own and read in another, from a file that the system still holds in memory: reading is in seconds of one
core, the fastest of three, to which a disk adds its own. The disk needs twice the size of the largest store, about
6 GB; all is deleted. `join` is the copying of parts into one file; `restart` finds all parts finished, which reads them
all; `again` is preparing a second time, when nothing is left to do.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, table

from mmadfer.config.schema import PrepareConfig, SoundConfig
from mmadfer.data.preparation import prepare as preparation
from mmadfer.data.preparation.workers import ClipJob, PreparedClip, stamp_files
from mmadfer.data.sets import ClipTable, SourceClip
from mmadfer.data.store.record import Clip, ClipRecord, encode_record
from mmadfer.data.store.store import Header, Store

FRAMES, SMALL, REAL = 65, (1_500, 64), (12_000, 512)
"""Frames of a clip; bytes of a frame and rows of a filter bank, in the growing stores and in the real one."""
READS, REPEATS = 400, 3
LABELS = ("glad", "sad")


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clips", type=int, nargs="+", default=[1_000, 5_000, 20_000], help="sizes of the stores")
    parser.add_argument("--folder", type=Path, default=None, help="where the stores are made")
    parser.add_argument("--measure", nargs=4, metavar=("FOLDER", "CLIPS", "BYTES", "ROWS"), help=argparse.SUPPRESS)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(make(Path(given.measure[0]), *map(int, given.measure[1:]))))
    elif given.read:
        print(json.dumps(read(given.read)))
    else:
        compare(given.clips, given.folder)


def compare(sizes: Sequence[int], folder: Path | None) -> None:
    """Print a table of the stores and one of their growth."""
    print(machine())
    small = [_measured(clips, *SMALL, folder) for clips in sizes]
    real = _measured(1_000, *REAL, folder)
    names = list(real)
    heads = ["", *(f"{clips} clips" for clips in sizes), "1000 clips, real size", "growth"]
    growth = [f"x{small[-1][name] / max(small[0][name], 1e-9):.2f}" for name in names]
    cells = [[f"{row[name]:.4g}" for row in (*small, real)] for name in names]
    print(table(heads, [[name, *row, grown] for name, row, grown in zip(names, cells, growth, strict=True)]))
    print(
        f"growth: from {sizes[0]} to {sizes[-1]} clips, x{sizes[-1] / sizes[0]:.2f}; a figure per clip should not grow"
    )


def _measured(clips: int, size: int, rows: int, folder: Path | None) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-store-") as made:
        found = _call("--measure", made, clips, size, rows)
        return found | _call("--read", Path(made) / "out.store")


def _call(*arguments: object) -> dict[str, float]:
    command = [sys.executable, __file__, *map(str, arguments)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def make(folder: Path, clips: int, size: int, rows: int) -> dict[str, float]:
    """Make the store `folder`/out.store of so many clips, and time each step."""
    out, sources = folder / "out.store", list(_sources(folder / "media", clips))
    made, partial = ClipTable("bench", LABELS, sources), folder / "out.store.partial"
    settings = PrepareConfig(sound=SoundConfig(frames=rows))
    header = Header(made.name, LABELS, settings, made.root)
    partial.mkdir()
    parts = preparation._parts(preparation._tasks(made, settings, "cpu"), partial)
    noise = Noise(size, rows)
    steps: dict[str, Callable[[], Any]] = {
        "write": lambda: [
            preparation._write_part(p, t, [noise.outcome(k) for k in t], header) for p, t in parts.items()
        ],
        "restart": lambda: preparation._unfinished(parts, header),
        "join": lambda: preparation._assemble(parts, out, header),
        "again": lambda: preparation.prepare(made, out, settings),
    }
    found = {f"{name}, s per 1000 clips": _seconds(step) * 1000 / clips for name, step in steps.items()}
    with Store(out) as store:
        records = sum(place.size for place in store._places.values())
    return {
        "kB per clip": out.stat().st_size / clips / 1000,
        "beside the records, kB per clip": (out.stat().st_size - records) / clips / 1000,
        "store, MB": out.stat().st_size / 1e6,
        **found,
        "peak memory while made, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }


def _sources(folder: Path, clips: int) -> Iterator[SourceClip]:
    folder.mkdir()
    for k in range(clips):
        path = folder / f"{k:05d}.mp4"
        path.write_bytes(k.to_bytes(8, "little") * 16)
        yield SourceClip(f"{LABELS[k % 2]}/{k:05d}", path, LABELS[k % 2], 1 + k % 5)


class Noise:
    """Outcomes whose frames are noise, each at another place of the same noise."""

    def __init__(self, size: int, rows: int) -> None:
        self.size, self.noise, self.places = size, np.random.default_rng(0).bytes(2**22), random.Random(0)
        self.fbank = np.random.default_rng(1).random((rows, 128), np.float32)

    def outcome(self, task: ClipJob) -> PreparedClip:
        """What preparing a clip would give."""
        starts = [self.places.randrange(2**22 - 2 * self.size) for _ in range(FRAMES)]
        lengths = [self.places.randint(self.size // 2, 3 * self.size // 2) for _ in range(FRAMES)]
        jpegs = [self.noise[start : start + length] for start, length in zip(starts, lengths, strict=True)]
        stamp, digest = stamp_files(task)
        about = {"sha256": digest.sha256, "size": digest.size, "rate": 44100}
        clip = Clip(task.source.id, task.source.label, task.source.fold, task.media, FRAMES, **about)
        return PreparedClip(clip.id, clip, encode_record(ClipRecord(jpegs, self.fbank)), digest=digest, stamp=stamp)


def read(path: Path) -> dict[str, float]:
    """Open a store and read it at random."""
    before = _resident()
    store = Store(path)
    held, ids = _resident() - before, random.Random(0).choices(list(store.clips), k=READS)
    sets = [sorted(random.Random(k).sample(range(FRAMES), 16)) for k in range(READS)]
    whole = _fastest(lambda: [store.read(name) for name in ids])
    some = _fastest(lambda: [store.read(name, frames) for name, frames in zip(ids, sets, strict=True)])
    return {
        "open, ms": _fastest(lambda: Store(path)) * 1000,
        "memory of an open store, MB": held / 1e6,
        "whole clips read per s": READS / whole,
        "16 frames read per s": READS / some,
        "verify, MB per s": path.stat().st_size / 1e6 / _fastest(store.verify),
    }


def _seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    begin = clock()
    work()
    return clock() - begin


def _fastest(work: Callable[[], object]) -> float:
    return min(_seconds(work, time.process_time) for _ in range(REPEATS))


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
