"""A tiny store, a tiny model, and ways to train it."""

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import safe_open

from mmadfer import contract as contracts
from mmadfer.config.schema import Config, PrepareConfig, parse
from mmadfer.contract import Contract
from mmadfer.data.store.store import Clip, ClipRecord, Header, write_store
from mmadfer.data.store.targets import Target
from mmadfer.utils.files import sha256
from mmadfer.utils.ports import free_port

LABELS = ("glad", "sad", "calm")
CLIPS = 24
SIDE = 32


def make_store(
    path: Path,
    spoilt: Iterable[str] = (),
    fingerprint: str = "",
    rates: Sequence[int] = (0,),
    cropped: int = 0,
    folds: int = 2,
    values: bool = False,
    steps: bool = False,
    **prepare: Any,
) -> Path:
    """24 clips of 3 classes in `folds` folds; the sound of the `spoilt` ones is NaN; clip k is told to be of rates[k].

    The first `cropped` clips are told to have been cropped by the set's owners. With `values`, clips also have a target
    `feeling`, of valence and arousal, that depends on their class. With `steps`, that is a number for each frame, which
    is missing in the first frame, and in all of clip 6.
    """
    settings = PrepareConfig.model_validate({"face_size": SIDE, **prepare})
    kind = "values" if values else "steps"
    targets = {"feeling": Target(kind, ("valence", "arousal"))} if values or steps else {}
    header = Header("tiny", LABELS, settings, Path("/media"), fingerprint, targets=targets)
    clips = (_clip(k, folds, f"c{k:02d}" in set(spoilt)) for k in range(CLIPS))
    told = (
        (replace(clip, rate=rates[k % len(rates)], cropped=k < cropped), data) for k, (clip, data) in enumerate(clips)
    )
    with_values = ((replace(clip, targets={"feeling": FELT[clip.label]}), data) for clip, data in told)
    write_store(path, header, with_values if values else map(_with_steps, told) if steps else told)
    return path


FELT = {"glad": [0.6, 0.3], "sad": [-0.5, -0.2], "calm": [0.1, -0.6]}
"""Valence and arousal of a class."""
VALUES = {"valence": [-1, 1], "arousal": [-1, 1]}
"""The range of each."""


def _with_steps(made: tuple[Clip, ClipRecord]) -> tuple[Clip, ClipRecord]:
    clip, data = made
    if clip.id == "c06":
        return made
    over_time = 0.2 * np.sin(np.arange(clip.frames))[:, None]
    trace = (np.array(FELT[clip.label]) + over_time).astype(np.float32)
    trace[0] = np.nan
    return replace(clip, tensors={"feeling": ""}), replace(data, tensors={"feeling": trace})


