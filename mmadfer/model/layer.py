"""One layer of both encoders with the fusion after it: the piece that training compiles.

It takes modules and tensors alone, so that one compiled program serves every layer: a number among its arguments, as a
layer's drop rate or index, would be compiled into it.

Shapes: B clips, T frames, N vision tokens a frame, M audio tokens, D width of the encoder.
"""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

from mmadfer.model.block import Block


def layer(
    vision_blocks: Sequence[Block],
    audio_blocks: Sequence[Block],
    fusion: nn.Module,
    vision: Tensor | None,
    audio: Tensor | None,
    keep_vision: Tensor | None,
    keep_audio: Tensor | None,
) -> tuple[Tensor | None, Tensor | None]:
    """Run the encoders' blocks, then the fusion: (B, T, N, D) and (B, M, D), None of one that is not there -> the same.

    The blocks are usually one each; the deeper of two encoders has more. keep_vision (B*T, blocks, 2) and keep_audio
    (B, blocks, 2) are the factors of attention and MLP in each sequence; see `kept`.
    """
    if vision is not None:
        vision = through(vision_blocks, vision.flatten(0, 1), keep_vision).unflatten(0, vision.shape[:2])
    fused: tuple[Tensor | None, Tensor | None] = fusion(
        vision, None if audio is None else through(audio_blocks, audio, keep_audio)
    )
    return fused


def through(blocks: Sequence[Block], tokens: Tensor, keep: Tensor | None) -> Tensor:
    """Run blocks, pre-norm: (n, L, D) -> (n, L, D), with keep (n, blocks, 2)."""
    for index, block in enumerate(blocks):
        attention, mlp = (None, None) if keep is None else keep[:, index].unbind(1)
        tokens = tokens + _scaled(block.ls1(block.attn(block.norm1(tokens))), attention)
        tokens = tokens + _scaled(block.ls2(block.mlp(block.norm2(tokens))), mlp)
    return tokens


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
