"""The discrepancy between features of people, and the labels that a model is sure of."""

import pytest
import torch
from torch.autograd import gradcheck

from mmadfer.config.adaptation import chooses, threshold_at
from mmadfer.tasks import discrepancy as module
from mmadfer.tasks.discrepancy import bandwidths, discrepancy, linear
from mmadfer.tasks.pseudo_labels import pseudo_labels


def sides(n: int = 7, m: int = 5, width: int = 3, shift: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(n + m)
    source, target = torch.randn(n, width, dtype=torch.double), torch.randn(m, width, dtype=torch.double) + shift
    return source.requires_grad_(), target.requires_grad_()


def test_gradient_is_that_of_the_value_at_constant_bandwidths(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = sides()
    fixed = bandwidths(source, target)
    monkeypatch.setattr(module, "bandwidths", lambda *_: fixed)
    assert gradcheck(discrepancy, (source, target))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = sides()
    whole = discrepancy(source, target)
    monkeypatch.setattr(module, "_BLOCK_PAIRS", 25)
    parts = discrepancy(source, target)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-14)
    gradients = [torch.autograd.grad(value, [source, target]) for value in (whole, parts)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-14)


def test_equal_sides_differ_by_nothing() -> None:
    rows = sides()[0]
    found = discrepancy(rows, rows)
    assert abs(found.item()) < 1e-15
    assert torch.autograd.grad(found, rows)[0].abs().max() < 1e-15
    same = torch.full((7, 30), 3.7, requires_grad=True)
    found = discrepancy(same, same[:4])
    assert abs(found.item()) < 1e-6
    assert torch.autograd.grad(found, same)[0].abs().max() < 1e-6


def test_far_sides_differ_more() -> None:
    near, far = (discrepancy(*sides(shift=shift)) for shift in (0.0, 3.0))
    assert 0 < near < far


def test_the_mean_of_all_features_does_not_matter() -> None:
    source, target = (one.detach().float() for one in sides())
    moved = discrepancy(source + 100, target + 100)
    torch.testing.assert_close(moved, discrepancy(source, target), rtol=0, atol=1e-4)


def test_the_number_alone_has_no_gradient() -> None:
    source, target = sides()
    for kind in (discrepancy, linear):
        number = kind(source, target, gradient=False)
        assert not number.requires_grad
        assert number == kind(source, target)


@pytest.mark.parametrize("kind", [discrepancy, bandwidths, linear])
def test_batches_of_one_and_of_other_widths_are_refused(kind: object) -> None:
    rows = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="two clips or more on each side, and there are 3 and 1"):
        kind(rows, rows[:1])  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"not \(3, 2\) and \(3, 1\)"):
        kind(rows, rows[:, :1])  # type: ignore[operator]


VIEWS = (
    torch.tensor([[6.0, 0, 0], [9, 0, 0], [0, 0, 0], [0, 0, 5]]),
    torch.tensor([[0.0, 7, 0], [9, 0, 0], [0] * 3, [0] * 3]),
)


def test_the_surer_view_names_the_class() -> None:
    found = pseudo_labels(*VIEWS, threshold=0.9)
    assert found.chosen.tolist() == [0, 1]
    assert found.labels.tolist() == [1, 0]
    largest = [one.softmax(1).amax(1)[:2] for one in VIEWS]
    torch.testing.assert_close(found.confidence, sum(largest) / 2)


def test_both_views_may_have_to_agree() -> None:
    assert pseudo_labels(*VIEWS, threshold=0.9, agree=True).chosen.tolist() == [1]


def test_equal_is_not_above_the_threshold() -> None:
    even = torch.zeros(2, 2)
    assert len(pseudo_labels(even, even, threshold=0.5).chosen) == 0
    assert len(pseudo_labels(even, even, threshold=0.4999).chosen) == 2


def test_a_choice_among_some() -> None:
    among = torch.tensor([True, False, True, True])
    assert pseudo_labels(*VIEWS, threshold=0.5, among=among).chosen.tolist() == [0, 3]


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"not \(4, 3\) and \(2, 3\)"):
        pseudo_labels(VIEWS[0], VIEWS[1][:2], threshold=0.5)


def test_the_threshold_falls_each_time() -> None:
    assert [epoch for epoch in range(45) if chooses(epoch, 20)] == [0, 20, 40]
    found = [threshold_at(epoch, 0.9, 0.02, 20) for epoch in (0, 19, 20, 40)]
    assert found == pytest.approx([0.9, 0.9, 0.88, 0.86], abs=1e-12)
