"""What a hundred folds cost the launcher, the scheduler and the file system.

    eval "$(slurm/cluster/up.sh)"; python bench/hundred_folds.py [--runs 20] [--parallel 1]

Launches that many runs of five folds of a trivially small model on the cluster that answers, waits for them, and
prints seconds per launch, the controller's cycle, and files per run, of the first and of the last: what grows shows.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import machine, table

from mmadfer import run as runs
from mmadfer.config import Config, PrepareConfig, parse
from mmadfer.data.image import encode_jpeg
from mmadfer.data.record import Clip, Record
from mmadfer.data.store import Header, write
from mmadfer.launch import slurm

LABELS, SIDE, FOLDS = ("a", "b"), 32, 5


def main() -> None:
    """Launch, wait, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=20)
    options.add_argument("--parallel", type=int, default=1, help="folds of a run at a time")
    chosen = options.parse_args()
    print(machine())
    if not slurm.present():
        print('Not run: no cluster answers. Start one: eval "$(slurm/cluster/up.sh)"')
        return
    with tempfile.TemporaryDirectory(prefix="mmadfer-hundred-") as folder:
        measure(Path(folder), chosen.runs, chosen.parallel)


def measure(folder: Path, count: int, parallel: int) -> None:
    """Print what `count` runs cost."""
    config = _config(_store(folder / "tiny.store"))
    (folder / "tiny.yaml").write_text(config.to_yaml(), encoding="utf-8")
    begun, seconds, looks = time.monotonic(), list[float](), list[float]()
    for number in range(count):
        seconds.append(_launch(folder, number, parallel))
        looks.append(_timed(["squeue", "--noheader", "--array"]))
    submitted = time.monotonic() - begun
    status = _timed([sys.executable, "-m", "mmadfer.cli", "launch", "status", str(folder / "run-000"), "--json"])
    cycle = _cycle()
    done = _wait(folder, count)
    files = [sum(path.is_file() for path in (folder / f"run-{k:03d}").rglob("*")) for k in range(count)]
    rows = [
        ["launch, s each (first / median / last)", f"{seconds[0]:.2f} / {np.median(seconds):.2f} / {seconds[-1]:.2f}"],
        ["all launches, s", f"{submitted:.1f}"],
        ["squeue, s (first / last)", f"{looks[0]:.3f} / {looks[-1]:.3f}"],
        ["launch status with all queued, s", f"{status:.2f}"],
        ["controller's cycle, mean / max, microseconds", cycle],
        ["files per run (first / last)", f"{files[0]} / {files[-1]}"],
        ["folds finished", f"{done} of {count * FOLDS}"],
        ["from the first launch to the last fold, s", f"{time.monotonic() - begun:.0f}"],
    ]
    print(table([f"{count} runs x {FOLDS} folds", ""], rows))


def _store(path: Path) -> Path:
    rng, clips = np.random.default_rng(0), list[tuple[Clip, Record]]()
    for k in range(20):
        jpegs = [encode_jpeg(rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8), 95)] * 4
        clips.append(
            (
                Clip(f"{k:02d}", LABELS[k % 2], 1 + k // 2 % FOLDS, f"{k}.mp4", 4),
                Record(jpegs, np.zeros((512, 128), np.float32)),
            )
        )
    write(path, Header("tiny", LABELS, PrepareConfig(face_size=SIDE)), clips)
    return path


def _config(store: Path) -> Config:
    encoder = {"width": 32, "depth": 2, "heads": 2}
    temporal = {"width": 32, "heads": 2, "head_width": 16, "mlp_width": 64}
    model = {
        "image_size": SIDE,
        "frames": 4,
        "vision": encoder,
        "audio": encoder,
        "latent": 8,
        "prompts": 4,
        "temporal": temporal,
    }
    train = {"epochs": 1, "batch_size": 4}
    tree = {"name": "tiny", "data": {"store": str(store), "threads": 1}, "model": model, "train": train}
    return parse(tree, "the benchmark")


def _launch(folder: Path, number: int, parallel: int) -> float:
    run, seed = folder / f"run-{number:03d}", f"train.seed={number}"
    command = [
        sys.executable,
        "-m",
        "mmadfer.cli",
        "launch",
        str(folder / "tiny.yaml"),
        "--run",
        str(run),
        "--set",
        seed,
    ]
    return _timed(
        [*command, "--cluster", "slurm", "--cpus-per-fold", "1", "--array-parallelism", str(parallel), "--time", "60"]
    )


def _timed(command: list[str]) -> float:
    begun = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


def _cycle() -> str:
    """Of the main scheduler, by `sdiag`."""
    text = subprocess.run(["sdiag"], capture_output=True, text=True, check=True).stdout
    found = [re.search(rf"{name} cycle:\s+(\d+)", text) for name in ("Mean", "Max")]
    return " / ".join(match[1] if match else "?" for match in found)


def _wait(folder: Path, count: int, limit: float = 3600) -> int:
    """Wait until every fold and report has ended; the folds that are finished."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        queued = subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, check=True).stdout.strip()
        if not queued:
            break
        time.sleep(2)
    paths = [runs.fold_dir(folder / f"run-{k:03d}", fold) for k in range(count) for fold in range(1, FOLDS + 1)]
    return sum(runs.result(path) is not None for path in paths)


if __name__ == "__main__":
    main()
