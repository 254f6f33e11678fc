"""No loss or gradient that is not finite reaches the weights: all ranks look before the optimizer moves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.autograd.graph import register_multi_grad_hook
from torch.nn.utils import get_total_norm

from mmadfer.errors import TrainingError

_MAX_SKIPPED_STEPS = 3
"""Skipped steps in a row after which training gives up."""


class GradientNorm:
    """Adds up the squares of this rank's own gradients once all are made, before ranks exchange them.

    So the rank that a NaN comes from can be named, at any ZeRO stage. Nothing here waits for the device.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], device: torch.device) -> None:
        self._squares = torch.zeros((), dtype=torch.float32, device=device)
        register_multi_grad_hook(parameters, self._add)

    def _add(self, gradients: Sequence[Tensor | None]) -> None:
        self._squares += get_total_norm([found for found in gradients if found is not None]).square()

    def take(self) -> Tensor:
        """The norm since the last call, (); inf or NaN if any gradient was not finite, or too large to be squared."""
        norm = self._squares.sqrt()
        self._squares.zero_()
        return norm


@dataclass(frozen=True)
class StepOutcome:
    """What all ranks say of a step."""

    losses: tuple[float, ...]
    """Mean loss of each rank's clips."""
    norms: tuple[float, ...]
    """Norm of each rank's own gradient; with several micro-batches, the root of the sum of their squares."""
    stop: bool
    """Whether any rank was asked to stop."""
    parts: dict[str, float] = field(default_factory=dict)
    """Other numbers of the task by name, each the mean over ranks."""

    @classmethod
    def of(cls, reports: list[list[float]], names: Sequence[str] = ()) -> "StepOutcome":
        """From (loss, norm, stop) and the named parts of each rank."""
        losses, norms, stops, *parts = zip(*reports, strict=True)
        return cls(losses, norms, any(stops), {name: fmean(part) for name, part in zip(names, parts, strict=True)})

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


class StepReport:
    """What all ranks say of a step, on its way from the device: the host need not wait for the step to be done."""

    def __init__(self, rows: Tensor, names: Sequence[str] = ()) -> None:
        """Take (ranks, 3 + parts) of (loss, norm, stop) and the named parts."""
        self._names = names
        self._rows = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=rows.is_cuda)
        self._rows.copy_(rows, non_blocking=True)
        self._copied = torch.cuda.current_stream(rows.device).record_event() if rows.is_cuda else None

    def read(self) -> StepOutcome:
        """Wait for it."""
        if self._copied is not None:
            self._copied.synchronize()
        return StepOutcome.of(self._rows.tolist(), self._names)


class Strikes:
    """Counts the steps in a row that had to be skipped."""

    def __init__(self) -> None:
        self.count = 0

    def see(self, outcome: StepOutcome, step: int) -> None:
        """Count a step, or forget the count after a good one.

        Raises:
            TrainingError: it was the third in a row.
        """
        self.count = 0 if outcome.finite else self.count + 1
        if self.count == _MAX_SKIPPED_STEPS:
            raise TrainingError(
                f"{_MAX_SKIPPED_STEPS} steps in a row had a loss or a gradient that is not finite, the last one step "
                f"{step} ({outcome.explain()}). The weights were not touched by them. Check the store "
                "(`mmadfer doctor STORE`), lower train.lr or set train.precision=fp32, in another --run where this one "
                "has checkpoints; metrics.jsonl names the clips of the skipped steps"
            )
