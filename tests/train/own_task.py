"""A task with a module of its own, as a package would bring it: a second head that learns the same labels."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmadfer.tasks.base import Batch, Run, Settings, Task
from mmadfer.tasks.classification import Classification


class TwoHeads(Task):
    """Cross-entropy of the model's logits, and of a linear layer's that sees these."""

    exported = True
    seen: Tensor

    def __init__(self, model: nn.Module, run: Run, settings: Settings) -> None:
        super().__init__(model, run, settings)
        self.second = nn.Linear(3, 3)
        self.register_buffer("seen", torch.zeros(()))

    def parts(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        first = self.loss(output, batch.targets["label"])
        second = functional.cross_entropy(self.second(output), batch.targets["label"])
        self.seen += 1
        return {"loss": first + 0.5 * second, "first": first, "second": second}


class Spec(Classification):
    module = "own_task:TwoHeads"


SPEC = Spec()
