"""How a student's similarities between clips differ from a teacher's, as optimal transport (PKDOT, Aslam et al. 2024).

A row of a similarity matrix says how near each other clip of the batch is to one of them. Rows of teacher and student,
cut down to a few columns (the anchors), are two clouds of points; they are compared by the debiased Sinkhorn divergence
(Feydy et al. 2019, "Interpolating between optimal transport and MMD using Sinkhorn divergences").

Shapes: B clips, W features, k anchors; clouds have n and m points.
"""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

Anchors = Literal["lowest", "highest"]
ITERATIONS = 10_000
"""The most that are made; where it has converged before, no more are."""
_EVERY = 10
"""Iterations between two looks at whether it has: each waits for the device."""
_STILL, _ROUNDINGS = 1e-12, 4
"""Of the mean cost: what a converged value still moves by between two looks, in roundings where these are coarser."""


def similarity(features: Tensor) -> Tensor:
    """Cosines (B, B) of features (B, W); 0 of features that are all 0."""
    unit = normalize(features, dim=-1)
    return unit @ unit.T


def shifted(similarities: Tensor) -> Tensor:
    """The matrix less its smallest element, which has a gradient too."""
    return similarities - similarities.min()


def anchors(similarities: Tensor, k: int, which: Anchors) -> Tensor:
    """Columns int64 (B, k) of the k lowest of each row, ascending, or of the k highest, descending; ties by column."""
    return similarities.sort(dim=-1, descending=which == "highest", stable=True).indices[:, :k]


def anchor_rows(teacher: Tensor, student: Tensor, k: int, which: Anchors) -> tuple[Tensor, Tensor]:
    """Both sides' rows (B, k) at the teacher's anchors, of features (B, W) and (B, V)."""
    theirs, own = similarity(teacher), similarity(student)
    chosen = anchors(theirs, k, which)
    return shifted(theirs).gather(1, chosen), shifted(own).gather(1, chosen)


def divergence(x: Tensor, y: Tensor, blur: float, iterations: int = ITERATIONS) -> Tensor:
    """Sinkhorn divergence () of clouds (n, K) and (m, K): OT(x, y) - OT(x, x) / 2 - OT(y, y) / 2.

    It is 0 for equal clouds, and positive for others.
    """
    between, within = transport(x, y, blur, iterations), [transport(one, one, blur, iterations) for one in (x, y)]
    return between - within[0] / 2 - within[1] / 2


def transport(x: Tensor, y: Tensor, blur: float, iterations: int = ITERATIONS) -> Tensor:
    """Entropic transport () between clouds (n, K) and (m, K) of equal weights, with its gradient.

    The least of <P, C> + blur^2 KL(P, product of the weights) over plans P, with C half the squared distance. At the
    least, a change of P changes nothing, so the gradient is that of <P, C> with P held fixed.
    """
    cost = (x[:, None] - y[None]).square().sum(-1) / 2
    with torch.no_grad():
        f, g = _potentials(cost, blur**2, iterations)
        plan = ((f[:, None] + g - cost) / blur**2).exp() / cost.numel()
        value = f.mean() + g.mean()
    moved = (plan * cost).sum()
    return value + (moved - moved.detach())


def _potentials(cost: Tensor, epsilon: float, iterations: int) -> tuple[Tensor, Tensor]:
    """Dual potentials (n,) and (m,) of costs (n, m), by Sinkhorn's iterations in the log domain."""
    rows, columns = (math.log(size) for size in cost.shape)
    f, g = cost.new_zeros(cost.shape[0]), cost.new_zeros(cost.shape[1])
    value, still = f.mean(), max(_STILL, _ROUNDINGS * torch.finfo(cost.dtype).eps) * cost.mean()
    for done in range(1, iterations + 1):
        f = epsilon * (columns - ((g - cost) / epsilon).logsumexp(1))
        g = epsilon * (rows - ((f[:, None] - cost) / epsilon).logsumexp(0))
        if done % _EVERY == 0:
            before, value = value, f.mean() + g.mean()
            if bool((value - before).abs() <= still):
                break
    return f, g
