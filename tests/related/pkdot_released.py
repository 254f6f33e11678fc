"""Sinkhorn divergences as geomloss approximates them, with which the published PKDOT was trained: an annealed blur.

Written from its description (Feydy et al. 2019, and the library's documentation): from the squared diameter of both
clouds on, the regularisation falls by the squared scaling in each step; each step moves potentials half of the way, and
a last one at the end moves them wholly, which alone has a gradient.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

Potentials = list[Tensor]
"""Of x against y, of y against x, of x against itself, of y against itself."""


def annealed(x: Tensor, y: Tensor, blur: float, scaling: float) -> Tensor:
    """The approximation () for clouds (n, k) and (m, k)."""
    apart = x.detach(), y.detach()
    costs = _costs(*apart, *apart)
    steps = list(_annealing(torch.cat(apart), blur, scaling))
    found = _softmins([torch.zeros_like(one[0]) for one in costs], costs, steps[0])
    for epsilon in steps:
        found = [(old + new) / 2 for old, new in zip(found, _softmins(_facing(found), costs, epsilon), strict=True)]
    f, g, of_x, of_y = _softmins(_facing(found), _costs(x, y, *apart), steps[-1])
    return (f - of_x).mean() + (g - of_y).mean()


def _annealing(points: Tensor, blur: float, scaling: float) -> Iterator[float]:
    diameter = float((points.amax(0) - points.amin(0)).norm())
    yield diameter**2
    yield from np.exp(np.arange(2 * math.log(diameter), 2 * math.log(blur), 2 * math.log(scaling))).tolist()
    yield blur**2


def _costs(x: Tensor, y: Tensor, x_apart: Tensor, y_apart: Tensor) -> Potentials:
    pairs = ((x, y_apart), (y, x_apart), (x, x_apart), (y, y_apart))
    return [(one[:, None] - other[None]).square().sum(-1) / 2 for one, other in pairs]


def _facing(found: Potentials) -> Potentials:
    """Those on the other side of each cost."""
    return [found[k] for k in (1, 0, 2, 3)]


def _softmins(facing: Potentials, costs: Potentials, epsilon: float) -> Potentials:
    pairs = zip(facing, costs, strict=True)
    return [epsilon * (math.log(cost.shape[1]) - ((other - cost) / epsilon).logsumexp(1)) for other, cost in pairs]
