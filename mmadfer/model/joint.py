"""One sequence of both encoders: from their tokens and summaries to what the temporal part works on.

A joint is a module made of the model's configuration, `Joint(config)`. Its section (`mmadfer.config.parts.JointPart`)
says how wide and how long its sequence is.

Shapes: B clips, T frames, S stretches of sound (one, so far), N and M tokens of each, D width of an encoder, W width of
the sequence.
"""

from typing import NamedTuple

from torch import Tensor, nn

from mmadfer.config.model import ModelConfig


class Encoded(NamedTuple):
    """What an encoder makes of a clip."""

    tokens: Tensor
    """(B, T, N, D) of frames, (B, S, M, D) of sound: after the last layer, before the encoder's norm."""
    summary: Tensor
    """(B, T, D) or (B, S, D): the normalised CLS, or what the encoder has in its place."""


class Sum(nn.Linear):
    """The sum of the summaries, sound on every frame, through a linear layer (section 3.4); those of one alone."""

    def __init__(self, config: ModelConfig):
        width, audio = (getattr(config, name).width for name in (config.modalities[0], config.modalities[-1]))
        super().__init__(width, config.width)
        self.match = nn.Identity() if audio == width else nn.Linear(audio, width)
        """From the audio encoder's width to the vision encoder's, where they differ."""

    def forward(self, vision: Encoded | None, audio: Encoded | None) -> Tensor:  # type: ignore[override]
        """Both, or one of them -> (B, T, W)."""
        if vision is None or audio is None:
            return super().forward(_present(vision, audio).summary)
        return super().forward(vision.summary + self.match(audio.summary))


class Single(nn.Module):
    """The summaries of one encoder as they are."""

    def __init__(self, config: ModelConfig):
        super().__init__()

    def forward(self, vision: Encoded | None, audio: Encoded | None) -> Tensor:
        """One of them -> (B, T, D), or (B, 1, D) of sound."""
        return _present(vision, audio).summary


def _present(vision: Encoded | None, audio: Encoded | None) -> Encoded:
    found = vision or audio
    assert found is not None
    return found
