"""Windows of a clip, as a configuration and a contract name them; nothing here imports torch."""

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_serializer

from mmadfer.config.base import Positive, Section


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("give a number, not true or false")
    return value


class WindowConfig(Section):
    """A window is T = `model.frames` frames of a clip, every `stride`-th, with the sound of the same seconds."""

    stride: Positive = 1
    """Stored frames from one frame of a window to the next."""
    hop: Positive | None = None
    """At evaluation, stored frames from the start of a window to that of the next, by default half of those that it
    spans; the last one ends with the clip."""
    pool: Literal["mean", "softmax"] = "mean"
    """How the windows of a clip become its logits: `mean` of their probabilities, or the mean of their logits with the
    weights softmax(gamma * logits), of each class its own (`mmadfer.tasks.pooling`)."""
    gamma: Annotated[float, Field(ge=0, allow_inf_nan=True), BeforeValidator(_number)] = 1.0
    """Of `softmax`: 0 is the mean of the logits, `.inf` their maximum."""

    @field_serializer("gamma", when_used="json")
    def _plain(self, gamma: float) -> float | str:
        return "inf" if math.isinf(gamma) else gamma  # JSON has no number for it

    def span(self, frames: int) -> int:
        """Stored frames from the first frame of a window to its last, both counted; `frames` is T."""
        return (frames - 1) * self.stride + 1

    def hop_of(self, frames: int) -> int:
        """`hop`, or its default; `frames` is T."""
        return self.hop or max(1, self.span(frames) // 2)
