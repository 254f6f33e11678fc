"""A clip, or a window of one, with its pictures."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from mmadfer.config.model import Modality
from mmadfer.explain.maps import Maps, scaled


@dataclass(frozen=True)
class ExplainedPart:
    """What the model saw and heard, what it says, and what of it was important."""

    start: float
    """In seconds, as is `end`."""
    end: float
    images: list[np.ndarray]
    """The frames that the model saw, uint8 (S, S, 3); none of a model that sees none."""
    times: np.ndarray
    """When they are shown, float64 (T,)."""
    fbank: np.ndarray | None
    """The filter bank that it heard, float32 (F, M)."""
    sound_start: float
    """When that starts, in seconds."""
    label: str | None
    """The most probable class; None of a model that gives values."""
    target: str | None
    """The class or value that is explained, or that the curves follow; None where there is neither."""
    about_target: str
    """What the target is, in a few words."""
    answer: dict[str, float]
    """Probabilities of classes, or values."""
    maps: Maps
    """Importance as it was computed."""
    measures: dict[Modality, dict[str, float]] = field(default_factory=dict)
    """By modality and name."""
    notes: tuple[str, ...] = ()
    frame_times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """When each frame is shown, also those that the model did not see, float64 (n,)."""
    boxes: np.ndarray | None = None
    """Where the face is in each of them, as `ClipData.boxes`."""

    @cached_property
    def heat(self) -> Maps:
        """Importance from 0 to 1."""
        return {name: scaled(picture) for name, picture in self.maps.items()}
