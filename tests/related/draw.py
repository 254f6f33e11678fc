"""Numbers behind the reference values: each array has a generator of its own, seeded by (seed, CRC-32 of its name)."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def draw(name: str, shape: Sequence[int], seed: int, mean: float = 0.0, std: float = 1.0) -> np.ndarray:
    """Normal numbers, float64 of this shape."""
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return mean + std * generator.standard_normal(tuple(shape))


def draw_all(tensors: Mapping[str, Mapping[str, Any]], seed: int) -> dict[str, np.ndarray]:
    """By name, for each name's shape, mean and std."""
    return {name: draw(name, one["shape"], seed, one["mean"], one["std"]) for name, one in tensors.items()}
