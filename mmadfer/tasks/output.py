"""What a model gives on request beside its logits: for distillation, alignment and the like.

Shapes: B clips, T frames, N tokens of a frame, M tokens of the sound, D the encoders' width, W the sequence's.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Features(NamedTuple):
    """Tokens after a layer of the model, and the fusion in it."""

    vision: "Tensor | None"
    """(B, T, N, D)."""
    audio: "Tensor | None"
    """(B, M, D)."""


class Output(NamedTuple):
    """Logits, and what they are made of."""

    logits: "Tensor"
    """(B, C), or (B, T, C) with `head.per: step`; as `forward` gives them, bit for bit."""
    sequence: "Tensor"
    """(B, T, W): what the temporal part makes of the joint sequence, without the CLS token."""
    pooled: "Tensor"
    """(B, W): what the head turns into the logits; the sequence with `head.per: step`."""
    features: dict[int, Features]
    """Of the layers that were asked for, by index from 0."""

    def float(self) -> "Output":
        """The same in float32; features stay as they are."""
        return self._replace(logits=self.logits.float(), sequence=self.sequence.float(), pooled=self.pooled.float())
