"""The losses of concordance (CCC): what counts, what does not, and gradients without NaN."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mmadfer.config.task import TaskConfig
from mmadfer.tasks.tables import LOSSES

CONFIG = TaskConfig(name="regression", values={"valence": (-1, 1), "arousal": (-1, 1)})
NAN = float("nan")


def loss(output: Tensor, target: Tensor, name: str = "ccc") -> Tensor:
    found: Tensor = LOSSES.load(name)(CONFIG)(output, target)
    return found


def drawn(*shape: int) -> tuple[Tensor, Tensor]:
    """A prediction that learns, and labels beside it."""
    generator = torch.Generator().manual_seed(6)
    label = torch.tanh(torch.randn(shape, generator=generator, dtype=torch.float64))
    return (label + 0.4 * torch.randn(shape, generator=generator, dtype=torch.float64)).requires_grad_(), label


def by_numpy(x: np.ndarray, y: np.ndarray, less: int) -> float:
    """1 - CCC of two lists."""
    spread = x.var(ddof=less) + y.var(ddof=less) + (x.mean() - y.mean()) ** 2
    return float(1 - 2 * np.cov(x, y, ddof=less)[0, 1] / spread)


@pytest.mark.parametrize(("name", "less"), [("ccc", 0), ("ccc_unbiased", 1)])
def test_the_mean_over_names_of_all_steps_of_all_clips(name: str, less: int) -> None:
    x, y = drawn(3, 5, 2)
    found = loss(x, y, name)
    wanted = [by_numpy(x[..., k].detach().numpy().ravel(), y[..., k].numpy().ravel(), less) for k in range(2)]
    assert found.item() == pytest.approx(np.mean(wanted), abs=1e-14)
    assert loss(x.flatten(0, 1), y.flatten(0, 1), name).item() == found.item()


@pytest.mark.parametrize("name", ["ccc", "ccc_unbiased"])
def test_steps_and_clips_without_a_label_are_as_if_they_were_not_there(name: str) -> None:
    x, y = drawn(4, 5, 1)
    y[1, 2:4], y[3] = NAN, NAN
    kept = ~y.isnan()
    found = loss(x, y, name)
    assert found.item() == pytest.approx(loss(x[kept][:, None], y[kept][:, None], name).item(), abs=1e-14)
    found.backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert (x.grad != 0).equal(kept)


@pytest.mark.parametrize("name", ["ccc", "ccc_unbiased"])
def test_a_name_with_one_label_or_none_counts_zero(name: str) -> None:
    x, y = drawn(2, 3, 2)
    alone = loss(x[..., :1], y[..., :1], name)
    for left in (0, 1):
        bare = y.clone()
        bare.view(-1, 2)[left:, 1] = NAN
        found = loss(x, bare, name)
        assert found.item() == pytest.approx(alone.item() / 2, abs=1e-15)
        (gradient,) = torch.autograd.grad(found, x)
        assert gradient.isfinite().all()
        assert not gradient[..., 1].any()
    nothing = loss(x, torch.full_like(y, NAN), name)
    assert nothing.item() == 0
    assert not torch.autograd.grad(nothing, x)[0].any()


@pytest.mark.parametrize("name", ["ccc", "ccc_unbiased"])
@pytest.mark.parametrize("label", [0.5, -0.2], ids=["right", "wrong"])
def test_a_constant_prediction_has_loss_one_and_a_gradient(name: str, label: float) -> None:
    _, y = drawn(4, 1)
    x = torch.full((4, 1), 0.5, dtype=torch.float64, requires_grad=True)
    assert loss(x, y, name).item() == 1
    assert torch.autograd.grad(loss(x, y, name), x)[0].abs().sum() > 0
    constant = loss(x, torch.full_like(y, label), name)
    assert constant.item() == 1
    assert torch.autograd.grad(constant, x)[0].isfinite().all()


def test_in_float32_and_far_from_zero() -> None:
    """Means are taken away before squares, so large means cost no digits."""
    x, y = drawn(50, 2)
    exact = loss(x + 1000, y + 1000)
    found = loss((x + 1000).float(), (y + 1000).float())
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(exact.item(), abs=2e-4)
