"""Drawn faces whose action units are moved by hand: is attention drawn to the units, and at what price?

    python bench/aus_toy.py [--seeds 1 2 3] [--weights 0 9] [--layers last] [--steps 1000] [--store FILE]

The set is toy_units, the model that of `aus_toy`, the maps and the loss are the product's. Clips are seen in four ways
(two sets of frames, as they are and mirrored) that are read once, so that a training takes two minutes; `train` does
the same by the configuration `aus_toy`. Told are UAR, and the mean cosine of attention and map in the last layer over
the frames with a map, of the test clips of fold 1 after the last step; the cosine also where it is not trained.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np
import torch
from common import machine, table
from torch import Tensor
from torch.nn.functional import cross_entropy

from mmadfer.config.alignment import AlignConfig
from mmadfer.config.schema import Config, load
from mmadfer.data.fold_clips import test_clips, training_clips
from mmadfer.data.loading.loader import Loader
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.sets import toy_units
from mmadfer.data.store.store import Store
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights.build import build_model
from mmadfer.tasks.action_units import expression_maps
from mmadfer.tasks.alignment import Alignment, cosines, mean_loss
from mmadfer.tasks.metrics import confusion, uar

BATCH, WARM = 16, 30
"""Clips and steps of warm-up."""


class Views(NamedTuple):
    """N clips as they are seen, with the maps of their M = N T frames."""

    frames: Tensor
    """uint8 (N, T, 3, S, S)."""
    labels: Tensor
    """int64 (N,)."""
    maps: Tensor
    """float32 (M, h', w')."""
    valid: Tensor
    """bool (M,)."""

    def of(self, clips: Tensor) -> "Views":
        """Some of them."""
        times = self.frames.shape[1]
        rows = (clips[:, None] * times + torch.arange(times)).flatten()
        return Views(self.frames[clips], self.labels[clips], self.maps[rows], self.valid[rows])


class Outcome(NamedTuple):
    """Of one training."""

    cosine: float
    uar: float


def main() -> None:
    """Train with every weight from every seed, and print a table."""
    given = options()
    torch.set_num_threads(1)
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        trained, tested = views_of_set(given.store or make_store(Path(folder)))
    ways = [(weight, layers) for weight in given.weights for layers in (given.layers if weight else ["-"])]
    found = dict[tuple[float, str], list[Outcome]]()
    for seed in given.seeds:
        for weight, layers in ways:
            one = outcome(trained, tested, seed, weight, "last" if layers == "-" else layers, given.steps)
            print(f"seed {seed}, lambda {weight:g}, {layers}: {one.cosine:.3f}, UAR {100 * one.uar:.1f} %", flush=True)
            found.setdefault((weight, layers), []).append(one)
    print(table(["lambda", "layers", "cosine", "UAR"], [_row(*way, outcomes) for way, outcomes in found.items()]))


def _row(weight: float, layers: str, found: list[Outcome]) -> list[str]:
    return [f"{weight:g}", layers, told([one.cosine for one in found], 3), told([100 * one.uar for one in found], 1)]


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--weights", type=float, nargs="+", default=[0, 9])
    parser.add_argument("--layers", nargs="+", default=["last"], help='Each as "last", or "0 last".')
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--store", type=Path, help="The set, prepared with aus_toy; by default it is made.")
    return parser.parse_args()


def told(numbers: list[float], digits: int) -> str:
    """Mean and deviation over seeds."""
    spread = f" ± {stdev(numbers):.{digits}f}" if len(numbers) > 1 else ""
    return f"{fmean(numbers):.{digits}f}{spread}"


def make_store(folder: Path, clips_per_class: int = toy_units.CLIPS_PER_CLASS) -> Path:
    """The toy set, prepared."""
    root, store = folder / "set", folder / "toy.store"
    toy_units.make(root, clips_per_class, jobs=1)
    prepare(toy_units.table(root), store, load("aus_toy").prepare, jobs=1)
    return store


def views_of_set(path: Path) -> tuple[Views, Views]:
    """Four views of each training clip of fold 1, and one of each test clip."""
    config = load("aus_toy", [f"data.store={path}", "data.test_clips=2"])
    with Store(path) as store:
        loader = Loader(store, config, store.labels)
        training = [clip.id for clip in training_clips(config, store, 1)]
        ways = [{"clip": clip, "flip": flip} for clip in (0, 1) for flip in (False, True)]
        trained = [_views(config, loader, training, **way) for way in ways]
        tested = _views(config, loader, test_clips(config, store, 1))
        loader.close()
    return Views(*(torch.cat(parts) for parts in zip(*trained, strict=True))), tested


def _views(config: Config, loader: Loader, ids: list[str], **way: Any) -> Views:
    batches = [(b.frames.clone(), b.targets["label"], b.landmarks, b.expressions) for b in loader.test(ids, 20, **way)]
    frames, labels, landmarks, expressions = (torch.cat(parts) for parts in zip(*batches, strict=True))
    grid, size = config.model.image_size // config.model.vision.patch, config.model.image_size
    each = expressions.repeat_interleave(frames.shape[1])
    return Views(frames, labels, *expression_maps(landmarks.flatten(0, 1), (size, size), each, (grid, grid)))


def outcome(trained: Views, tested: Views, seed: int, weight: float, layers: str, steps: int) -> Outcome:
    """Train from a seed, and look at the test clips."""
    config = load("aus_toy")
    model = build_model(config.model, len(toy_units.UNITS_CLASSES), seed)
    align = AlignConfig(layers=tuple("last" if name == "last" else int(name) for name in layers.split()))
    term, generator = Alignment(align, model, None), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.trainable().values(), weight_decay=0.01)
    for step in range(steps):
        rate = config.train.lr * min(1, (step + 1) / WARM) * (1 + np.cos(np.pi * step / steps)) / 2
        optimizer.param_groups[0]["lr"] = float(rate)
        batch = trained.of(torch.randint(0, len(trained.labels), (BATCH,), generator=generator))
        optimizer.zero_grad()
        _loss(model, term, batch, weight).backward()
        optimizer.step()
    return measured(model, tested)


def _loss(model: MMADFER, term: Alignment, batch: Views, weight: float) -> Tensor:
    said = model.detailed(batch.frames, layers=term.layers)
    loss = cross_entropy(said.logits, batch.labels)
    if not weight:
        return loss
    attentions = [term.attention(said.features[place].vision).flatten(0, 1) for place in sorted(term.layers)]
    count = batch.valid.sum().clamp(min=1)
    return loss + weight * mean_loss(attentions, [batch.maps] * len(attentions), batch.valid, "random_avg", count)


@torch.no_grad()
def measured(model: MMADFER, tested: Views) -> Outcome:
    """UAR, and the cosine in the last layer."""
    term = Alignment(AlignConfig(), model, None)
    said = model.detailed(tested.frames, layers=term.layers)
    (tokens,) = (one.vision for one in said.features.values())
    near = cosines(term.attention(tokens).flatten(0, 1), tested.maps)[tested.valid].mean()
    table_ = confusion(tested.labels.numpy(), said.logits.argmax(1).numpy(), len(toy_units.UNITS_CLASSES))
    return Outcome(float(near), uar(table_))


if __name__ == "__main__":
    main()
