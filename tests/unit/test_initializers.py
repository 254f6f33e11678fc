"""Initial values by the modules themselves; what nobody draws is an error that names it."""

import pytest
import torch
from model_setup import TINY
from torch import Tensor, nn

from mmadfer.errors import ConfigError
from mmadfer.model.initializers import Stream, constants, fill, fill_constants, learned
from mmadfer.model.weights.build import build_model

UNIFORM = [0.12179255485534668, 0.1176995038986206, 0.2533429265022278]
NORMAL = [-1.011003017425537, 0.49338892102241516]


class Scaled(nn.Module):
    """A part with a parameter, a saved buffer, a computed one, and layers of torch's."""

    scale: Tensor
    seen: Tensor
    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 3), nn.BatchNorm1d(3)
        self.scale = nn.Parameter(torch.full((3,), torch.nan))
        self.register_buffer("seen", torch.full((2,), torch.nan))
        self.register_buffer("steps", torch.full((5,), torch.nan), persistent=False)

    def draw(self, name: str, stream: Stream) -> Tensor | None:
        """All but what torch's layers have."""
        own = {"scale": stream.normal, "seen": lambda: stream.full(7), "steps": lambda: torch.arange(5)}
        return own[name]() if name in own else None


def test_modules_draw_their_own_tensors_each_from_its_own_stream() -> None:
    one, other = nn.ModuleDict({"a": Scaled(), "b": Scaled()}), nn.ModuleDict({"b": Scaled(), "a": Scaled()})
    for module in (one, other):
        fill(module, learned(module), seed=3)
        fill_constants(module)
    a, b = (learned(one[name]) for name in "ab")
    for key, value in learned(one).items():
        assert torch.equal(value, learned(other)[key]), f"{key}: the order of construction does not matter"
    assert not torch.equal(a["scale"], b["scale"])
    assert not torch.equal(a["linear.weight"], b["linear.weight"])
    assert float(a["linear.weight"].detach().abs().max()) <= 0.5
    assert a["seen"].tolist() == [7, 7]
    assert one["a"].steps.tolist() == [0, 1, 2, 3, 4]
    assert [a[f"norm.{key}"].tolist() for key in ("weight", "running_var", "running_mean")] == [
        [1] * 3,
        [1] * 3,
        [0] * 3,
    ]
    assert set(learned(one["a"])) == {*one["a"].state_dict()}
    assert set(constants(one["a"])) == {"steps"}


def test_streams_are_those_of_always() -> None:
    """Numbers of the first release; with others, no training could be repeated."""
    stream = Stream("fusion.0.vision.down.weight", (3,), 1)
    assert stream.uniform(0.5).tolist() == UNIFORM
    assert float(build_model(TINY, classes=7).fusion[0].vision.down.weight[0, 0].detach()) == UNIFORM[0] / 0.5 / 8
    assert Stream("temporal.cls", (2,), 1).normal().tolist() == NORMAL


def test_a_parameter_without_axes_is_refused() -> None:
    """Else DeepSpeed would fail with a word that tells nothing."""
    module = nn.Module()
    module.temperature = nn.Parameter(torch.zeros(()))
    with pytest.raises(ConfigError, match=r"temperature has no axis.*make it \(1,\)"):
        fill(module, learned(module))


class Silent(nn.Module):
    """Says nothing of its tensors."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind == "parameter":
            self.odd = nn.Parameter(torch.ones(2))
        else:
            self.register_buffer("odd", torch.ones(2), persistent=kind == "buffer")


@pytest.mark.parametrize("kind", ["parameter", "buffer", "constant"])
def test_what_nobody_draws_is_named(kind: str) -> None:
    module = nn.ModuleDict({"inner": Silent(kind)})
    with pytest.raises(ConfigError, match=r"how inner\.odd \[2\] of ModuleDict is drawn: give Silent a method draw"):
        fill(module, {**learned(module), **constants(module)})
