"""SpecAugment: parts of the filter bank are hidden in training (Park et al. 2019, sections 2 and 3.1).

One mask in time and one over mel bands, as long as drawn, filled with 0, which is the mean of normalised sound. Time is
not warped, which that paper found to matter least.
"""

import numpy as np

from mmadfer.data.media.fbank import SILENCE


def masked(fbank: np.ndarray, frames: int, mels: int, draws: np.ndarray) -> np.ndarray:
    """A copy with both masks.

    Args:
        fbank: float32 (frames, mels), normalised.
        frames: the longest mask in time; it lies in the clip's sound, not in the padding after it.
        mels: the widest mask of mel bands.
        draws: float64 (4,) in [0, 1): length and place of the mask in time, and of the other.
    """
    hidden = fbank.copy()
    hidden[_span(unpadded_frames(fbank), frames, *draws[:2])] = 0
    hidden[:, _span(fbank.shape[1], mels, *draws[2:])] = 0
    return hidden


def unpadded_frames(fbank: np.ndarray) -> int:
    """Frames before the padding that ends a filter bank (float32 (frames, mels), normalised)."""
    sound = np.flatnonzero(np.abs(fbank - np.float32(SILENCE)).max(axis=1) > 1e-6)
    return int(sound[-1]) + 1 if len(sound) else 0


def _span(size: int, most: int, length: float, place: float) -> slice:
    """Any length up to `most` places of `size`, anywhere, all as likely as each other."""
    n = int(length * (min(most, size) + 1))
    start = int(place * (size - n + 1))
    return slice(start, start + n)
