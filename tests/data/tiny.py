"""A store of small made-up clips of 40, 16, 5 and 1 frames, for tests of the loader."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmadfer.config.schema import Config, parse
from mmadfer.data.loading.batch import Batch
from mmadfer.data.store.store import Clip, ClipRecord

FACE, SIDE, CLIPS = 96, 64, 23
LABELS = ("glad", "sad", "calm")


def config(**sections: dict[str, object]) -> Config:
    tree: dict[str, Any] = {
        "name": "tiny",
        "prepare": {"face_size": FACE},
        "data": {"threads": 1},
        "model": {"image_size": SIDE, "vision": {"width": 64, "heads": 2}, "audio": {"width": 64, "heads": 2}},
        "train": {"batch_size": 4},
    }
    for name, section in sections.items():
        tree[name] = {**tree.get(name, {}), **section}
    return parse(tree, where="test")


def jpeg(rng: np.random.Generator) -> bytes:
    """A smooth picture in colour, as a face is: white noise would only measure the chroma filter."""
    small = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    small.resize((FACE, FACE), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def frames_of(number: int) -> int:
    return (40, 16, 5, 1)[number % 4]


def records(clips: int = CLIPS) -> Iterator[tuple[Clip, ClipRecord]]:
    for number in range(clips):
        rng, n = np.random.default_rng(number), frames_of(number)
        clip = Clip(f"c/{number:02}", LABELS[number % 3], 1 + number % 5, f"{number}.mp4", n)
        yield clip, ClipRecord([jpeg(rng) for _ in range(n)], rng.random((512, 128), np.float32))


def same(one: Batch, two: Batch) -> bool:
    pairs = ((getattr(one, name), getattr(two, name)) for name in ("frames", "fbank", "brightness", "drop_path"))
    return one.ids == two.ids and all(torch.equal(*pair) for pair in (*pairs, (label(one), label(two))))


def label(batch: Batch) -> Tensor:
    return batch.targets["label"]


def join(parts: tuple[Batch, ...]) -> Batch:
    names = ("frames", "fbank", "brightness", "drop_path")
    tensors = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    targets = {"label": torch.cat([label(part) for part in parts])}
    return Batch(ids=[clip for part in parts for clip in part.ids], targets=targets, **tensors)
