"""Deterministic weights and inputs in the layout of the published MMA-DFER checkpoints.

The published checkpoints cannot be shipped, so parity is checked on made-up
weights that anyone can rebuild bit for bit: every tensor is drawn from a
generator seeded by its own name.  `layout_*.json` lists the names and shapes of
a published fold checkpoint (`{"state_dict": {...}}`, every name prefixed with
"module." there); `golden_*.npz` holds what the published model computes from
these weights and inputs, in float64.

    from reference import state_dict, batch
    weights = state_dict("layout_dfew_160.json", seed=1)   # dict[str, float32 array]
    frames, fbank, labels = batch(image_size=160, classes=7, seed=1)
"""

import json
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def _draw(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    z = rng.standard_normal(shape, dtype=np.float32)
    if "all_gate" in name:  # fusion gates: far from zero, so that fusion is exercised
        return 0.5 * z
    if ("norm" in name and name.endswith("weight")) or (name.endswith(".1.weight") and z.ndim == 1):
        return 1 + 0.1 * z  # layer norms
    if name.endswith("bias"):
        return 0.02 * z
    if z.ndim >= 2 and name.endswith("weight"):
        return z / np.sqrt(np.prod(shape[1:]), dtype=np.float32)
    return 0.5 * z  # tokens, prompts, position embeddings


def state_dict(layout: str, seed: int = 1) -> dict[str, np.ndarray]:
    """Weights under their published names (without the "module." prefix)."""
    shapes = json.loads((HERE / layout).read_text())
    return {name: _draw(name, tuple(shape), seed) for name, shape in shapes.items()}


def batch(image_size: int, classes: int, size: int = 2, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """frames uint8 (size, 16, 3, H, W) to be divided by 255; fbank float32 (size, 1, 512, 128); labels int64."""
    rng = np.random.default_rng([seed, image_size, classes])
    frames = rng.integers(0, 256, (size, 16, 3, image_size, image_size), dtype=np.uint8)
    fbank = rng.standard_normal((size, 1, 512, 128), dtype=np.float32)
    labels = rng.integers(0, classes, size)
    return frames, fbank, labels
