"""A toy in which one stretch of sound flips the sign of what the face says: which joints can learn it?

    python bench/jmt_toy.py [--seeds 0 1 2] [--steps 600] [--heads values values_mlp] [--joints "jmt, tokens"]

A clip has 16 steps. Each frame carries a number x in one direction of 64, with noise of 0.1. At one random step the
sound has an impulse of sign s and size 3 in another direction, with noise of 0.3 everywhere; s holds for the whole
clip. The label of a step is tanh(s x). So a frame says how large the label is, and the sign is where the impulse was.

Told is the CCC on 512 other clips after training on 1,024 (Adam, 1e-3, batches of 64, loss 1 - CCC), of mmadfer's own
joints, heads and loss; there are no encoders and no temporal part. The summary of the sound, which `sum` takes, is the
mean of its steps. With head `values`, a linear layer and a sigmoid, nothing else in `sum` and `concat` is not linear;
`values_mlp` has a layer with ReLU more. With it `sum` can multiply, and the mean tells it the sign in every step.
"""

import argparse
from collections.abc import Sequence
from statistics import mean, stdev
from typing import NamedTuple

import torch
from common import machine, table
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmadfer.config.model import HEADS, JOINTS, ModelConfig
from mmadfer.config.schema import TaskConfig
from mmadfer.model.initializers import fill, learned
from mmadfer.model.joint import Encoded
from mmadfer.tasks.concordance import concordance
from mmadfer.tasks.losses import Concordance

TIMES, WIDTH = 16, 64
TRAINED, TESTED, BATCH = 1024, 512, 64
IMPULSE, FACE_NOISE, SOUND_NOISE = 3.0, 0.1, 0.3
WAYS = {
    "sum": {"name": "sum"},
    "concat": {"name": "concat"},
    "jmt, tokens": {"name": "jmt"},
    "jmt, concat": {"name": "jmt", "combine": "concat"},
    "jmt, pair": {"name": "jmt", "combine": "pair"},
}
TASK = TaskConfig(name="regression", values={"valence": (-1.0, 1.0)})


class Clips(NamedTuple):
    """Features and labels; N clips, T steps, D numbers of each."""

    vision: Tensor
    """(N, T, D)."""
    audio: Tensor
    """(N, T, D)."""
    label: Tensor
    """(N, T, 1)."""


def main() -> None:
    """Train every joint with every head from every seed, and print a table."""
    given = options()
    print(machine(), flush=True)
    rows = []
    for head in given.heads:
        for name in given.joints:
            found = [trained(name, head, seed, given.steps) for seed in given.seeds]
            spread = f"{stdev(found):.3f}" if len(found) > 1 else "-"
            rows.append([head, name, *(f"{ccc:.3f}" for ccc in found), f"{mean(found):.3f}", spread])
            print(f"{head}, {name}: {', '.join(rows[-1][2:-2])}", flush=True)
    print(f"\nCCC after {given.steps} steps")
    print(table(["head", "joint", *(f"seed {seed}" for seed in given.seeds), "mean", "deviation"], rows))


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--heads", nargs="+", choices=["values", "values_mlp"], default=["values", "values_mlp"])
    parser.add_argument("--joints", nargs="+", choices=[*WAYS], default=[*WAYS])
    return parser.parse_args()


def trained(way: str, head: str, seed: int, steps: int) -> float:
    """The CCC on clips that were not trained on."""
    torch.set_num_threads(1)
    model, data = Toy(way, head, seed), clips(TRAINED, 2 * seed)
    optimizer, loss = torch.optim.Adam(model.parameters(), lr=1e-3), Concordance(TASK)
    generator = torch.Generator().manual_seed(seed)
    for batch in _batches(steps, generator):
        found = loss(model(data.vision[batch], data.audio[batch]), data.label[batch])
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
    return tested(model, clips(TESTED, 2 * seed + 1))


def _batches(steps: int, generator: torch.Generator) -> Sequence[Tensor]:
    epochs = -(-steps * BATCH // TRAINED)
    orders = [torch.randperm(TRAINED, generator=generator).split(BATCH) for _ in range(epochs)]
    return [batch for order in orders for batch in order][:steps]


@torch.no_grad()
def tested(model: nn.Module, data: Clips) -> float:
    """The CCC of all steps at once."""
    found, _ = concordance(model(data.vision, data.audio).flatten(0, 1), data.label.flatten(0, 1))
    return float(found)


class Toy(nn.Module):
    """A joint and a head, per step."""

    def __init__(self, way: str, head: str, seed: int) -> None:
        super().__init__()
        encoder = {"width": WIDTH, "depth": 1, "heads": 1}
        config = ModelConfig.model_validate(
            {
                "frames": TIMES,
                "vision": encoder,
                "audio": encoder,
                "prompts": 0,
                "fusion": "none",
                "joint": {**WAYS[way], "width": WIDTH},
                "temporal": "none",
                "head": {"name": head, "per": "step"},
            }
        )
        self.joint, self.head = JOINTS.made(config.joint)(config), HEADS.made(config.head)(config, 1)
        fill(self, learned(self), seed)

    def forward(self, vision: Tensor, audio: Tensor) -> Tensor:
        """Two of (B, T, D) -> (B, T, 1)."""
        heard = Encoded(audio, audio.mean(dim=1, keepdim=True), audio[:, None, :, None])
        found: Tensor = self.head(None, self.joint(Encoded(vision, vision), heard))
        return found


def clips(count: int, seed: int) -> Clips:
    """Drawn from a seed; the two directions are always the same."""
    of_x, of_s = normalize(torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(1234)), dim=-1)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, TIMES, 1, generator=generator)
    sign = torch.randint(0, 2, (count, 1), generator=generator) * 2.0 - 1
    when = torch.randint(0, TIMES, (count,), generator=generator)
    vision = x * of_x + FACE_NOISE * torch.randn(count, TIMES, WIDTH, generator=generator)
    audio = SOUND_NOISE * torch.randn(count, TIMES, WIDTH, generator=generator)
    audio[torch.arange(count), when] += IMPULSE * sign * of_s
    return Clips(vision, audio, torch.tanh(sign[:, None] * x))


if __name__ == "__main__":
    main()
