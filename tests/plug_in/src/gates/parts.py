"""A fusion, a joint, a head and a distillation for mmadfer, as an outside package has them; tests install it."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from mmadfer.config.distillation import DistillConfig
from mmadfer.config.model import ModelConfig
from mmadfer.config.parts import HeadPart, JointPart, Model, Part
from mmadfer.model.initializers import Stream
from mmadfer.model.joint import Encoded
from mmadfer.tasks.distillation import Distillation
from mmadfer.tasks.output import Output


class Gated(nn.Module):
    """Each modality receives the other's mean, less its mean over training, through a gate."""

    class Settings(Part):
        """Its section."""

        start: Annotated[float, Field(ge=-1, le=1)] = 0.5
        momentum: float = 0.1

        def check(self, model: Model) -> None:
            """Both widths are one."""
            if model.vision.width != model.audio.width:
                raise ValueError("fusion gated needs encoders of one width")

    seen: Tensor
    scale: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.settings: Gated.Settings = config.fusion
        width = config.vision.width
        self.gate = nn.Parameter(torch.zeros(width))
        self.register_buffer("seen", torch.zeros(width))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("scale", torch.zeros(width), persistent=False)

    def draw(self, name: str, stream: Stream) -> Tensor | None:
        """The gate as the section says; `scale` is a constant of the width."""
        if name == "scale":
            return torch.linspace(0.5, 1, stream.shape[0])
        return stream.full(self.settings.start if name == "gate" else 0)

    def forward(self, vision: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, N, D) and (B, M, D) -> the same shapes."""
        heard = audio.mean(dim=1)
        if self.training:
            self.seen.lerp_(heard.detach().mean(0).float(), self.settings.momentum)
            self.steps.add_(1)
        update = self.gate * self.scale * (heard - self.seen)
        return vision + update[:, None, None], audio + update[:, None]


class Concatenated(nn.Module):
    """Frames and stretches of sound one after the other: T + 1 steps."""

    class Settings(JointPart):
        """Its section."""

        width: Annotated[int, Field(gt=0, le=4096)] = 32

        def width_of(self, model: Model) -> int:
            """As it says."""
            return self.width

        def steps_of(self, model: Model) -> int:
            """One more."""
            return super().steps_of(model) + 1

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.vision, self.audio = (nn.Linear(one.width, config.width) for one in (config.vision, config.audio))

    def forward(self, vision: Encoded, audio: Encoded) -> Tensor:
        """(B, T, D) and (B, 1, D) -> (B, T + 1, W)."""
        return torch.cat([self.vision(vision.summary), self.audio(audio.tokens.mean(dim=2))], dim=1)


class Scaled(nn.Module):
    """Logits of a normalised token, with a learned temperature."""

    class Settings(HeadPart):
        """Its section."""

        temperature: float = 4.0

    def __init__(self, config: ModelConfig, outputs: int) -> None:
        super().__init__()
        self.settings: Scaled.Settings = config.head
        self.linear = nn.Linear(config.width, outputs)
        self.temperature = nn.Parameter(torch.zeros(1))

    def draw(self, name: str, stream: Stream) -> Tensor | None:
        """The temperature as the section says."""
        return stream.full(self.settings.temperature) if name == "temperature" else None

    def forward(self, cls: Tensor | None, sequence: Tensor) -> Tensor:
        """(B, W) and (B, T, W) -> (B, C)."""
        pooled = sequence.mean(dim=1) if cls is None else cls
        return self.temperature * self.linear(nn.functional.normalize(pooled, dim=-1))


class Turned(Distillation):
    """Features of the student, through a linear layer, point where the teacher's do."""

    class Settings(DistillConfig):
        """Its section."""

        margin: Annotated[float, Field(ge=0, le=1)] = 0.0

    def __init__(self, settings: "Turned.Settings", model: nn.Module, teacher: nn.Module) -> None:
        super().__init__(settings, model, teacher)
        self.margin, self.turn = settings.margin, nn.Linear(model.config.width, teacher.config.width, bias=False)

    def compare(self, own: Output, theirs: Output) -> Tensor:
        """The mean over clips of what the cosine lacks, beyond the margin."""
        cosine = nn.functional.cosine_similarity(self.turn(own.pooled), theirs.pooled, dim=-1)
        return (1 - cosine - self.margin).relu().mean()
