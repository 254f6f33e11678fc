"""What a step computes: the model's output for a batch, and the loss that training makes smaller."""

from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from mmadfer.tasks.output import Output
from mmadfer.tasks.spec import Kind, TaskSpec
from mmadfer.tasks.tables import LOSSES


class Run(Protocol):
    """What a model says of a batch, with preprocessing and in the arithmetic of training."""

    def __call__(self, model: nn.Module, batch: Any, /) -> Tensor:
        """The output."""

    def detailed(self, model: nn.Module, batch: Any, layers: Container[int], /) -> Output:
        """The output in detail, with the features of these layers; logits, sequence and pooled in float32."""

    def taught(self, teacher: nn.Module, layers: Container[int], batch: Any, /) -> Output:
        """The same of a teacher: without a gradient, and without stochastic depth."""


class Batch(Protocol):
    """What a task itself looks at in a batch (`mmadfer.data.loading.batch`)."""

    @property
    def targets(self) -> dict[str, Tensor]:
        """By name; without any, no loss is asked for."""

    @property
    def ids(self) -> list[str]:
        """Of its clips."""


Parts = Callable[[Tensor, Batch], dict[str, Tensor]]
"""As `Task.parts`."""


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


class Term(nn.Module):
    """An additional loss beside the task's own; made of its section of `task`, the model, and its teacher if any.

    Its own modules are the task's own: they learn, and are saved and averaged. They draw their weights when it is made.
    """

    layers: frozenset[int] = frozenset()
    """The layers of the model, from 0, whose features it needs."""
    teacher_layers: frozenset[int] = frozenset()
    """The same of the teacher."""
    uses_teacher = False
    """Whether the teacher is asked; else `forward` is not given its output."""
    kind: Kind = "classes"
    """What the output is; the task says it before the first batch."""

    def __init__(self, settings: "TermSettings", model: nn.Module, teacher: nn.Module | None) -> None:
        super().__init__()
        self.weight = settings.weight

    def forward(self, output: Output, batch: Batch, teacher: Output | None) -> dict[str, Tensor]:
        """Numbers () by name, which are shown as means over clips. `loss` is the term's, before its weight."""
        raise NotImplementedError


class TermSettings(Protocol):
    """What a task looks at in the section of a term."""

    @property
    def weight(self) -> float:
        """By which its loss enters that of the task."""

    def term(self) -> type[Term]:
        """Its class."""


OWN = "task."
"""Before the names of a task's own tensors, where they stand beside the model's."""


class Task(nn.Module):
    """The model with its loss, so that one forward pass of DeepSpeed's engine is all that it needs to know.

    A task of its own overrides `parts`, and may have modules beside `model`: they learn as the model does, are averaged
    by `train.ema`, and are saved in checkpoints. They draw their own weights, from `train.seed`, when they are made.
    """

    exported: ClassVar[bool] = False
    """Whether `mmadfer export weights` keeps the task's own tensors. Graphs and engines hold the model alone."""
    teacher: Callable[[Batch], Output] | None = None
    """What the model of `stages.teacher` says of a batch, in float32 and without a gradient. It is no module of this
    one, so it is neither trained nor saved."""

    adaptation: Callable[[Output, Batch, Parts], dict[str, Tensor]] | None = None
    """What makes the parts of a batch with clips that are adapted to (`mmadfer.tasks.adaptation`)."""

    def __init__(self, model: nn.Module, run: Run, settings: Settings) -> None:
        super().__init__()
        self.model, self.run, self.target, self.kind = model, run, settings.compared, settings.spec.output
        self.loss: nn.Module = LOSSES.load(settings.loss or settings.spec.loss)(settings)
        self.terms = nn.ModuleDict()
        self._layers = frozenset[int]()

    def complete(self, terms: "Mapping[str, TermSettings]", teacher: nn.Module | None) -> None:
        """Add the additional losses, by name, and the teacher that they and the task may ask."""
        made = {name: one.term()(one, self.model, teacher) for name, one in terms.items()}
        for term in made.values():
            term.kind = self.kind
        self.terms.update(made)
        self._layers = frozenset[int]().union(*(term.layers for term in made.values()))
        if teacher is not None:
            layers = frozenset[int]().union(*(term.teacher_layers for term in made.values()))
            self.teacher = partial(self.run.taught, teacher, layers)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`output` (B, C), of steps (B, T, C), in float32; where the batch has targets also `loss` () and other parts.

        Only `loss` has a gradient: DeepSpeed would scale the gradient of each tensor that is returned.
        """
        if self.adaptation is not None and batch.targets:
            said = self.run.detailed(self.model, batch, ())
            output, parts = said.logits, self.adaptation(said, batch, self.parts)
        elif self.terms and batch.targets:
            said = self.run.detailed(self.model, batch, self._layers)
            output, parts = said.logits, self._with_terms(said, batch)
        else:
            output = self.run(self.model, batch).float()
            parts = self.parts(output, batch) if batch.targets else {}
        return {name: part if name == "loss" else part.detach() for name, part in {"output": output, **parts}.items()}

    def parts(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        """`loss` (), and other numbers () that are shown by their names, as means over clips."""
        return {"loss": self.loss(output, batch.targets[self.target])}

    def _with_terms(self, said: Output, batch: Batch) -> dict[str, Tensor]:
        """`parts` with the additional losses in `loss`; the task's own is `task_loss`, a term's has its name."""
        parts = self.parts(said.logits, batch)
        parts["task_loss"] = parts["loss"]
        taught = self.teacher(batch) if self.teacher and any(one.uses_teacher for one in self.terms.values()) else None
        for name, term in self.terms.items():
            found = term(said, batch, taught if term.uses_teacher else None)
            parts["loss"] = parts["loss"] + term.weight * found["loss"]
            parts |= {name if key == "loss" else f"{name}_{key}": value for key, value in found.items()}
        return parts

    @torch.no_grad()
    def each(self, output: Tensor, batch: Batch) -> Tensor:
        """`loss` of each clip by itself, (B,); what a sampler that observes is told."""
        target = batch.targets[self.target]
        return torch.stack([self.loss(output[k : k + 1], target[k : k + 1]) for k in range(len(output))])

    @torch.no_grad()
    def scores(self, output: Tensor, batch: Batch) -> Tensor:
        """The logit of each clip's own class, (B,); what a sampler that observes scores is told."""
        return output.gather(1, batch.targets[self.target][:, None]).squeeze(1)

    def own(self) -> dict[str, Tensor]:
        """The task's own parameters and saved buffers, as `task.NAME`."""
        return {OWN + name: value for name, value in self.state_dict(keep_vars=True).items() if not _is_models(name)}

    def own_trainable(self) -> dict[str, nn.Parameter]:
        """Those of them that learn."""
        named = self.named_parameters()
        return {OWN + name: value for name, value in named if value.requires_grad and not _is_models(name)}


def _is_models(name: str) -> bool:
    return name.startswith("model.")
