"""Learning rates by schedule. A schedule is a function (epoch, epochs) -> share of the learning rate; epoch from 0."""

import math

from mmadfer.config.training import SCHEDULES, TrainConfig


def cosine(epoch: int, epochs: int) -> float:
    """From 1 to zero, stepped once an epoch, as the published program does."""
    return (1 + math.cos(math.pi * epoch / epochs)) / 2


def constant(epoch: int, epochs: int) -> float:
    """Always 1."""
    return 1.0


def learning_rate(config: TrainConfig, epoch: int, step: int = 0, steps: int = 1) -> float:
    """Of a step: first a line up to `train.lr`, one point a step, then the schedule of the epochs that are left.

    Args:
        config: the recipe.
        epoch: from 0.
        step: of the epoch, from 0.
        steps: how many an epoch has.
    """
    warm = config.warmup_epochs
    if epoch < warm:
        return config.scaled_lr * (epoch * steps + step + 1) / (warm * steps)
    return config.scaled_lr * float(SCHEDULES.load(config.schedule)(epoch - warm, config.epochs - warm))
