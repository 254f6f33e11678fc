"""Distillation by optimal transport: what holds for any batch, and another library's values."""

from itertools import pairwise

import numpy as np
import ot
import pytest
import torch
from torch import Tensor

from mmadfer.tasks.optimal_transport import Anchors, anchor_rows, anchors, divergence, shifted, similarity, transport

WHICH: list[Anchors] = ["lowest", "highest"]


def features(seed: int, clips: int = 24, width: int = 16, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Of a teacher, and of a student that is like it."""
    generator = torch.Generator().manual_seed(seed)
    one, other = (torch.randn(clips, width, generator=generator, dtype=torch.float64) for _ in range(2))
    return one.to(dtype), (0.5 * one + other).to(dtype)


def loss(teacher: Tensor, student: Tensor, which: Anchors = "lowest", k: int = 9, blur: float = 0.1) -> Tensor:
    return divergence(*anchor_rows(teacher, student, k, which), blur)


@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_zero_without_gradient_where_both_are_equal(which: Anchors, dtype: torch.dtype) -> None:
    teacher, _ = features(1, dtype=dtype)
    student = (2 * teacher).requires_grad_()  # cosines know no length
    found = loss(teacher, student, which)
    (gradient,) = torch.autograd.grad(found, student)
    bound = 1e-9 if dtype == torch.float64 else 1e-6
    assert abs(float(found.detach())) <= bound
    assert float(gradient.abs().max()) <= 10 * bound


@pytest.mark.parametrize("which", WHICH)
def test_it_is_positive_and_knows_no_order_of_clips(which: Anchors) -> None:
    for seed in range(5):
        teacher, student = features(seed)
        found = loss(teacher, student, which)
        assert found > 0.01
        order = torch.randperm(len(teacher), generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(loss(teacher[order], student[order], which), found, rtol=1e-9, atol=0)
    assert loss(teacher, student[order], which) != pytest.approx(float(found), rel=1e-3), "rows are those of one clip"


@pytest.mark.parametrize("blur", [0.3, 1.0])
def test_the_gradient_is_that_of_finite_differences(blur: float) -> None:
    teacher, student = features(2, clips=12)
    rows = anchor_rows(teacher, student, 4, "lowest")
    y = rows[1].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(divergence(rows[0], y, blur), y)
    step, rng = 1e-4, np.random.default_rng(3)
    for _ in range(4):
        way = torch.from_numpy(rng.normal(size=y.shape))
        up, down = (divergence(rows[0], y.detach() + sign * step * way, blur) for sign in (1, -1))
        assert float((gradient * way).sum()) == pytest.approx(float(up - down) / (2 * step), rel=1e-4, abs=1e-7)
    own = student.clone().requires_grad_()
    assert torch.autograd.grad(loss(teacher, own, k=4), own)[0].abs().sum() > 0, "it reaches the features"


def test_values_are_those_of_pot() -> None:
    for seed, which in ((4, "lowest"), (5, "highest")):
        x, y = anchor_rows(*features(seed), 9, WHICH[which == "highest"])
        for blur in (0.2, 0.5):
            cost = ((x[:, None] - y[None]) ** 2).sum(-1).numpy() / 2
            theirs = ot.solve(cost, reg=blur**2, reg_type="KL", max_iter=5000, tol=1e-12)
            assert float(transport(x, y, blur)) == pytest.approx(theirs.value, abs=1e-8)


def test_clouds_of_two_sizes_and_single_precision() -> None:
    rng = np.random.default_rng(6)
    x, y = torch.from_numpy(rng.normal(size=(20, 3))), torch.from_numpy(rng.normal(size=(15, 3)))
    whole = divergence(x, y, 1)
    torch.testing.assert_close(divergence(y, x, 1), whole, rtol=1e-9, atol=0)
    single = divergence(x.float(), y.float(), 1)
    assert single.dtype == torch.float32
    assert float(single) == pytest.approx(float(whole), rel=1e-4)


def test_a_smaller_limit_of_iterations_ends_earlier() -> None:
    x, y = anchor_rows(*features(7), 9, "lowest")
    whole = float(divergence(x, y, 0.05, 2000))
    apart = [abs(float(divergence(x, y, 0.05, limit)) - whole) for limit in (1, 10, 100)]
    assert all(less < more for more, less in pairwise(apart))


def test_anchors_are_in_order_with_ties_by_column() -> None:
    rows = torch.tensor([[3.0, 1, 2, 1, 0], [0, 0, 5, 5, 5]])
    assert anchors(rows, 3, "lowest").tolist() == [[4, 1, 3], [0, 1, 2]]
    assert anchors(rows, 3, "highest").tolist() == [[0, 2, 1], [2, 3, 4]]


def test_similarities_and_their_shift() -> None:
    teacher, _ = features(8, clips=5, width=3)
    teacher[2] = 0
    found = similarity(teacher)
    np.testing.assert_allclose(found[[0, 1, 3, 4]][:, [0, 1, 3, 4]].diagonal(), 1, rtol=1e-12)
    assert not found[2].any()
    assert float(shifted(found).min()) == 0
    own = teacher.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(shifted(similarity(own)).sum(), own)
    assert gradient.isfinite().all()


def test_all_kinds_of_batches_give_a_finite_gradient() -> None:
    for student in (torch.zeros(6, 4), torch.ones(6, 4), 1e20 * torch.eye(6, 4), 1e-20 * torch.eye(6, 4)):
        own = student.clone().requires_grad_()
        found = loss(torch.eye(6, 4), own, k=3)
        assert found.isfinite()
        assert torch.autograd.grad(found, own)[0].isfinite().all()
