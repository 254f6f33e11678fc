"""Sound as the log-mel filter bank that AudioMAE was trained on: Kaldi's routine in two matrix products.

A frame of sound x becomes log(max(|x M|^2 T, floor)). M takes off the mean, emphasises, weighs by the window, and is
the Fourier transform, all of which are linear; T sums the power of each mel band. Nothing else is done, so it runs on
any device, in batches, has a gradient, and becomes an ONNX graph of plain operators.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from mmadfer.config import SoundConfig
from mmadfer.errors import ClipError

MEAN, SPREAD = -4.2677393, 2 * 4.5689974
"""Of AudioSet, as AudioMAE was trained: the input is (x - MEAN) / SPREAD."""
SILENCE = -MEAN / SPREAD
"""A filter bank of padding only, after normalisation."""
WINDOW, SHIFT = 25.0, 10.0
"""Milliseconds of a frame, and between the starts of two frames."""
RATES = (1000, 96_000)
"""Lowest and highest rate in Hz. M grows with its square: 8 MB in float64 at 32 kHz, 79 MB at 96 kHz."""
EMPHASIS, LOWEST, FLOOR = 0.97, 20.0, 1.1920928955078125e-07
"""Pre-emphasis; Hz where the lowest band starts; the least energy (2^-23, Kaldi's) before the logarithm."""


class MelBank(nn.Module):
    """Log-mel energies of frames of 25 ms every 10 ms, not normalised and not padded.

    In float32, torchaudio and this differ by their rounding, about 1e-3 nats for noise and speech; 1e-2 in bands that
    hold only what a loud pure tone leaves there. With `dtype=torch.float64` (not by `.double()`, which keeps rounded
    matrices) this one's rounding is gone, and it gives what torchaudio gives for float64 samples.

    Args:
        rate: samples per second, in `RATES`.
        mels: bands, evenly spaced in mel from 20 Hz to half the rate.
        dtype: of the matrices and of all arithmetic: float32 or float64. Less is too coarse for a logarithm.

    Raises:
        ClipError: `sound rate`: outside `RATES`.
    """

    transform: Tensor
    bands: Tensor

    def __init__(self, rate: int, mels: int = 128, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.window, self.shift = _lengths(rate)
        transform, bands = _matrices(rate, mels)
        self.register_buffer("transform", transform.to(dtype), persistent=False)
        self.register_buffer("bands", bands.to(dtype), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Energies of (B, samples) in [-1, 1], of any floating type, as (B, frames, mels): natural logarithms.

        Only whole frames count, so that there are none of less than 25 ms. Autocast has no effect. The gradient is 0
        where the floor holds.
        """
        with torch.autocast(samples.device.type, enabled=False):
            frames = self._frames(samples.to(self.transform.dtype))
            # M takes the mean off, too; rounded, it would let a share of a large mean through
            parts = ((frames - frames.mean(-1, keepdim=True)) @ self.transform).square()
            real, imaginary = parts.chunk(2, -1)
            return ((real + imaginary) @ self.bands).clamp_min(FLOOR).log()

    def _frames(self, samples: Tensor) -> Tensor:
        if samples.shape[-1] < self.window:
            return samples.new_empty(*samples.shape[:-1], 0, self.window)
        return samples.unfold(-1, self.window, self.shift)


def fbank(waveform: np.ndarray, rate: int, config: SoundConfig) -> np.ndarray:
    """Log-mel energies of a waveform's first `config.frames` frames of 25 ms every 10 ms.

    The mean over all channels and samples is taken off, then the first channel is used. Zeros fill up short sound
    before normalising, so that padding is +0.467 in the result. Computed in float64, so that the order of sums, which
    differs between machines and numbers of threads, is lost in rounding.

    Args:
        waveform: float32 (channels, samples) in [-1, 1].
        rate: samples per second.
        config: number of frames and of mel bands.

    Returns:
        float32 (frames, mels), normalised.

    Raises:
        ClipError: `no sound`: shorter than one frame; `sound rate`: outside `RATES`.
    """
    bank = MelBank(rate, config.mels, torch.float64)
    if waveform.shape[1] < bank.window:
        raise ClipError(
            f"the sound has {waveform.shape[1]} samples at {rate} Hz; a frame of 25 ms has {bank.window}", "no sound"
        )
    heard = waveform[:1, : bank.window + (config.frames - 1) * bank.shift]  # what follows cannot change these frames
    centred = torch.from_numpy(heard.astype(np.float64) - waveform.mean(dtype=np.float64))
    bands = bank(centred)[0].float()
    padded = nn.functional.pad(bands, (0, 0, 0, config.frames - len(bands)))
    return ((padded - MEAN) / SPREAD).numpy()


def _lengths(rate: int) -> tuple[int, int]:
    """Samples of a frame, and between two frames, as Kaldi rounds."""
    if not RATES[0] <= rate <= RATES[1]:
        raise ClipError(
            f"the sound has {rate} Hz, but filter banks are made of {RATES[0]} to {RATES[1]} Hz. Convert it with "
            "ffmpeg -ar 48000, or resample all sound with prepare.sound.rate=16000",
            "sound rate",
        )
    return int(rate * WINDOW * 0.001), int(rate * SHIFT * 0.001)


@lru_cache(maxsize=4)
def _matrices(rate: int, mels: int) -> tuple[Tensor, Tensor]:
    """M (window, 2 * bins) and T (bins, mels), float64; bins are those of the next power of two, without Nyquist's."""
    window, _ = _lengths(rate)
    size = 1 << (window - 1).bit_length()
    return torch.from_numpy(_transform(window, size)), _triangles(rate, mels, size).T.double().contiguous()


def _transform(window: int, size: int) -> np.ndarray:
    """From the right: Fourier (real parts, then imaginary ones), Hanning window, pre-emphasis, mean.

    Kaldi's own rule for the first sample, which has none before it, has no effect: the window is 0 there.
    """
    turns = np.outer(np.arange(window), np.arange(size // 2)) % size  # exact, where large angles would not be
    circle = 2 * np.pi * np.arange(size) / size
    whole = np.concatenate([np.cos(circle)[turns], np.sin(circle)[turns]], axis=1) * np.hanning(window)[:, None]
    whole[:-1] -= EMPHASIS * whole[1:]
    return np.asarray(whole - whole.mean(axis=0))


def _triangles(rate: int, mels: int, size: int) -> Tensor:
    """Weights (mels, bins) of the triangles, float32 like torchaudio's.

    The published features have this rounding: in float64 they would be 1e-5 nats away on average.
    """
    low, high = (1127.0 * np.log(1.0 + edge / 700.0) for edge in (LOWEST, rate / 2))
    step = float(high - low) / (mels + 1)
    bin_mels = 1127.0 * (1.0 + rate / size * torch.arange(size // 2, dtype=torch.float32) / 700.0).log()
    left, peak, right = (float(low) + (torch.arange(mels)[:, None] + k) * step for k in (0.0, 1.0, 2.0))
    return torch.minimum((bin_mels - left) / (peak - left), (right - bin_mels) / (right - peak)).clamp_min(0)
