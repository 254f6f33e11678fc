"""A hidden apex in long neutral videos: how often training finds it, and what pooling is worth in tests.

Each video is 80 steps of 24 features: noise, a drift that lasts the whole video, and the class's own direction for 16
steps somewhere. A window is 16 steps, and the model, a perceptron, sees their mean. Windows come from the product's
samplers, clips are put together by the product's pool. No media files: `tss_toy` trains the whole product.

    python bench/tss_toy.py [--seeds 3]

A hit is a window that starts within 8 steps of the apex's start, in the last 10 of 60 epochs; drawn evenly, 17 of 65
places are hits, less where an apex is near an end.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import common
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmadfer.data.frame_windows import drawn_window
from mmadfer.data.loading.samplers import Pick, Sampler
from mmadfer.data.loading.stochastic_softmax import StochasticSoftmax
from mmadfer.data.store.store import Clip
from mmadfer.tasks.pooling_torch import pooled

VIDEOS, STEPS, SPAN, FEATURES, CLASSES = 400, 80, 16, 24, 5
NOISE, DRIFT, EVIDENCE = 2.0, 0.5, 4.0
"""Deviations of a step and of a video's drift, and the length of a class's direction."""
EPOCHS, COUNTED, BATCH, RATE, NEAR = 60, 10, 8, 0.05, 8
POOLS = (0.0, 1.0, 2.0)
"""gamma in tests."""
SAMPLERS: dict[str, float | None] = {"uniform": None, "tss, gamma 0": 0.0, "tss, gamma 1": 1.0, "tss, gamma 2": 2.0}
"""By the gamma of training; None: without the sampler."""


@dataclass(frozen=True)
class Videos:
    """What is trained or tested on."""

    windows: Tensor
    """float32 (N, K, F): the mean of the 16 steps from each one on."""
    labels: Tensor
    """int64 (N,)."""
    apex: np.ndarray
    """int64 (N,): where the evidence starts."""


def make_videos(seed: int, part: int, count: int = VIDEOS) -> Videos:
    """Drawn from (seed, part); the classes' directions are those of the seed."""
    directions = np.linalg.qr(np.random.default_rng(seed).normal(size=(FEATURES, FEATURES)))[0][:CLASSES] * EVIDENCE
    rng = np.random.default_rng([seed, part])
    labels, apex = np.arange(count) % CLASSES, rng.integers(0, STEPS - SPAN + 1, count)
    steps = rng.normal(0, NOISE, (count, STEPS, FEATURES)) + rng.normal(0, DRIFT, (count, 1, FEATURES))
    within = np.arange(STEPS) - apex[:, None]
    steps += ((within >= 0) & (within < SPAN))[..., None] * directions[labels][:, None]
    windows = np.lib.stride_tricks.sliding_window_view(steps, SPAN, axis=1).mean(-1)
    return Videos(torch.from_numpy(windows.astype(np.float32)), torch.from_numpy(labels), apex)


class Evenly(Sampler):
    """Each window as likely as the others, as training draws them without a sampler that chooses."""

    def epoch(self, k: int) -> list[Pick]:
        """As `Sampler.epoch`."""
        span = SPAN
        return [pick._replace(window=drawn_window(self.seed, k, pick.clip, STEPS, span)) for pick in super().epoch(k)]


def sampler_for(seed: int, gamma: float | None) -> Sampler:
    """The product's sampler for the videos, or an even one."""
    clips = [Clip(f"{k:04d}", "", 1, "", STEPS) for k in range(VIDEOS)]
    return Evenly(seed, clips) if gamma is None else StochasticSoftmax(seed, clips, span=SPAN, gamma=gamma)


def train_toy(seed: int, gamma: float | None, videos: Videos) -> tuple[nn.Module, float]:
    """The model, and the share of hits among the windows of the last epochs."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(FEATURES, 64), nn.ReLU(), nn.Linear(64, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    sampler, hits = sampler_for(seed, gamma), list[bool]()
    for epoch in range(EPOCHS):
        picks = sampler.epoch(epoch)
        index = torch.tensor([int(pick.clip) for pick in picks])
        start = torch.tensor([pick.window[0] for pick in picks if pick.window])
        parts = zip(index.split(BATCH), start.split(BATCH), strict=True)
        scores = [_step(model, optimizer, videos, *part) for part in parts]
        sampler.observe(picks, torch.cat(scores).numpy())
        if epoch >= EPOCHS - COUNTED:
            hits += (np.abs(start.numpy() - videos.apex[index]) <= NEAR).tolist()
    return model, float(np.mean(hits))


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, videos: Videos, index: Tensor, start: Tensor) -> Tensor:
    """One step; the logits of the true classes as they were trained on."""
    logits, labels = model(videos.windows[index, start]), videos.labels[index]
    optimizer.zero_grad()
    cross_entropy(logits, labels).backward()
    optimizer.step()
    return logits.detach().gather(1, labels[:, None]).squeeze(1)


@torch.no_grad()
def accuracy(model: nn.Module, videos: Videos, gamma: float) -> float:
    """Of clips, each the pool of all its windows."""
    return float((pooled(model(videos.windows), gamma).argmax(1) == videos.labels).float().mean())


@dataclass(frozen=True)
class Outcome:
    """Of one seed and sampler."""

    hits: float
    pools: tuple[float, ...]
    """Accuracy by gamma in tests."""


def outcome(seed: int, gamma: float | None) -> Outcome:
    """Train on 400 videos, and test on 400 others."""
    model, hits = train_toy(seed, gamma, make_videos(seed, 0))
    tested = make_videos(seed, 1)
    return Outcome(hits, tuple(accuracy(model, tested, pool) for pool in POOLS))


def told(outcomes: Sequence[Outcome], what: Callable[[Outcome], float]) -> str:
    """Mean and deviation over seeds."""
    found = [what(one) for one in outcomes]
    spread = f" ± {100 * stdev(found):.1f}" if len(found) > 1 else ""
    return f"{100 * fmean(found):.1f}{spread}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(1, parser.parse_args().seeds + 1)
    torch.set_num_threads(1)
    print(common.machine())
    print("| windows in training | hits | " + " | ".join(f"pool gamma {pool:g}" for pool in POOLS) + " |")
    print("|---|" + "---|" * (1 + len(POOLS)))
    for name, gamma in SAMPLERS.items():
        found = [outcome(seed, gamma) for seed in seeds]
        pools = [told(found, lambda one, k=k: one.pools[k]) for k in range(len(POOLS))]
        print(f"| {name} | {told(found, lambda one: one.hits)} | " + " | ".join(pools) + " |", flush=True)


if __name__ == "__main__":
    main()
