"""What a hundred folds cost the launcher, the scheduler and the file system.

    eval "$(slurm/cluster/up.sh)"; python bench/hundred_folds.py [--rows 20] [--parallel 4]

Trains a sweep of that many rows of five folds of a trivially small model, as one array, on the cluster that answers.
Before, sweeps of 5, 10 and 20 rows are submitted and cancelled: what grows with the rows shows.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
from common import machine, table

from mmadfer.config.schema import Config, PrepareConfig, parse
from mmadfer.data.media.image import encode_jpeg
from mmadfer.data.store.record import Clip, ClipRecord
from mmadfer.data.store.store import Header, write_store
from mmadfer.launch.slurm import commands
from mmadfer.run import directory as runs

LABELS, SIDE, FOLDS, GROWTH = ("a", "b"), 32, 5, (5, 10, 20)


def main() -> None:
    """Launch, wait, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=20)
    options.add_argument("--parallel", type=int, default=4, help="folds at a time")
    chosen = options.parse_args()
    print(machine())
    if not commands.present():
        print('Not run: no cluster answers. Start one: eval "$(slurm/cluster/up.sh)"')
        return
    with tempfile.TemporaryDirectory(prefix="mmadfer-hundred-") as name:
        folder = Path(name)
        (folder / "tiny.yaml").write_text(_config(_store(folder / "tiny.store")).to_yaml(), encoding="utf-8")
        growth(folder)
        measure(folder, chosen.rows, chosen.parallel)


def growth(folder: Path) -> None:
    """Print what submitting more and more rows costs; none is trained."""
    lines = []
    for rows in GROWTH:
        place, seconds = folder / f"grown-{rows}", _launch(folder, f"grown-{rows}", rows, 1)
        lines.append([f"{rows} rows, {rows * FOLDS} folds", f"{seconds:.2f}", f"{_look():.3f}", str(_files(place))])
        _mmadfer("cancel", str(place))
        _wait()
    print(table(["submitted only", "launch, s", "squeue, s", "files"], lines))


def measure(folder: Path, rows: int, parallel: int) -> None:
    """Print what a sweep of so many rows costs."""
    begun, place = time.monotonic(), folder / "sweep"
    launched = _launch(folder, "sweep", rows, parallel)
    look, cycle = _look(), _cycle()
    status = _mmadfer("status", str(place), "--json")
    _wait()
    paths = [runs.fold_dir(place / f"row-{row:03d}", fold) for row in range(rows) for fold in range(1, FOLDS + 1)]
    done = sum(runs.result(path) is not None for path in paths)
    files = " / ".join(str(_files(part)) for part in (place / "code", place / "jobs", place))
    lines = [
        ["launch, s", f"{launched:.2f}"],
        ["squeue with all queued, s", f"{look:.3f}"],
        ["launch status with all queued, s", f"{status:.2f}"],
        ["controller's cycle, mean / max, microseconds", cycle],
        ["files: of the code / of the jobs / in all", files],
        ["folds finished", f"{done} of {rows * FOLDS}"],
        ["launch status with all finished, s", f"{_mmadfer('status', str(place), '--json'):.2f}"],
        ["from the launch to the report, s", f"{time.monotonic() - begun:.0f}"],
    ]
    print(table([f"one sweep, {rows} rows x {FOLDS} folds, {parallel} at a time", ""], lines))


def _store(path: Path) -> Path:
    rng, clips = np.random.default_rng(0), list[tuple[Clip, ClipRecord]]()
    for k in range(20):
        jpegs = [encode_jpeg(rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8), 95)] * 4
        clips.append(
            (
                Clip(f"{k:02d}", LABELS[k % 2], 1 + k // 2 % FOLDS, f"{k}.mp4", 4),
                ClipRecord(jpegs, np.zeros((512, 128), np.float32)),
            )
        )
    write_store(path, Header("tiny", LABELS, PrepareConfig(face_size=SIDE)), clips)
    return path


def _config(store: Path) -> Config:
    encoder = {"width": 32, "depth": 2, "heads": 2}
    temporal = {"heads": 2, "head_width": 16, "mlp_width": 64}
    model = {
        "image_size": SIDE,
        "frames": 4,
        "vision": encoder,
        "audio": encoder,
        "fusion": {"latent": 8},
        "joint": {"width": 32},
        "prompts": 4,
        "temporal": temporal,
    }
    train = {"epochs": 1, "batch_size": 4}
    tree = {"name": "tiny", "data": {"store": str(store), "threads": 1}, "model": model, "train": train}
    return parse(tree, "the benchmark")


def _launch(folder: Path, name: str, rows: int, parallel: int) -> float:
    """Launch a sweep whose rows differ in their seed; seconds."""
    tree = {"name": name, "base": "tiny.yaml", "rows": {f"row-{k:03d}": {"train.seed": k} for k in range(rows)}}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(tree), encoding="utf-8")
    size = ("--cpus-per-fold", "1", "--gpus-per-fold", "0", "--array-parallelism", str(parallel), "--time", "60")
    return _mmadfer("sweep", str(file), "--run", str(folder / name), "--cluster", "slurm", *size)


def _mmadfer(*words: str) -> float:
    return _timed([sys.executable, "-m", "mmadfer", "launch", *words])


def _look() -> float:
    return _timed(["squeue", "--noheader", "--array"])


def _files(folder: Path) -> int:
    """Files of a folder; links to folders are not gone into."""
    return sum(path.is_file() for path in folder.rglob("*"))


def _timed(command: list[str]) -> float:
    begun = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


def _cycle() -> str:
    """Of the main scheduler, by `sdiag`."""
    text = subprocess.run(["sdiag"], capture_output=True, text=True, check=True).stdout
    found = [re.search(rf"{name} cycle:\s+(\d+)", text) for name in ("Mean", "Max")]
    return " / ".join(match[1] if match else "?" for match in found)


def _wait(limit: float = 3600) -> None:
    """Wait until all jobs have ended."""
    end = time.monotonic() + limit
    while subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, check=True).stdout.strip():
        if time.monotonic() > end:
            raise SystemExit(f"jobs have not ended within {limit:.0f} s")
        time.sleep(1)


if __name__ == "__main__":
    main()
