"""What an additional loss costs: a step of training with `task.distill`, `task.t_net` or `task.align`, and without.

    python bench/terms.py [--batch 4] [--frames 16] [--rounds 3] [--small]

The model of face and sound is the published one, its student sees frames alone and asks it. Weights are random, in
float32, and all rows train on the same clips. In each round every row takes a step, one after the other, so that what
else the machine does hits all alike; `of none` is the median over rounds of the time to that of the same model without
a term. `processor` are seconds of all cores. The second table has the loss of pkdot alone, with its gradient, on random
features.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from _model import SMALL, awake
from common import machine, short, table, turns

from mmadfer.config.distillation import PkdotConfig
from mmadfer.config.model import ModelConfig
from mmadfer.config.task import TaskConfig
from mmadfer.config.training import TrainConfig
from mmadfer.data.loading.batch import Batch
from mmadfer.data.sets.drawn_face import placed, unit_points
from mmadfer.distributed.ranks import Ranks, connected
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.tasks.codebook import EXPRESSIONS
from mmadfer.tasks.optimal_transport import anchor_rows, divergence
from mmadfer.train.deepspeed_engine import Engine

BOTH, ALONE, NONE = "face and sound", "frames alone", "none"
ROWS: dict[str, dict[str, dict[str, Any]]] = {
    BOTH: {NONE: {}, "align": {"align": {}}, "align, 3 layers": {"align": {"layers": [3, 7, "last"]}}},
    ALONE: {
        NONE: {},
        "logits": {"distill": {"name": "logits"}},
        "pkdot": {"distill": {"name": "pkdot"}},
        "pkdot, t_net": {"distill": {"name": "pkdot"}, "t_net": {}},
    },
}
"""Model -> row -> keys of `task`."""
SHARE = 4
"""Clips of a batch for an anchor."""
CLOUDS = ((8, 2), (32, 8), (128, 30))
"""Clips of a batch and anchors."""


@dataclass
class Row:
    """A model with a term."""

    engine: Engine
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def step(self, batch: Batch) -> None:
        """One step, which is timed."""
        begun, used = time.perf_counter(), time.process_time()
        self.engine.step([batch], self.engine.config.lr, lambda: False).read()
        self.seconds.append(time.perf_counter() - begun)
        self.processor.append(time.process_time() - used)


def main() -> None:
    """Measure, and print both tables."""
    given = options()
    print(machine(), f"{torch.get_num_threads()} threads, {given.rounds} rounds", sep="\n", flush=True)
    batch = clips(given.model, given.batch)
    with connected() as ranks:
        rows = made(given.model, given.batch, ranks)
        measure(rows, batch.moved(lambda one: one.to(ranks.device)), given.rounds)
        print(f"\n{given.batch} clips of {given.model.frames} frames of {given.model.image_size} px")
        print(table(["", "term", "ms a step", "of none", "processor, s", "of none"], told(rows)), flush=True)
        for row in rows.values():
            row.engine.close()
        print(f"\n{table(['clips', 'anchors', 'ms'], transports(given.rounds, ranks.device))}")


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--frames", type=int, help="of a clip (default: 16)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="tiny models, to try the program")
    given = parser.parse_args()
    model = SMALL if given.small else ModelConfig()
    given.model = model.model_copy(update={"frames": given.frames or model.frames})
    return given


def made(model: ModelConfig, count: int, ranks: Ranks) -> dict[tuple[str, str], Row]:
    """All rows, each with weights of its own, and the same teacher."""
    alone = ModelConfig.model_validate(model.model_dump(mode="json") | {"branches": "vision", "fusion": "none"})
    config = TrainConfig(batch_size=count, precision="fp32")
    teacher, found = awake(model, len(EXPRESSIONS)).eval(), dict[tuple[str, str], Row]()
    for name, own in ((BOTH, model), (ALONE, alone)):
        for row, keys in ROWS[name].items():
            if fits(keys, own):
                found[name, row] = Row(engine(own, config, ranks, task(keys, count), teacher))
    return found


def fits(keys: dict[str, Any], model: ModelConfig) -> bool:
    """Whether the model has the layers that are named."""
    return all(layer == "last" or layer < model.layers for layer in keys.get("align", {}).get("layers", ()))


def task(keys: dict[str, Any], count: int) -> TaskConfig:
    """With as many anchors as fit the batch."""
    anchors = {"k": max(1, count // SHARE)} if keys.get("distill", {}).get("name") == "pkdot" else {}
    return TaskConfig.model_validate({**keys, **({"distill": keys["distill"] | anchors} if "distill" in keys else {})})


def engine(config: ModelConfig, train: TrainConfig, ranks: Ranks, task: TaskConfig, teacher: MMADFER) -> Engine:
    """With the teacher, where something asks it."""
    asks = any(one.uses_teacher for one in task.terms.values())
    return Engine(awake(config, len(EXPRESSIONS)), train, ranks, task, teacher if asks else None)


def clips(model: ModelConfig, count: int) -> Batch:
    """Random frames and sound; the landmarks of a face in the middle, with expressions that have action units."""
    side, rng = model.image_size, torch.Generator().manual_seed(1)
    face = torch.from_numpy(placed(unit_points(0.1, 0), side / 2, side / 2, 0.35 * side, 0).astype(np.float32))
    labels = torch.arange(count) % len(EXPRESSIONS)
    return Batch(
        torch.randint(0, 256, (count, model.frames, 3, side, side), dtype=torch.uint8, generator=rng),
        torch.randn(count, 1, *model.fbank, generator=rng),
        {"label": labels},
        [str(k) for k in range(count)],
        torch.ones(count),
        torch.rand(count, model.frames + 1, model.vision.depth, 2, generator=rng),
        landmarks=face.expand(count, model.frames, *face.shape),
        expressions=labels,
    )


def measure(rows: dict[tuple[str, str], Row], batch: Batch, rounds: int) -> None:
    """A step of each that does not count, and one in each round."""
    for row in rows.values():
        row.step(batch)
        row.seconds.clear()
        row.processor.clear()
    names = {" ".join(key): row for key, row in rows.items()}
    for number, order in turns(list(names), rounds):
        for name in order:
            names[name].step(batch)
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)


def told(rows: dict[tuple[str, str], Row]) -> list[list[str]]:
    """The first table."""
    found = []
    for (model, name), row in rows.items():
        plain, cells = rows[model, NONE], list[str]()
        for own, theirs, scale in ((row.seconds, plain.seconds, 1000), (row.processor, plain.processor, 1)):
            cells += [short(scale * median(own)), ratio(own, theirs)]
        found.append([model, name, *cells])
    return found


def ratio(own: Sequence[float], theirs: Sequence[float]) -> str:
    """The median over rounds, and the least and the most."""
    each = [one / other for one, other in zip(own, theirs, strict=True)]
    return f"{median(each):.3f} ({min(each):.3f} to {max(each):.3f})"


def transports(rounds: int, device: torch.device) -> list[list[str]]:
    """The second table."""
    found = []
    for count, anchors in CLOUDS:
        features = torch.randn(2, count, ModelConfig().width, generator=torch.Generator().manual_seed(1)).to(device)
        seconds = [timed(partial(transport, features, anchors)) for _ in range(1 + rounds)][1:]
        found.append([f"{count}", f"{anchors}", short(1000 * median(seconds))])
    return found


def transport(features: torch.Tensor, anchors: int) -> None:
    """The loss of a batch, and its gradient, of features (2, B, W) of teacher and student."""
    settings, own = PkdotConfig(k=anchors), features[1].clone().requires_grad_()
    rows = anchor_rows(features[0], own, settings.k, settings.anchors)
    divergence(*rows, settings.blur, settings.iterations).backward()
    assert own.grad is not None
    float(own.grad.sum())


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