def _clip(number: int, folds: int, spoilt: bool) -> tuple[Clip, ClipRecord]:
    rng, kind = np.random.default_rng(number), number % len(LABELS)
    frames = [rng.integers(0, 120, (SIDE, SIDE, 3)) + 60 * kind for _ in range(3 + number % 4)]
    fbank = rng.normal(kind - 1, 0.5, (512, 128)).astype(np.float32)
    if spoilt:
        fbank[:] = np.nan
    clip = Clip(f"c{number:02d}", LABELS[kind], 1 + number // 3 % folds, f"{number}.mp4", len(frames))
    return clip, ClipRecord([_jpeg(frame.astype(np.uint8)) for frame in frames], fbank)


def _jpeg(frame: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "JPEG", quality=90)
    return out.getvalue()


def without(config: Config) -> Config:
    """The same without a section `task`."""
    tree = config.model_dump(exclude_unset=True)
    del tree["task"]
    return parse(tree, "the test")


def make_config(store: Path, folds: int = 2, task: dict[str, Any] | None = None, **train: Any) -> Config:
    """Two epochs of three steps of four clips."""
    encoder = {"width": 32, "depth": 2, "heads": 2}
    model = {
        "image_size": SIDE,
        "frames": 4,
        "vision": encoder,
        "audio": {**encoder, "seed": 1},
        "fusion": {"latent": 8},
        "joint": {"width": 32},
        "prompts": 4,
        "temporal": {"heads": 2, "head_width": 16, "mlp_width": 64},
    }
    defaults = {"epochs": 2, "batch_size": 4, "lr": 1e-3, "save_every": 2, "log_every": 1}
    data = {"store": str(store), "folds": folds, "threads": 1}
    sections = {"prepare": {"face_size": SIDE}, "data": data, "model": model, "task": task or {}}
    tree = {"name": "tiny", **sections, "train": {**defaults, **train}}
    return parse(tree, "the test")


def regression(store: Path, per: str = "clip", **way: Any) -> Config:
    """As `make_config`, with valence and arousal of each clip or step in place of classes."""
    tree = make_config(store, **way).model_dump()
    task = {"name": "regression", "values": VALUES, "target": "feeling"}
    model = {**tree["model"], "head": {"name": "values", "range": [-1, 1], "per": per}}
    return parse({**tree, "model": model, "task": task}, "the test")


class StopAt:
    """Asks to stop when it has been asked `n` times."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def checkpoints(folder: Path) -> list[Path]:
    """Published checkpoints, the oldest first."""
    return sorted(path for path in (folder / "checkpoints").glob("step-*") if not path.suffix)


def seal(checkpoint: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a checkpoint's state.json, and give it the marks of the files as they are now: it lies, and is whole."""
    tree = json.loads((checkpoint / "state.json").read_text())
    del tree["sha256"]
    for name in tree["files"]:
        path = checkpoint / name
        tree["files"][name] = {"size": path.stat().st_size, "sha256": sha256(path)}
    change(tree)
    digest = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
    (checkpoint / "state.json").write_text(json.dumps({**tree, "sha256": digest}))


def weights(folder: Path) -> bytes:
    """The newest checkpoint's weights file."""
    return (checkpoints(folder)[-1] / "weights.safetensors").read_bytes()


def promises(checkpoint: Path) -> Contract:
    """The contract in a checkpoint's weights file."""
    with safe_open(checkpoint / "weights.safetensors", "pt") as file:
        return contracts.loads(file.metadata()[contracts.KEY])


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl of one kind."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == kind]


def start(config: Config, run: Path, *options: str, env: dict[str, str] | None = None, **how: Any) -> subprocess.Popen:
    """`mmadfer train` on fold 1, in a process of its own."""
    file = run.with_suffix(".yaml")
    file.write_text(config.to_yaml())
    command = [sys.executable, "-m", "mmadfer", "train", str(file), "--run", str(run), "--fold", "1", *options]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)


def start_ranks(config: Config, run: Path, *options: str, ranks: int = 2) -> list[subprocess.Popen]:
    """As `start`, on so many ranks of this machine."""
    return [start(config, run, *options, env=env) for env in rank_variables(ranks)]


def train_on_two_ranks(config: Config, run: Path, *options: str) -> list[str]:
    """`mmadfer train` on fold 1 until it is done; what each rank prints."""
    ranks = start_ranks(config, run, *options)
    ends = [_end(rank) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], ends
    return [out for out, _ in ends]


def _end(rank: subprocess.Popen) -> tuple[str, str]:
    """What a rank prints until it ends, or is ended: one waits for long for another that failed."""
    try:
        return rank.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        rank.kill()
        return rank.communicate()


def rank_variables(ranks: int) -> list[dict[str, str]]:
    """The variables by which ranks on this machine find each other."""
    shared = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


def wait_for_step(folder: Path, step: int, process: subprocess.Popen) -> None:
    """Return once the run has logged this step."""
    while process.poll() is None:
        if (folder / "metrics.jsonl").exists() and f'"step": {step},' in (folder / "metrics.jsonl").read_text():
            return
        time.sleep(0.01)
    raise AssertionError(f"training ended before step {step}: {process.communicate()}")
