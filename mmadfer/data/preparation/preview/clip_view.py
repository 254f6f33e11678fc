"""What the contact sheet shows of one clip."""

from dataclasses import dataclass, field

import numpy as np

from mmadfer.data.store.record import Clip


@dataclass
class ClipView:
    """What the page shows of a clip."""

    clip: Clip
    faces: list[tuple[int, bytes]] = field(default_factory=list)
    """Frame number from 0, and the picture as a JPEG file."""
    bands: np.ndarray | None = None
    """The filter bank, float32 (frames, mels), as in the store."""
    waveform: np.ndarray | None = None
    """What can be drawn of the sound in the media file, float32 (channels, samples)."""
    channel: int = 0
    """Of the waveform, the one that the model hears."""
    seconds: float = 0.0
    """Of all of the sound."""
    rate: int = 0
    """Of the waveform, in Hz."""
    sound: str = ""
    """Why there is no waveform."""
    damage: str = ""
    """Why the record cannot be shown."""
