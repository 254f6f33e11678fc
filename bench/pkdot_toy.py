"""A toy with privileged sound: what is a teacher that hears worth to a student that only sees, and what its control?

    OMP_NUM_THREADS=1 python bench/pkdot_toy.py [--seeds 8]                     features, and perceptrons
    OMP_NUM_THREADS=1 python bench/pkdot_toy.py --store FILE [--seeds 3]        videos, and the whole product

Of the first, a clip has a point in 8 dimensions around the centre of its class, one of 6. The sound (40 numbers) shows
the point with an error of 0.3, the face (40 numbers) with one of 2.2. Teacher and student are perceptrons with layers
of 64 and 32, trained for 60 epochs on 192 clips in batches of 64 (Adam, 1e-3); told is the accuracy on 1,000 others. Of
the second, `toy_privileged` makes the videos; the configurations are pkdot_toy_teacher and pkdot_toy, and told is the
UAR of fold 1 after the last epoch.

The losses are the product's own (`task.distill`). Every seed trains a teacher, and each row a student of its own, from
the same weights. `shuffled` is the control: the teacher's features of other clips. The last column is the gain over no
distillation, seed by seed, with its deviation.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from common import machine, table, uar_of_fold_1
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmadfer.config.distillation import DISTILLATIONS
from mmadfer.config.model import ModelConfig
from mmadfer.tasks.base import Term
from mmadfer.tasks.output import Output

WAYS: dict[str, dict[str, Any]] = {
    "logits": {"name": "logits"},
    "features": {"name": "features"},
    "similarity": {"name": "similarity"},
    "pkdot, lowest": {"name": "pkdot"},
    "pkdot, highest": {"name": "pkdot", "anchors": "highest"},
    "pkdot, lowest, shuffled": {"name": "pkdot", "shuffle": True},
}
"""`task.distill`, by row."""
TEACHER, PLAIN = "teacher", "no distillation"
CLASSES, POINT, NUMBERS = 6, 8, 40
FACE_ERROR, SOUND_ERROR = 2.2, 0.3
TRAINED, TESTED, BATCH, EPOCHS, WIDTH, K, ITERATIONS = 192, 1000, 64, 60, 32, 15, 100


class Clips(NamedTuple):
    """What clips show and say; N clips."""

    face: Tensor
    """(N, NUMBERS)."""
    sound: Tensor
    """(N, NUMBERS)."""
    label: Tensor
    """int64 (N,)."""

    @property
    def both(self) -> Tensor:
        """(N, 2 NUMBERS)."""
        return torch.cat([self.face, self.sound], dim=1)


Model = tuple[nn.Module, nn.Module]
"""Body and head of a perceptron."""


def main() -> None:
    """Train all, and print the table."""
    given = options()
    torch.set_num_threads(1)
    print(machine(), flush=True)
    found: dict[str, list[float]] = {}
    for seed in range(given.seeds):
        for name, score in of_product(given.store, seed, given.rows) if given.store else of_seed(seed, given.rows):
            found.setdefault(name, []).append(score)
            print(f"seed {seed}, {name}: {100 * score:.1f}", flush=True)
    print(table(["", "%", "deviation", "gain", "deviation"], [_row(name, found) for name in found]))


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="of toy_privileged; without one, features and perceptrons")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", nargs="+", choices=[*WAYS], default=[*WAYS])
    return parser.parse_args()


def _row(name: str, found: dict[str, list[float]]) -> list[str]:
    scores = found[name]
    gains = [score - plain for score, plain in zip(scores, found[PLAIN], strict=True)]
    return [name, *_spread(scores, "{:.1f}"), *(["-", "-"] if name == PLAIN else _spread(gains, "{:+.1f}"))]


def _spread(values: list[float], form: str) -> list[str]:
    return [form.format(100 * mean(values)), f"{100 * stdev(values):.1f}" if len(values) > 1 else "-"]


# ---------------------------------------------------------------- features


def of_seed(seed: int, rows: list[str]) -> Iterator[tuple[str, float]]:
    """The accuracy of the teacher, of the student alone, and of the rows."""
    trained, tested = clips(seed, 0, TRAINED), clips(seed, 1, TESTED)
    teacher = fit(seed, trained.both, trained.label)
    yield TEACHER, accuracy(teacher, tested.both, tested.label)
    for name in (PLAIN, *rows):
        student = fit(seed, trained.face, trained.label, term(name, seed), teacher, trained.both)
        yield name, accuracy(student, tested.face, tested.label)


def clips(seed: int, part: int, count: int) -> Clips:
    """Drawn from (seed, part); centres and what is seen and heard of a point are those of the seed."""
    world, own = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(1000 * seed + part + 1)
    centres = torch.randn(CLASSES, POINT, generator=world)
    shown, heard = torch.randn(2, POINT, NUMBERS, generator=world) / POINT**0.5
    label = torch.arange(count) % CLASSES
    point = centres[label] + torch.randn(count, POINT, generator=own)
    errors = torch.randn(2, count, NUMBERS, generator=own)
    return Clips(point @ shown + FACE_ERROR * errors[0], point @ heard + SOUND_ERROR * errors[1], label)


def term(name: str, seed: int) -> Term | None:
    """The product's loss between teacher and student; None for a student alone."""
    if name == PLAIN:
        return None
    keys = WAYS[name] | ({"k": K, "iterations": ITERATIONS} if WAYS[name]["name"] == "pkdot" else {})
    settings: Any = DISTILLATIONS.section(keys["name"]).model_validate(keys)
    sees = ModelConfig.model_validate(
        {"branches": "vision", "fusion": "none", "joint": {"name": "sum", "width": WIDTH}}
    )
    both = ModelConfig.model_validate({"joint": {"name": "sum", "width": WIDTH}})
    torch.manual_seed(seed)
    made: Term = settings.term()(settings, SimpleNamespace(config=sees), SimpleNamespace(config=both))
    return made


