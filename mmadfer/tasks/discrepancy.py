"""How the features of some people differ from those of others: maximum mean discrepancy with several Gaussian kernels
(Gretton et al. 2012, "A Kernel Two-Sample Test"; the kernels as Zeeshan et al. 2023, arXiv 2312.05632, have them).

With Z the N = n + m rows of both sides, w = 1/n for those of the source and -1/m for those of the target,

    MMD = sum over i, j of w_i w_j K(z_i, z_j),    K = sum over r of exp(-|z_i - z_j|^2 / (b factor^r))

Pairs of a row with itself count. The first bandwidth b is the mean squared distance of all ordered pairs of different
rows, divided by factor^(kernels // 2), so that the middle kernel has the mean; it is a constant for the gradient.

Shapes: n and m clips, W features.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

KERNELS, FACTOR = 5, 2.0
"""Of the published program."""
_BLOCK_PAIRS = 1 << 22
"""Pairs that are looked at at once: memory grows with n + m, not with its square."""


def discrepancy(
    source: Tensor, target: Tensor, kernels: int = KERNELS, factor: float = FACTOR, gradient: bool = True
) -> Tensor:
    """MMD () of features (n, W) and (m, W), in their precision; 0 where all are equal.

    Args:
        source: of some people.
        target: of others.
        kernels: Gaussian kernels, each wider than the one before.
        factor: by which.
        gradient: False: the number alone, which draws nothing together; the published program adds it like this.

    Raises:
        ValueError: fewer than two clips on a side, or other widths.
    """
    _check(source, target)
    rows = torch.cat([source, target])
    shares = rows.new_full((len(rows),), 1 / len(source))
    shares[len(source) :] = -1 / len(target)
    rows = rows - rows.detach().mean(0)  # distances stay the same, and the gradient's rounding is that of small numbers
    value: Tensor = _Discrepancy.apply(rows, shares, bandwidths(source, target, kernels, factor))
    return value if gradient else value.detach()


@torch.no_grad()
def bandwidths(source: Tensor, target: Tensor, kernels: int = KERNELS, factor: float = FACTOR) -> Tensor:
    """Of the kernels, ascending (kernels,); arguments and errors as of `discrepancy`."""
    _check(source, target)
    rows = torch.cat([source, target])
    squares = (rows - rows.mean(0)).square().sum()  # the squared distances of all ordered pairs are 2 N times this
    first = 2 * squares / (len(rows) - 1) / factor ** (kernels // 2)
    smallest = torch.finfo(rows.dtype).eps  # of equal rows, whose distances from their mean are nothing but rounding
    return first.clamp(min=smallest) * factor ** torch.arange(kernels, dtype=rows.dtype, device=rows.device)


def linear(source: Tensor, target: Tensor, gradient: bool = True) -> Tensor:
    """The squared distance () of the mean features, another loss of the published program; as `discrepancy`."""
    _check(source, target)
    value = (source.mean(0) - target.mean(0)).square().sum()
    return value if gradient else value.detach()


def _check(source: Tensor, target: Tensor) -> None:
    if min(len(source), len(target)) < 2:
        raise ValueError(
            f"a discrepancy is between two clips or more on each side, and there are {len(source)} and {len(target)}"
        )
    if source.shape[1:] != target.shape[1:] or source.ndim != 2:
        raise ValueError(f"features are (n, W) and (m, W), not {(*source.shape,)} and {(*target.shape,)}")


class _Discrepancy(torch.autograd.Function):
    """The sum, with its gradient in closed form, a block of rows at a time: nothing of the size N x N is kept."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, shares: Tensor, widths: Tensor) -> Tensor:
        """(N, W), (N,), (kernels,) -> ()."""
        value, gradients = rows.new_zeros(()), []
        for part, share in _blocks(rows, shares):
            distances = torch.cdist(part, rows, compute_mode="donot_use_mm_for_euclid_dist").square()
            pairs, slopes = share[:, None] * shares, torch.zeros_like(distances)
            for width in widths:
                kernel = pairs * (-distances / width).exp()
                value = value + kernel.sum()
                slopes -= kernel / width
            # each pair stands twice in the sum, and d |z_i - z_j|^2 / d z_i = 2 (z_i - z_j)
            gradients.append(4 * (slopes.sum(1, keepdim=True) * part - slopes @ rows))
        ctx.save_for_backward(torch.cat(gradients))
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of the rows; bandwidths are constant."""
        return scale * ctx.saved_tensors[0], None, None


def _blocks(rows: Tensor, shares: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    size = max(1, _BLOCK_PAIRS // len(rows))
    return zip(rows.split(size), shares.split(size), strict=True)
