"""What a step computes: the model's output for a batch, and the loss that training makes smaller."""

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from mmadfer.tasks.spec import TaskSpec
from mmadfer.tasks.tables import LOSSES

Run = Callable[[nn.Module, Any], Tensor]
"""What a model says of a batch, with preprocessing and in the arithmetic of training."""


class Batch(Protocol):
    """What a task itself looks at in a batch (`mmadfer.data.loading.batch`)."""

    @property
    def targets(self) -> dict[str, Tensor]:
        """By name; without any, no loss is asked for."""


class Settings(Protocol):
    """What a task looks at in the section `task` of a configuration."""

    @property
    def spec(self) -> TaskSpec:
        """The task by its name."""

    @property
    def compared(self) -> str:
        """The name of the target that the output is compared with."""

    @property
    def loss(self) -> str | None:
        """Of the table of losses, by name; None: the task's usual one."""


OWN = "task."
"""Before the names of a task's own tensors, where they stand beside the model's."""


class Task(nn.Module):
    """The model with its loss, so that one forward pass of DeepSpeed's engine is all that it needs to know.

    A task of its own overrides `parts`, and may have modules beside `model`: they learn as the model does, are averaged
    by `train.ema`, and are saved in checkpoints. They draw their own weights, from `train.seed`, when they are made.
    """

    exported: ClassVar[bool] = False
    """Whether `mmadfer export weights` keeps the task's own tensors. Graphs and engines hold the model alone."""
    teacher: Callable[[Batch], Tensor] | None = None
    """What the model of `stages.teacher` says of a batch: its output (B, C) in float32, without a gradient. It is no
    module of this one, so it is neither trained nor saved."""

    def __init__(self, model: nn.Module, run: Run, settings: Settings) -> None:
        super().__init__()
        self.model, self.run, self.target = model, run, settings.compared
        self.loss: nn.Module = LOSSES.load(settings.loss or settings.spec.loss)(settings)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`output` (B, C) in float32; where the batch has targets also `loss` (), a mean over clips, and other parts.

        Only `loss` has a gradient: DeepSpeed would scale the gradient of each tensor that is returned.
        """
        output = self.run(self.model, batch).float()
        parts = self.parts(output, batch) if batch.targets else {}
        return {name: part if name == "loss" else part.detach() for name, part in {"output": output, **parts}.items()}

    def parts(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        """`loss` (), and other numbers () that are shown by their names, as means over clips."""
        return {"loss": self.loss(output, batch.targets[self.target])}

    @torch.no_grad()
    def each(self, output: Tensor, batch: Batch) -> Tensor:
        """`loss` of each clip by itself, (B,); what a sampler that observes is told."""
        target = batch.targets[self.target]
        return torch.stack([self.loss(output[k : k + 1], target[k : k + 1]) for k in range(len(output))])

    def own(self) -> dict[str, Tensor]:
        """The task's own parameters and saved buffers, as `task.NAME`."""
        return {OWN + name: value for name, value in self.state_dict(keep_vars=True).items() if not _is_models(name)}

    def own_trainable(self) -> dict[str, nn.Parameter]:
        """Those of them that learn."""
        named = self.named_parameters()
        return {OWN + name: value for name, value in named if value.requires_grad and not _is_models(name)}


def _is_models(name: str) -> bool:
    return name.startswith("model.")
