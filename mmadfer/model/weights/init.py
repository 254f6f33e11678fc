"""Initial weights of a model: those of random encoders by their own seeds, all that learns by the training's."""

import numpy as np
import torch
from torch import Tensor

from mmadfer.model.encoder import Encoder
from mmadfer.model.initializers import fill, fill_constants, learned
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.text import said_by


def draw_encoder(model: MMADFER, name: str, seed: int) -> None:
    """Initial values of a random encoder ("vision" or "audio") as MAE and AudioMAE start theirs; see `Encoder.draw`.

    Positions come from sines and cosines (rows of prompts are left to `draw_learned`).
    """
    encoder: Encoder = getattr(model, name)
    frozen = {key: p for key, p in model.frozen().items() if key.startswith(f"{name}.")}
    fill(model, {key: p for key, p in frozen.items() if key != f"{name}.positions"}, seed)
    set_positions(encoder, sincos(encoder.grid, encoder.positions.shape[-1])[:, 1:])


def draw_text(model: MMADFER, seed: int) -> None:
    """Initial values of a random text encoder, whether it learns or not."""
    own = {name: value for name, value in model.named_parameters() if said_by("text", name)}
    fill(model, own, seed)


def draw_learned(model: MMADFER, seed: int) -> None:
    """Initial values of all that learns, as its modules say, and of buffers; not of a text encoder's own.

    Raises:
        ConfigError: a tensor that no module and no rule knows.
    """
    fill(model, {name: value for name, value in learned(model).items() if not said_by("text", name)}, seed)
    fill_constants(model)


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
