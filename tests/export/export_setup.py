"""What the export tests share besides fixtures: a tiny model with every part awake, and inputs for it."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from needs import needed

sys.path.append(str(Path(__file__).parents[1] / "data"))
from make_media import tone, write_video

from mmadfer import contract as contracts
from mmadfer.config.model import BottleneckConfig, SumConfig, TransformerConfig
from mmadfer.config.schema import EncoderConfig, ModelConfig, PrepareConfig
from mmadfer.contract import Contract
from mmadfer.data.sets import toy
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights.build import build_model

ENCODER = EncoderConfig(width=32, depth=2, heads=2)
TEMPORAL = TransformerConfig(heads=2, head_width=8, mlp_width=32)
MODEL = ModelConfig(
    image_size=32,
    frames=4,
    vision=ENCODER,
    audio=ENCODER,
    fusion=BottleneckConfig(latent=8),
    joint=SumConfig(width=16),
    prompts=2,
    progressive=2,
    temporal=TEMPORAL,
)
SETTINGS = PrepareConfig(face_size=64, detect_every=20)
CONTRACT = Contract(
    labels=tuple(toy.TOY_CLASSES),
    model=MODEL,
    prepare=SETTINGS,
    data_set="toy",
    fold=1,
    metrics={"uar": 0.25, "war": 0.25},
)


def awake(seed: int) -> MMADFER:
    """A model whose gates are open; as drawn they are 0, and no test would see an error in the fusion."""
    model = build_model(MODEL, len(CONTRACT.labels))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.trainable().values():
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
    return model


def write_two_faces(path: Path) -> Path:
    """A video of two toy faces beside each other, with one voice."""
    (one, sound), (other, _) = toy.content("happy", 0, seed=1), toy.content("sad", 1, seed=1)
    count = min(len(one), len(other))
    toy.write_clip(path, np.concatenate([one[:count], other[:count]], axis=2), sound)
    return path


def clips(batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Random frames uint8 (batch, 4, 3, 32, 32) and sound float32 (batch, 1, 512, 128)."""
    rng = np.random.default_rng(batch)
    frames = rng.integers(0, 256, (batch, 4, 3, 32, 32), np.uint8)
    return frames, rng.standard_normal((batch, 1, 512, 128), np.float32)


def perturbed(source: Path, target: Path, change: float = 1e-3) -> Path:
    """The same graph and contract, with the classifier's bias moved."""
    onnx = needed("onnx")
    model = onnx.load(source)
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "classifier.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(change), bias.name))
    onnx.save(model, target)
    return target


def relabelled(source: Path, target: Path, **update: Any) -> Path:
    """The same graph with another contract."""
    onnx = needed("onnx")
    model = onnx.load(source)
    entry = next(entry for entry in model.metadata_props if entry.key == contracts.KEY)
    entry.value = contracts.loads(entry.value).model_copy(update=update).dumps()
    target.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, target)
    return target


PEAK = """
import re, sys
from pathlib import Path
from mmadfer import Recogniser
found = Recogniser(sys.argv[1], faces=sys.argv[3])(sys.argv[2], window=5, hop=3)
most = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]  # getrusage counts the parent's
print(len(found.segments), int(most) // 1024)
"""


def peak(model: Path, path: Path, pictures: Sequence[np.ndarray], minutes: int, faces: str) -> tuple[int, int]:
    """Predictions of a video of so many minutes, 5 pictures a second, and the process's most memory in MiB."""
    count = minutes * 60 * 5
    video = write_video(
        path / f"{minutes}.mkv",
        [pictures[k % len(pictures)] for k in range(count)],
        tone(minutes * 60, channels=6),
        codecs=("mpeg4", "pcm_s16le"),
        ticks=[5 * k for k in range(count)],
    )
    steady = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}  # else two runs differ by 100 MiB
    done = subprocess.run(
        [sys.executable, "-c", PEAK, model, video, faces],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | steady,
    )
    predicted, size = map(int, done.stdout.split())
    return predicted, size
