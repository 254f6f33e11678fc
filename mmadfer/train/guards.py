"""No loss or gradient that is not finite reaches the weights: all ranks look before the optimizer moves."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmadfer.errors import TrainingError

LIMIT = 3
"""Skipped steps in a row after which training gives up."""


class GradientNorm:
    """Adds up the squares of this rank's own gradients while they are made, before ranks exchange them.

    So the rank that a NaN comes from can be named, at any ZeRO stage, and without a second pass over the gradients.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], device: torch.device) -> None:
        self._squares = torch.zeros((), dtype=torch.float32, device=device)
        for parameter in parameters:
            parameter.register_hook(self._add)

    def _add(self, gradient: Tensor) -> None:
        self._squares += gradient.detach().float().square().sum()

    def take(self) -> float:
        """The norm since the last call; inf or NaN if any gradient was not finite, or too large to be squared."""
        norm = math.sqrt(value) if (value := self._squares.item()) >= 0 else math.nan
        self._squares.zero_()
        return norm


@dataclass(frozen=True)
class Outcome:
    """What all ranks say of a step."""

    losses: tuple[float, ...]
    """Mean loss of each rank's clips."""
    norms: tuple[float, ...]
    """Norm of each rank's own gradient; with several micro-batches, the root of the sum of their squares."""
    stop: bool
    """Whether any rank was asked to stop."""

    @classmethod
    def of(cls, reports: list[list[float]]) -> "Outcome":
        """From (loss, norm, stop) of each rank."""
        losses, norms, stops = zip(*reports, strict=True)
        return cls(losses, norms, any(stops))

    @property
    def loss(self) -> float:
        """Mean over the ranks."""
        return sum(self.losses) / len(self.losses)

    @property
    def norm(self) -> float:
        """The largest of the ranks."""
        return max(self.norms)

    @property
    def finite(self) -> bool:
        """Whether the optimizer may move."""
        return not self.culprits

    @property
    def culprits(self) -> list[int]:
        """The ranks whose loss or gradient is not finite."""
        values = zip(self.losses, self.norms, strict=True)
        return [rank for rank, (loss, norm) in enumerate(values) if not (math.isfinite(loss) and math.isfinite(norm))]

    def explain(self) -> str:
        """The ranks and their values."""
        return "; ".join(f"rank {k}: loss {self.losses[k]}, gradient norm {self.norms[k]}" for k in self.culprits)


class Strikes:
    """Counts the steps in a row that had to be skipped."""

    def __init__(self) -> None:
        self.count = 0

    def see(self, outcome: Outcome, step: int) -> None:
        """Count a step, or forget the count after a good one.

        Raises:
            TrainingError: it was the third in a row.
        """
        self.count = 0 if outcome.finite else self.count + 1
        if self.count == LIMIT:
            raise TrainingError(
                f"{LIMIT} steps in a row had a loss or a gradient that is not finite, the last one step {step} "
                f"({outcome.explain()}). The weights were not touched by them. Check the store "
                "(`mmadfer doctor STORE`), lower train.lr or set train.precision=fp32; "
                "metrics.jsonl names the clips of the skipped steps"
            )
