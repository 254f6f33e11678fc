"""What a step computes: the model's output for a batch, and the loss that training makes smaller."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Run = Callable[[nn.Module, Any], Tensor]
"""What a model says of a batch, with preprocessing and in the arithmetic of training."""


class Batch(Protocol):
    """What a task itself looks at in a batch (`mmadfer.data.loading.batch`)."""

    @property
    def targets(self) -> dict[str, Tensor]:
        """By name; without any, no loss is asked for."""


class Task(nn.Module):
    """The model with its loss, so that one forward pass of DeepSpeed's engine is all that it needs to know.

    A task of its own overrides `parts`, and may have modules beside `model`.
    """

    target = "label"
    """The name of the target that `loss` compares the output with."""
    teacher: Callable[[Batch], Tensor] | None = None
    """What the model of `stages.teacher` says of a batch: its output (B, C) in float32, without a gradient. It is no
    module of this one, so it is neither trained nor saved."""

    def __init__(self, model: nn.Module, run: Run, loss: nn.Module) -> None:
        super().__init__()
        self.model, self.run, self.loss = model, run, loss

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`output` (B, C) in float32; where the batch has targets also `loss` (), a mean over clips, and other parts.

        Only `loss` has a gradient: DeepSpeed would scale the gradient of each tensor that is returned.
        """
        output = self.run(self.model, batch).float()
        parts = self.parts(output, batch) if batch.targets else {}
        return {name: part if name == "loss" else part.detach() for name, part in {"output": output, **parts}.items()}

    def parts(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        """`loss` (), and other numbers () to be shown by their names."""
        return {"loss": self.loss(output, batch.targets[self.target])}

    @torch.no_grad()
    def each(self, output: Tensor, batch: Batch) -> Tensor:
        """`loss` of each clip by itself, (B,); what a sampler that observes is told."""
        target = batch.targets[self.target]
        return torch.stack([self.loss(output[k : k + 1], target[k : k + 1]) for k in range(len(output))])
