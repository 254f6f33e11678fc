"""Initial weights: every tensor from its own stream, seeded by a seed and the tensor's name.

So nothing touches the global random state, the order of construction does not matter, and the frozen encoders are the
same bits on any machine: they come from uniform draws and one rounded product each.
"""

import zlib

import numpy as np
import torch
from torch import Tensor, nn

from mmadfer.model.encoder import Encoder
from mmadfer.model.mma_dfer import MMADFER

QUERY_KEY_GAIN = 2.5
"""Where a patch lies, of four places, is read linearly from a tiny random encoder's CLS with 54 % at 1, 78 % at 2.5."""


def draw_encoder(model: MMADFER, name: str, seed: int) -> None:
    """Initial values of a random encoder ("vision" or "audio") as MAE and AudioMAE start theirs.

    Linear layers and the patch convolution Xavier-uniform, biases 0, CLS and registers with deviation 0.02, positions
    from sines and cosines (rows of prompts are left to `draw_trainable`). LayerScale is 1: timm starts it near 0, with
    which a frozen random encoder would have no blocks. Only queries and keys are drawn wider, so that attention
    chooses instead of averaging, as in a trained encoder: frozen features then tell content and place.
    """
    encoder: Encoder = getattr(model, name)
    for key, parameter in encoder.named_parameters(prefix=name):
        if not parameter.requires_grad:
            parameter.data.copy_(_frozen(key, parameter, seed))
    set_positions(encoder, sincos(encoder.grid, encoder.positions.shape[-1])[:, 1:])


def draw_trainable(model: MMADFER, seed: int) -> None:
    """Initial values of all that learns, less the position rows before those of prompts, which are the encoder's.

    Gates 0, norms 1, prompts standard normal * D**-0.5, prompt positions and the temporal tokens standard normal, and
    linear layers uniform in +-1/sqrt(fan in). Of low-rank updates, `lora_b` 0, and `lora_a` as linear layers.
    """
    for key, parameter in model.trainable().items():
        if not key.endswith(("vision.positions", "audio.positions")):
            parameter.data.copy_(_trainable(key, parameter, model, seed))
    for name, encoder in model.encoders.items():
        rows = encoder.positions.data[:, encoder.end :]
        rows.copy_(_normal(f"{name}.positions", rows, seed))


def set_positions(encoder: Encoder, rows: Tensor) -> None:
    """Set the positions of the patches, or of the tokens before them too: rows (1, N, D) or (1, prefix + N, D).

    Tokens without a row start at 0, which is no position.
    """
    encoder.positions.data[:, : encoder.end - rows.shape[1]].zero_()
    encoder.positions.data[:, encoder.end - rows.shape[1] : encoder.end].copy_(rows)


def sincos(grid: tuple[int, int], width: int) -> Tensor:
    """Positions (1, 1 + rows * columns, D) of MAE: a quarter each sin and cos of column, sin and cos of row; CLS 0."""
    rates = 1 / 10000 ** (np.arange(width // 4) / (width / 4))
    rows, columns = (axis.reshape(-1, 1) * rates for axis in np.meshgrid(*map(np.arange, grid), indexing="ij"))
    table = np.concatenate([np.sin(columns), np.cos(columns), np.sin(rows), np.cos(rows)], axis=1)
    return torch.from_numpy(np.concatenate([np.zeros((1, width)), table])[None]).float()


def _frozen(key: str, parameter: Tensor, seed: int) -> Tensor:
    if parameter.ndim == 1:
        return _norm_or_bias(key, parameter)
    if key.endswith((".cls", ".registers")):
        return _uniform(key, parameter, 0.02 * 3**0.5, seed)
    fan_out, fan_in = parameter.flatten(1).shape
    values = _uniform(key, parameter, (6 / (fan_in + fan_out)) ** 0.5, seed)
    if key.endswith("attn.qkv.weight"):
        values[: 2 * fan_in] *= QUERY_KEY_GAIN
    return values


def _trainable(key: str, parameter: Tensor, model: MMADFER, seed: int) -> Tensor:
    owner, _, leaf = key.rpartition(".")
    module = model.get_submodule(owner)
    if leaf.endswith(("gate", "lora_b")):
        return torch.zeros_like(parameter)
    if isinstance(module, nn.Linear):
        return _uniform(key, parameter, module.in_features**-0.5, seed)
    if isinstance(module, nn.LayerNorm):
        return _norm_or_bias(key, parameter)
    scale = parameter.shape[-1] ** -0.5 if ".prompts." in key else 1.0
    return scale * _normal(key, parameter, seed)


def _norm_or_bias(key: str, parameter: Tensor) -> Tensor:
    return torch.full_like(parameter, 0.0 if key.endswith("bias") else 1.0)


def _uniform(key: str, like: Tensor, bound: float, seed: int) -> Tensor:
    draws = _stream(key, seed).random(tuple(like.shape), dtype=np.float32)
    return torch.from_numpy((2 * draws - 1) * np.float32(bound))


def _normal(key: str, like: Tensor, seed: int) -> Tensor:
    return torch.from_numpy(_stream(key, seed).standard_normal(tuple(like.shape), dtype=np.float32))


def _stream(key: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(key.encode())])
