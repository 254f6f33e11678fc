"""One sequence of both encoders: from their tokens and summaries to what the temporal part works on.

A joint is a module made of the model's configuration, `Joint(config)`. Its section (`mmadfer.config.parts.JointPart`)
says how wide and how long its sequence is, and whether it takes the sound's patches.

Shapes: B clips, T frames, S stretches of sound (one, so far), N and M tokens of each, D width of an encoder, W width of
the sequence.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from mmadfer.config.model import JmtConfig, ModelConfig
from mmadfer.model.joint_transformer import JointTransformer


class Encoded(NamedTuple):
    """What an encoder makes of a clip."""

    tokens: Tensor
    """(B, T, N, D) of frames, (B, S, M, D) of sound: after the last layer, before the encoder's norm."""
    summary: Tensor
    """(B, T, D) or (B, S, D): the normalised CLS, or what the encoder has in its place."""
    patches: Tensor | None = None
    """(B, S, rows, columns, D) of sound, rows in time: the normalised tokens of its patches, where the joint's section
    has `sound_patches`."""


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


class Concatenation(nn.Linear):
    """The summaries of a frame and of its stretch of sound side by side, through a linear layer."""

    def __init__(self, config: ModelConfig):
        super().__init__(config.vision.width + config.audio.width, config.width)

    def forward(self, vision: Encoded, audio: Encoded) -> Tensor:  # type: ignore[override]
        """Both -> (B, T, W)."""
        return super().forward(torch.cat([vision.summary, stretches(audio, vision.summary.shape[1])], dim=-1))


class Jmt(nn.Module):
    """The joint multimodal transformer, of the frames' summaries and those of their stretches of sound."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        own = cast(JmtConfig, config.joint)
        self.vision = nn.Linear(config.vision.width, own.width)
        self.audio = nn.Linear(config.audio.width, own.width)
        self.transformer = JointTransformer(own.width, own.heads, own.combine)

    def forward(self, vision: Encoded, audio: Encoded) -> Tensor:
        """Both -> (B, T, W), or (B, T, 2 W) of `combine: concat`."""
        heard = stretches(audio, vision.summary.shape[1])
        joint: Tensor = self.transformer(self.vision(vision.summary), self.audio(heard))
        return joint


class Words(nn.Linear):
    """The summary of a sentence, through a linear layer, added to every step of a joint sequence.

    With joint `sum` and `concat` that is the linear layer of all three: that of summaries side by side is a sum.
    """

    def __init__(self, config: ModelConfig):
        assert config.text is not None
        super().__init__(config.text.width, config.width)

    def forward(self, sequence: Tensor, text: Tensor) -> Tensor:  # type: ignore[override]
        """(B, T, W) and (B, 1, D) -> (B, T, W)."""
        return sequence + super().forward(text)


def stretches(audio: Encoded, steps: int) -> Tensor:
    """The sound in equal stretches of time: (B, 1, rows, columns, D) -> (B, T, D), means over mel bands and time.

    Step k is the moment of frame k where the filter bank covers the time of the frames: see `model.joint` in the docs.
    """
    assert audio.patches is not None
    return audio.patches[:, 0].mean(dim=2).unflatten(1, (steps, -1)).mean(dim=2)


def _present(vision: Encoded | None, audio: Encoded | None) -> Encoded:
    found = vision or audio
    assert found is not None
    return found
