"""Sound as the log-mel filter bank that AudioMAE was trained on: Kaldi's routine in two matrix products.

A frame of sound x becomes log(max(|x M|^2 T, floor)). M takes off the mean, emphasises, weighs by the window, and is
the Fourier transform, all of which are linear; T sums the power of each mel band. Nothing else is done, so that
mmadfer.data.media.fbank_torch can do it on any device, with a gradient, and in an ONNX graph of plain operators.
"""

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mmadfer.config.schema import SoundConfig
from mmadfer.errors import ClipError

FBANK_MEAN, FBANK_SCALE = -4.2677393, 2 * 4.5689974
"""Of AudioSet, as AudioMAE was trained: the input is (x - FBANK_MEAN) / FBANK_SCALE."""
SILENCE = -FBANK_MEAN / FBANK_SCALE
"""A filter bank of padding only, after normalisation."""
WINDOW, SHIFT = 25.0, 10.0
"""Milliseconds of a frame, and between the starts of two frames."""
SAMPLE_RATES_HZ = (1000, 96_000)
"""Lowest and highest rate in Hz. M grows with its square: 8 MB in float64 at 32 kHz, 79 MB at 96 kHz."""
_BLOCK = 512
"""Frames that `later` computes at once; at 96 kHz they take 10 MB."""
PRE_EMPHASIS, LOWEST_HZ, MIN_ENERGY = 0.97, 20.0, 1.1920928955078125e-07
"""Pre-emphasis; Hz where the lowest band starts; the least energy (2^-23, Kaldi's) before the logarithm."""


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
        ClipError: `no sound`: shorter than one frame; `sound rate`: outside `SAMPLE_RATES_HZ`; `unreadable`: a sample
            is not a finite number.
    """
    window, shift = frame_samples(rate)
    if not np.isfinite(waveform).all():  # files of floats can hold such
        raise ClipError("the sound holds samples that are not finite numbers: make it anew, or leave it out")
    if waveform.shape[1] < window:
        raise ClipError(
            f"the sound has {waveform.shape[1]} samples at {rate} Hz; a frame of 25 ms has {window}", "no sound"
        )
    heard = waveform[0, : window + (config.frames - 1) * shift]  # what follows cannot change these frames
    bands = _energies(heard.astype(np.float64) - waveform.mean(dtype=np.float64), rate, config.mels)
    padded = np.zeros((config.frames, config.mels), np.float32)
    padded[: len(bands)] = bands
    return np.asarray((padded - np.float32(FBANK_MEAN)) / np.float32(FBANK_SCALE))


def later(waveform: np.ndarray, rate: int, config: SoundConfig) -> np.ndarray:
    """The frames that follow those of `fbank`, without padding.

    Args:
        waveform: float32 (channels, samples), from the start of the sound.
        rate: samples per second.
        config: number of frames that `fbank` gives, and of mel bands.

    Returns:
        float32 (frames, mels), normalised; none where the sound has no more.

    Raises:
        ClipError: `unreadable`: a sample is not a finite number.
    """
    window, shift = frame_samples(rate)
    if not np.isfinite(waveform).all():
        raise ClipError("the sound holds samples that are not finite numbers: make it anew, or leave it out")
    blocks = [np.zeros((0, config.mels), np.float32)]
    for start in range(config.frames * shift, waveform.shape[1] - window + 1, _BLOCK * shift):
        samples = waveform[0, start : start + window + (_BLOCK - 1) * shift].astype(np.float64)
        bands = _energies(samples, rate, config.mels).astype(np.float32)
        blocks.append((bands - np.float32(FBANK_MEAN)) / np.float32(FBANK_SCALE))
    return np.concatenate(blocks)


def count(samples: int, rate: int) -> int:
    """Frames of so many samples, without padding."""
    window, shift = frame_samples(rate)
    return 1 + (samples - window) // shift if samples >= window else 0


def _energies(samples: np.ndarray, rate: int, mels: int) -> np.ndarray:
    (window, shift), (transform, bands) = frame_samples(rate), matrices(rate, mels)
    frames = sliding_window_view(samples, window)[::shift]
    # M takes the mean off, too; rounded, it would let a share of a large mean through
    real, imaginary = np.split(np.square((frames - frames.mean(axis=-1, keepdims=True)) @ transform), 2, axis=-1)
    return np.asarray(np.log(np.maximum((real + imaginary) @ bands, MIN_ENERGY)))


def frame_samples(rate: int) -> tuple[int, int]:
    """Samples of a frame, and between two frames, as Kaldi rounds."""
    if not SAMPLE_RATES_HZ[0] <= rate <= SAMPLE_RATES_HZ[1]:
        raise ClipError(
            f"the sound has {rate} Hz, but filter banks are made of {SAMPLE_RATES_HZ[0]} to {SAMPLE_RATES_HZ[1]} Hz. "
            "Convert it with ffmpeg -ar 48000, or resample all sound with prepare.sound.rate=16000",
            "sound rate",
        )
    return int(rate * WINDOW * 0.001), int(rate * SHIFT * 0.001)


@lru_cache(maxsize=4)
def matrices(rate: int, mels: int) -> tuple[np.ndarray, np.ndarray]:
    """M (window, 2 * bins) and T (bins, mels), float64; bins are those of the next power of two, without Nyquist's."""
    window, _ = frame_samples(rate)
    size = 1 << (window - 1).bit_length()
    made = _transform(window, size), np.ascontiguousarray(_triangles(rate, mels, size).T, np.float64)
    for matrix in made:
        matrix.flags.writeable = False  # they are kept for the next sound
    return made


def _transform(window: int, size: int) -> np.ndarray:
    """From the right: Fourier (real parts, then imaginary ones), Hanning window, pre-emphasis, mean.

    Kaldi's own rule for the first sample, which has none before it, has no effect: the window is 0 there.
    """
    turns = np.outer(np.arange(window), np.arange(size // 2)) % size  # exact, where large angles would not be
    circle = 2 * np.pi * np.arange(size) / size
    whole = np.concatenate([np.cos(circle)[turns], np.sin(circle)[turns]], axis=1) * np.hanning(window)[:, None]
    whole[:-1] -= PRE_EMPHASIS * whole[1:]
    return np.asarray(whole - whole.mean(axis=0))


def _triangles(rate: int, mels: int, size: int) -> np.ndarray:
    """Weights (mels, bins) of the triangles, in float32 like torchaudio's.

    The published features have this rounding: in float64 they would be 1e-5 nats away on average. The logarithm is the
    one exactly rounded; torchaudio's is off by its last digit in one of ten bins, which differ between its builds.
    """
    low, high = (1127.0 * np.log(1.0 + edge / 700.0) for edge in (LOWEST_HZ, rate / 2))
    single, start, step = np.float32, np.float32(low), np.float32((high - low) / (mels + 1))
    ratio = single(1) + single(rate / size) * np.arange(size // 2, dtype=single) / single(700)
    bin_mels = single(1127) * np.log(ratio.astype(np.float64)).astype(single)
    left, peak, right = (start + (np.arange(mels, dtype=single)[:, None] + single(k)) * step for k in range(3))
    return np.minimum((bin_mels - left) / (peak - left), (right - bin_mels) / (right - peak)).clip(0)
