"""One layer of both encoders with the fusion after it: the piece that training compiles.

It takes modules and tensors alone, so that one compiled program serves every layer: a number among its arguments, as a
layer's drop rate or index, would be compiled into it.

Shapes: B clips, T frames, N vision tokens a frame, M audio tokens, D encoder width.
"""

from functools import cache

import torch
from timm.models.vision_transformer import Block
from torch import Tensor

from mmadfer.model.fusion import Fusion


def layer(
    vision_block: Block,
    audio_block: Block,
    fusion: Fusion,
    vision: Tensor,
    audio: Tensor,
    keep_vision: Tensor | None,
    keep_audio: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Run both blocks, then the fusion: (B, T, N, D) and (B, M, D) -> the same shapes.

    keep_vision (B*T, 2) and keep_audio (B, 2) are the factors of attention and MLP in each sequence; see `kept`.
    """
    vision = through(vision_block, vision.flatten(0, 1), keep_vision).unflatten(0, vision.shape[:2])
    return fusion(vision, through(audio_block, audio, keep_audio))


def through(block: Block, tokens: Tensor, keep: Tensor | None) -> Tensor:
    """Run one block, pre-norm: (n, L, D) -> (n, L, D), with keep (n, 2)."""
    attention, mlp = (None, None) if keep is None else keep.unbind(1)
    tokens = tokens + _scaled(block.attn(block.norm1(tokens)), attention)
    return tokens + _scaled(block.mlp(block.norm2(tokens)), mlp)


def _scaled(branch: Tensor, keep: Tensor | None) -> Tensor:
    return branch if keep is None else branch * keep[:, None, None]


def kept(draws: Tensor, rates: tuple[float, ...]) -> Tensor:
    """Stochastic depth of all layers at once, without a branch: a factor for each branch of each sequence.

    Args:
        draws: float32 (..., depth, 2) in [0, 1).
        rates: of each layer.

    Returns:
        float32 of the same shape: 0 where the draw is below the rate, else 1 / (1 - rate), to the same expectation.
    """
    rate, rest = _rates(rates, draws.device)
    return (draws >= rate).to(draws.dtype) / rest


@cache
def _rates(rates: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """(depth, 1) each: the rates and what is left; kept, for a step must not wait for a copy to the device."""
    rate = torch.tensor([(rate, 1 - rate) for rate in rates], device=device)
    return rate[:, :1], rate[:, 1:]