def fit(
    seed: int, inputs: Tensor, label: Tensor, term: Term | None = None, teacher: Model | None = None, seen: Any = None
) -> Model:
    """A perceptron trained on `inputs`; with a term, also on what the teacher says of what it has `seen`."""
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Linear(inputs.shape[1], 64), nn.ReLU(), nn.Linear(64, WIDTH))
    model = body, nn.Linear(WIDTH, CLASSES)
    learning = [*body.parameters(), *model[1].parameters(), *(term.parameters() if term else ())]
    optimizer, order = torch.optim.Adam(learning, 1e-3), torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(label), generator=order).split(BATCH):
            said = says(model, inputs[part])
            loss = cross_entropy(said.logits, label[part])
            if term is not None and teacher is not None:
                with torch.no_grad():
                    told = says(teacher, seen[part])
                batch: Any = SimpleNamespace(ids=[str(k) for k in part.tolist()], targets={})
                loss = loss + term.weight * term(said, batch, told)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def says(model: Model, inputs: Tensor) -> Output:
    """As a model of the product says it."""
    pooled = model[0](inputs)
    return Output(model[1](pooled), pooled[:, None], pooled, {})


@torch.no_grad()
def accuracy(model: Model, inputs: Tensor, label: Tensor) -> float:
    """The share of clips with the right class."""
    return float((says(model, inputs).logits.argmax(1) == label).float().mean())


# ---------------------------------------------------------------- the product


def of_product(store: Path, seed: int, rows: list[str]) -> Iterator[tuple[str, float]]:
    """The UAR of the teacher, of the student alone, and of the rows, all trained on fold 1 of the store."""
    own = [f"data.store={store}", f"train.seed={seed}"]
    with tempfile.TemporaryDirectory(prefix="bench-pkdot-") as name:
        work = Path(name)
        yield TEACHER, uar_of_fold_1(work / TEACHER, "pkdot_toy_teacher", own)
        yield PLAIN, uar_of_fold_1(work / "plain", "pkdot_toy_teacher", [*own, "model.branches=vision"])
        taught = [*own, f"stages.teacher={work / TEACHER}"]
        for number, row in enumerate(rows):
            keys = WAYS[row] | ({"k": K} if WAYS[row]["name"] == "pkdot" else {})
            yield row, uar_of_fold_1(work / f"{number}", "pkdot_toy", [*taught, f"task.distill={keys}"])


if __name__ == "__main__":
    main()
