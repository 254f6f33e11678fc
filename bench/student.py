"""What a student saves: size, the model alone, and from file to label, beside a teacher of face and sound.

    OMP_NUM_THREADS=1 python bench/student.py [--rounds 3] [--small]

The weights are random, which are as large and as fast as trained ones; the models are exported to ONNX in float32 and
run by ONNX Runtime, one clip at a time. The teacher is MMA-DFER as published, at 160 pixels: two ViT-B, 16 frames and
5.12 s of sound. The students see frames alone, and have its prompts and temporal transformer. In each round every model
answers once, one after the other, so that what else the machine does hits all alike. Told are medians of the rounds; a
ratio is the median of those to the teacher in the same round, above 1 for what is faster. From file to label is what
`mmadfer predict` does with toy videos of 3 s with sound, faces found with MTCNN; `silent` are the same without it.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import av
import torch
from _model import SMALL, awake
from common import machine, table, turns

from mmadfer.config.schema import ModelConfig, PrepareConfig
from mmadfer.contract import Contract
from mmadfer.data.sets import toy
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.model.weights.build import save_weights
from mmadfer.runtime import Recogniser
from mmadfer.runtime.arrays import empty_clip

ALONE: dict[str, Any] = {"branches": "vision", "fusion": "none"}
TINY = {"timm": "vit_tiny_patch16_224", "width": 192, "depth": 12, "heads": 3}
MODELS: dict[str, dict[str, Any]] = {
    "teacher, ViT-B both": {},
    "student, ViT-B frames": ALONE,
    "student, ViT-S frames": {**ALONE, "vision": {"timm": "vit_small_patch16_224", "width": 384, "heads": 6}},
    "student, ViT-Ti frames": {**ALONE, "vision": TINY},
}
TEACHER = next(iter(MODELS))
VIDEOS = 2


@dataclass(frozen=True)
class Exported:
    """A model that answers."""

    recogniser: Recogniser
    parameters: int
    trained: int

    @property
    def megabytes(self) -> float:
        """Of the ONNX file."""
        return self.recogniser.path.stat().st_size / 1e6


def main() -> None:
    """Make, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="tiny models, to try the program")
    given = parser.parse_args()
    print(machine(), f"{torch.get_num_threads()} threads, {given.rounds} rounds", sep="\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-student-") as name:
        work = Path(name)
        models = {name: made(work / f"{k}", keys, given.small) for k, (name, keys) in enumerate(MODELS.items())}
        loud, silent = videos(work)
        print(table(*rows(models, loud, silent, given.rounds)))


def made(folder: Path, keys: Mapping[str, Any], small: bool) -> Exported:
    """A model with random weights, exported."""
    base = SMALL if small else ModelConfig()
    own = ModelConfig.model_validate(base.model_dump(mode="json") | (keys | {"vision": base.vision} if small else keys))
    settings = PrepareConfig(face_size=64) if small else PrepareConfig()
    facts: dict[str, Any] = {"data_set": toy.TOY, "fold": 1, "modalities": own.branches}
    contract = Contract(labels=tuple(toy.TOY_CLASSES), model=own, prepare=settings, **facts)
    model = awake(own, len(contract.labels))
    folder.mkdir()
    save_weights(folder / "model.safetensors", model, contract, frozen=True)
    counts = [sum(one.numel() for one in some) for some in (model.parameters(), model.trainable().values())]
    return Exported(Recogniser(to_onnx(folder / "model.safetensors", folder / "model.onnx")).warm(), *counts)


def videos(work: Path) -> tuple[list[Path], list[Path]]:
    """Toy videos, and the same without their sound."""
    toy.make(work / "toy", clips_per_class=1)
    loud = [clip.media for clip in toy.table(work / "toy").clips][:VIDEOS]
    return loud, [without_sound(path, work / f"silent-{path.name}") for path in loud]


def without_sound(source: Path, path: Path) -> Path:
    """The same packets of the picture."""
    with av.open(str(source)) as there, av.open(str(path), "w") as file:
        copied = file.add_stream_from_template(there.streams.video[0])
        for packet in there.demux(video=0):
            if packet.dts is not None:
                packet.stream = copied
                file.mux(packet)
    return path


def rows(
    models: Mapping[str, Exported], loud: list[Path], silent: list[Path], rounds: int
) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table."""
    alone = measured(models, rounds, lambda one: one.recogniser.backend.logits(*empty_clip(one.recogniser.contract)))
    whole = measured(models, rounds, lambda one: [one.recogniser(path) for path in loud])
    students = {name: one for name, one in models.items() if name != TEACHER}
    still = measured(students, rounds, lambda one: [one.recogniser(path) for path in silent])
    heads = ["", "million weights", "trained", "MB", "ms, 1 clip", "ratio", "ms, file to label", "ratio", "silent"]
    found = []
    for name, one in models.items():
        size = [f"{one.parameters / 1e6:.1f}", f"{one.trained / 1e6:.2f}", f"{one.megabytes:.0f}"]
        quiet = f"{1000 * median(still[name]) / len(silent):.0f}" if name in still else "-"
        found.append([name, *size, *told(alone, name, 1), *told(whole, name, len(loud)), quiet])
    return heads, found


def measured(
    models: Mapping[str, Exported], rounds: int, answer: Callable[[Exported], object]
) -> dict[str, list[float]]:
    """Seconds of each round, by model."""
    found: dict[str, list[float]] = {name: [] for name in models}
    for _, names in turns(list(models), rounds):
        for name in names:
            begin = time.perf_counter()
            answer(models[name])
            found[name].append(time.perf_counter() - begin)
    return found


def told(seconds: Mapping[str, list[float]], name: str, files: int) -> list[str]:
    """Milliseconds of one, and the ratio to the teacher."""
    ratio = median(theirs / own for own, theirs in zip(seconds[name], seconds[TEACHER], strict=True))
    return [f"{1000 * median(seconds[name]) / files:.0f}", f"{ratio:.2f}"]


if __name__ == "__main__":
    main()
