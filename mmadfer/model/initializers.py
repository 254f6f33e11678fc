"""Initial values: each module says how its own tensors are drawn, each tensor from a stream of its own.

A stream is seeded by a seed and the tensor's full name. So nothing touches the global random state, the order of
construction does not matter, and the values are the same bits on any machine.

A module with parameters or buffers of its own has a method `draw(name, stream)` that returns the initial value of the
tensor `name` below it, or None where that is left to the modules around it. Linear layers, convolutions, LayerNorms and
BatchNorms of torch are known here. A tensor that nobody draws is an error.
"""

import zlib
from collections.abc import Iterator, Mapping
from math import prod
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from mmadfer.errors import ConfigError


class Stream:
    """The random numbers of one tensor, float32, in its shape."""

    def __init__(self, name: str, shape: tuple[int, ...], seed: int) -> None:
        self.shape = shape
        self._random = np.random.default_rng([seed, zlib.crc32(name.encode())])

    def uniform(self, bound: float) -> Tensor:
        """Uniform in +-bound."""
        draws = self._random.random(self.shape, dtype=np.float32)
        return torch.from_numpy((2 * draws - 1) * np.float32(bound))

    def normal(self, deviation: float = 1.0, shape: tuple[int, ...] | None = None) -> Tensor:
        """Normal around 0, of this shape or another one."""
        return deviation * torch.from_numpy(self._random.standard_normal(shape or self.shape, dtype=np.float32))

    def full(self, value: float) -> Tensor:
        """The value everywhere."""
        return torch.full(self.shape, value)


@runtime_checkable
class Drawn(Protocol):
    """A module that says how tensors of its own, and of modules below it, are drawn."""

    def draw(self, name: str, stream: Stream) -> Tensor | None:
        """The initial value of the parameter or buffer `name`, as it is called below this module; None: not mine."""
        ...


class Gated:
    """A module whose gates (`gate`, `..._gate`) are closed at first."""

    def draw(self, name: str, stream: Stream) -> Tensor | None:
        """0 for a gate."""
        return stream.full(0) if name.endswith("gate") else None


def learned(module: nn.Module) -> dict[str, Tensor]:
    """What training changes, by state-dict name: parameters with gradients, and buffers that are saved."""
    saved = module.state_dict(keep_vars=True)
    return {name: value for name, value in saved.items() if value.requires_grad or not isinstance(value, nn.Parameter)}


def constants(module: nn.Module) -> dict[str, Tensor]:
    """Buffers that are not saved: each is computed anew from the module's sizes."""
    saved = module.state_dict(keep_vars=True)
    return {name: value for name, value in module.named_buffers() if name not in saved}


def fill(module: nn.Module, tensors: Mapping[str, Tensor], seed: int = 0) -> None:
    """Give tensors of a module, by their names in it, their initial values, in place.

    Raises:
        ConfigError: neither a module nor a rule knows one of them, or it is a parameter without axes; names it.
    """
    for name, tensor in tensors.items():
        if isinstance(tensor, nn.Parameter) and not tensor.ndim:
            raise ConfigError(f"{name} has no axis, and DeepSpeed sends no such parameter to other ranks: make it (1,)")
        tensor.data.copy_(initial(module, name, Stream(name, tuple(tensor.shape), seed)))


def fill_constants(module: nn.Module) -> None:
    """Compute the buffers that are not saved, which a module made without memory has lost.

    Raises:
        ConfigError: a module does not say what is in one of them; names it.
    """
    for name, buffer in constants(module).items():
        owner, _, leaf = name.rpartition(".")
        value = initial(module, name, Stream(name, tuple(buffer.shape), 0))
        setattr(module.get_submodule(owner), leaf, value.to(buffer.dtype))


def initial(module: nn.Module, name: str, stream: Stream) -> Tensor:
    """The initial value of one tensor, by the nearest module above it that knows it.

    Raises:
        ConfigError: none does.
    """
    for owner, below in _owners(module, name):
        value = owner.draw(below, stream) if isinstance(owner, Drawn) else None
        if value is not None:
            return value
    owner, below = next(_owners(module, name))
    value = _usual(owner, below, stream)
    if value is None:
        raise ConfigError(
            f"nothing says how {name} {list(stream.shape)} of {type(module).__name__} is drawn: give "
            f"{type(owner).__name__} a method draw(name, stream) that returns its initial value "
            "(mmadfer.model.initializers)"
        )
    return value


def _owners(module: nn.Module, name: str) -> Iterator[tuple[nn.Module, str]]:
    """The modules above a tensor, the nearest first, each with the tensor's name below it."""
    parts = name.split(".")
    for depth in range(len(parts) - 1, -1, -1):
        yield module.get_submodule(".".join(parts[:depth])), ".".join(parts[depth:])


def _usual(owner: nn.Module, name: str, stream: Stream) -> Tensor | None:
    """Torch's own layers: linear and convolutions uniform in +-1/sqrt(fan in), norms 1 and 0."""
    if isinstance(owner, nn.Linear) and name in ("weight", "bias"):
        return stream.uniform(owner.in_features**-0.5)
    if isinstance(owner, _ConvNd) and name in ("weight", "bias"):
        return stream.uniform(prod(owner.weight.shape[1:]) ** -0.5)
    if isinstance(owner, nn.LayerNorm | _BatchNorm):
        values = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0, "num_batches_tracked": 0.0}
        return stream.full(values[name]) if name in values else None
    return None
