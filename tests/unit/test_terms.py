"""Additional losses of a task: in the loss by their weight, shown by name, with modules of their own and a teacher."""

from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from model_setup import TINY, clips, open_gates
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmadfer.config.task import TaskConfig
from mmadfer.model.weights.build import build_model
from mmadfer.tasks.base import Task, Term
from mmadfer.tasks.output import Output


class Batch(NamedTuple):
    """Of two clips."""

    targets: dict[str, Tensor]


class Run:
    """The model by itself, on two clips."""

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        found: Tensor = model(*clips())
        return found

    def detailed(self, model: Any, batch: Batch, layers: frozenset[int]) -> Output:
        found: Output = model.detailed(*clips(), layers=layers)
        return found.float()

    @torch.no_grad()
    def taught(self, teacher: nn.Module, layers: frozenset[int], batch: Batch) -> Output:
        return self.detailed(teacher, batch, layers)


class Near(Term):
    """Distance of the pooled features, through a linear layer, to the teacher's; and what it was given."""

    layers, teacher_layers, uses_teacher = frozenset({1}), frozenset({2}), True

    def __init__(self, settings: Any, model: Any, teacher: Any) -> None:
        super().__init__(settings, model, teacher)
        self.to_teacher = nn.Linear(model.config.width, teacher.config.width)

    def forward(self, output: Output, batch: Any, teacher: Output | None) -> dict[str, Tensor]:
        assert teacher is not None
        assert not teacher.pooled.requires_grad
        assert [list(output.features), list(teacher.features)] == [[1], [2]]
        loss = (self.to_teacher(output.pooled) - teacher.pooled).square().mean()
        return {"loss": loss, "layers": torch.tensor(float(len(output.features)))}


class Size(Term):
    """Of the pooled features; without a teacher."""

    def forward(self, output: Output, batch: Any, teacher: Output | None) -> dict[str, Tensor]:
        assert teacher is None
        return {"loss": output.pooled.square().mean()}


def settings(term: type[Term], weight: float) -> Any:
    return SimpleNamespace(weight=weight, term=lambda: term)


def test_terms_enter_the_loss_by_their_weights() -> None:
    model, teacher = open_gates(build_model(TINY, 7, seed=1)), build_model(TINY, 7, seed=2).requires_grad_(False)
    task, batch = Task(model, Run(), TaskConfig()), Batch({"label": torch.tensor([3, 5])})
    plain = task(batch)
    assert list(plain) == ["output", "loss"]
    assert not task.own()
    task.complete({"distill": settings(Near, 0.5), "align": settings(Size, 2.0)}, teacher)
    found = task(batch)
    assert list(found) == ["output", "loss", "task_loss", "distill", "distill_layers", "align"]
    assert torch.equal(found["output"], plain["output"])
    torch.testing.assert_close(found["task_loss"], cross_entropy(plain["output"], batch.targets["label"]))
    whole = found["task_loss"] + 0.5 * found["distill"] + 2 * found["align"]
    torch.testing.assert_close(found["loss"].detach(), whole)
    assert [name for name, part in found.items() if part.requires_grad] == ["loss"]
    found["loss"].backward()
    assert set(task.own_trainable()) == {f"task.terms.distill.to_teacher.{name}" for name in ("weight", "bias")}
    assert all(one.grad is not None and one.grad.any() for one in task.own_trainable().values())
    assert not any("teacher." in name and "to_teacher" not in name for name in task.state_dict())
    assert list(task(Batch({}))) == ["output"], "nothing is compared where nothing is known"
