"""Sound as the log-mel filter bank that AudioMAE was trained on (METHOD "Sound"; Kaldi's routine in torchaudio)."""

import numpy as np
import torch
from torchaudio.compliance import kaldi

from mmadfer.config import SoundConfig
from mmadfer.errors import ClipError

MEAN, SPREAD = -4.2677393, 2 * 4.5689974
"""Of AudioSet, as AudioMAE was trained: the input is (x - MEAN) / SPREAD."""
SILENCE = -MEAN / SPREAD
"""A filter bank of padding only, after normalisation."""
WINDOW, SHIFT = 25.0, 10.0
"""Milliseconds of a frame, and between the starts of two frames."""


def fbank(waveform: np.ndarray, rate: int, config: SoundConfig) -> np.ndarray:
    """Log-mel energies of a waveform's first `config.frames` frames of 25 ms every 10 ms.

    The mean over all channels and samples is taken off, then the first channel is used. Zeros fill up short sound
    before normalising, so that padding is +0.467 in the result.

    Args:
        waveform: float32 (channels, samples) in [-1, 1].
        rate: samples per second.
        config: number of frames and of mel bands.

    Returns:
        float32 (frames, mels), normalised.

    Raises:
        ClipError: `no sound`: shorter than one frame.
    """
    window, shift = (int(rate * length * 0.001) for length in (WINDOW, SHIFT))  # as Kaldi rounds
    if waveform.shape[1] < window:
        raise ClipError(
            f"the sound has {waveform.shape[1]} samples at {rate} Hz; a frame of 25 ms has {window}",
            "no sound",
        )
    samples = torch.from_numpy(waveform)
    centred = samples[:1] - samples.mean()
    bands = kaldi.fbank(
        centred[:, : window + (config.frames - 1) * shift],  # what follows cannot change these frames
        htk_compat=True,
        sample_frequency=rate,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=config.mels,
        dither=0.0,
        frame_shift=SHIFT,
    )
    padded = torch.nn.functional.pad(bands, (0, 0, 0, config.frames - len(bands)))
    return ((padded - MEAN) / SPREAD).numpy()
