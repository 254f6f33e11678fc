import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from launch_setup import Commands
from PIL import Image

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.store.store import Clip, ClipRecord, Header, write_store

LABELS = ("glad", "sad")
CONFIG = """
name: tiny
prepare: {face_size: 32}
data: {store: STORE, folds: 2, threads: 1}
model:
  image_size: 32
  frames: 4
  vision: {width: 32, depth: 2, heads: 2}
  audio: {width: 32, depth: 2, heads: 2}
  fusion: {latent: 8}
  joint: {width: 32}
  prompts: 2
  progressive: 1
  temporal: {heads: 2, head_width: 16, mlp_width: 32}
train: {epochs: 2, batch_size: 4, lr: 1.0e-3}
"""


def _records(folds: int) -> Iterator[tuple[Clip, ClipRecord]]:
    for number in range(24):
        rng = np.random.default_rng(number)
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(buffer, "JPEG")
        clip = Clip(f"c{number:02}", LABELS[number % 2], 1 + number // 2 % folds, f"{number}.mp4", 6)
        yield clip, ClipRecord([buffer.getvalue()] * 6, rng.random((512, 128), np.float32))


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four clips of noise in two folds."""
    path = tmp_path_factory.mktemp("store") / "tiny.store"
    write_store(path, Header("tiny", LABELS, PrepareConfig(face_size=32)), _records(2))
    return path


@pytest.fixture
def config(store: Path, tmp_path: Path) -> Path:
    """A configuration file whose folds train in seconds."""
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG.replace("STORE", str(store)))
    return path


@pytest.fixture
def five(tmp_path: Path) -> Path:
    """The same with five folds."""
    store, path = tmp_path / "five.store", tmp_path / "five.yaml"
    write_store(store, Header("five", LABELS, PrepareConfig(face_size=32)), _records(5))
    path.write_text(CONFIG.replace("STORE", str(store)).replace("folds: 2", "folds: 5"))
    return path


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Stand-ins for SLURM's commands; they are all of PATH."""
    made = Commands(tmp_path / "commands")
    monkeypatch.setenv("PATH", str(made.folder))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return made
