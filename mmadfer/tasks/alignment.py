"""Attention that looks where an expression's action units are (Belharbi et al. 2024, "Guided Interpretable Facial
Expression Recognition via Spatial Action Unit Cues").

The attention of a layer is the mean over the channels of its tokens. It is drawn towards the map of the clip's class
(`mmadfer.tasks.action_units`) by a loss, for every frame that has a map.

Shapes: N frames, h' x w' patches of a frame.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from mmadfer.tasks.action_units import expression_maps
from mmadfer.tasks.base import Term
from mmadfer.tasks.gathering import mean_count
from mmadfer.tasks.output import Output

FLOOR = 1e-8
"""Of the norms in a cosine."""


def cosines(attention: Tensor, maps: Tensor) -> Tensor:
    """Of the angle between both over all places: (N, h', w') each -> (N,)."""
    return cosine_similarity(attention.flatten(1), maps.flatten(1), eps=FLOOR)


def by_cosine(attention: Tensor, maps: Tensor) -> Tensor:
    """1 - cosine, (N,)."""
    return 1 - cosines(attention, maps)


def by_standardised_cosine(attention: Tensor, maps: Tensor) -> Tensor:
    """The same after the attention is brought to mean 0 and deviation 1 over places, (N,)."""
    flat = attention.flatten(1)
    even = (flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + 1e-4)
    return 1 - cosines(even, maps)


def by_distance(attention: Tensor, maps: Tensor) -> Tensor:
    """Mean squared difference over places, (N,)."""
    return (attention - maps).square().mean(dim=(1, 2))


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "random_avg": by_cosine,
    "std_cosine": by_standardised_cosine,
    "l2": by_distance,
}
"""By the published program's names; `random_avg` with p = 1, its setting, is the plain mean over channels."""


def mean_loss(attentions: list[Tensor], maps: list[Tensor], valid: Tensor, kind: str, count: Tensor | float) -> Tensor:
    """The sum over frames with a map by `count`, and the mean over layers of it, ().

    Args:
        attentions: (N, h', w') of each layer.
        maps: of each layer, likewise; any where `valid` is not.
        valid: bool (N,).
        kind: of `LOSSES`.
        count: frames with a map; of none, the loss is 0 all the same.
    """
    sums = [(LOSSES[kind](*pair) * valid).sum() for pair in zip(attentions, maps, strict=True)]
    total = sums[0]
    for one in sums[1:]:
        total = total + one
    return total / len(sums) / count


class Alignment(Term):
    """`task.align`: the loss is the mean over all frames with a map of the micro-batch, those of all ranks."""

    def __init__(self, settings: Any, model: Any, teacher: nn.Module | None) -> None:
        super().__init__(settings, model, teacher)
        encoder = model.vision
        self._kind, self._disgust = settings.kind, settings.disgust
        self._places = settings.places(model.config.layers)
        self._patches, self._grid = slice(encoder.prefix, encoder.end), encoder.grid
        self.layers = frozenset(self._places)

    def attention(self, tokens: Tensor) -> Tensor:
        """Tokens after a layer (..., L, D) -> the mean over channels of those of patches, (..., h', w').

        They are taken before the encoder's last norm, after which that mean is the same for all tokens, but for the
        norm's scale and shift. CLS, registers and prompts are no places of the picture.
        """
        return tokens[..., self._patches, :].float().mean(dim=-1).unflatten(-1, self._grid)

    def forward(self, output: Output, batch: Any, teacher: Output | None) -> dict[str, Tensor]:
        """`loss`, the mean `cosine` of attention and map, and the `share` of frames that have a map."""
        maps, valid = self._maps(batch)
        attentions = [self.attention(self._tokens(output, place)).flatten(0, 1) for place in self._places]
        count = mean_count(valid)
        loss = mean_loss(attentions, [maps] * len(attentions), valid, self._kind, count)
        with torch.no_grad():
            near = torch.stack([cosines(one, maps) for one in attentions]).mean(0)
        return {"loss": loss, "cosine": (near * valid).sum() / count, "share": valid.float().mean()}

    def _maps(self, batch: Any) -> tuple[Tensor, Tensor]:
        """(B T, h', w') and bool (B T,)."""
        height, width = batch.frames.shape[-2:]
        expressions = batch.expressions.repeat_interleave(batch.landmarks.shape[1])
        points = batch.landmarks.flatten(0, 1)
        return expression_maps(points, (height, width), expressions, self._grid, self._disgust)

    @staticmethod
    def _tokens(output: Output, place: int) -> Tensor:
        tokens = output.features[place].vision
        assert tokens is not None, "AlignConfig refuses a model without vision"
        return tokens
