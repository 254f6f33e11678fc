import numpy as np
import pytest

from mmadfer.config import SoundConfig
from mmadfer.data.fbank import fbank
from mmadfer.errors import ClipError

NATIVE = SoundConfig()


def noise(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(7)
    return (0.2 * rng.standard_normal((channels, round(seconds * rate))) + 0.05).astype(np.float32)


def mel_matrix(rate: int, bins: int, length: int) -> np.ndarray:
    """Kaldi's triangles, linear in mel, from 20 Hz to Nyquist: (bins, length // 2)."""
    mel = 1127 * np.log1p(np.arange(length // 2) * rate / length / 700)
    edges = np.linspace(1127 * np.log1p(20 / 700), 1127 * np.log1p(rate / 2 / 700), bins + 2)[:, None]
    width = edges[1] - edges[0]
    return np.minimum((mel - edges[:-2]) / width, (edges[2:] - mel) / width).clip(0)


def by_hand(samples: np.ndarray, rate: int) -> np.ndarray:
    """METHOD's formula in float64: DC, pre-emphasis, window, power spectrum, mel, log."""
    window, shift = int(rate * 0.025), int(rate * 0.010)
    length = 1 << (window - 1).bit_length()
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), window)[::shift]
    frames = frames - frames.mean(axis=1, keepdims=True)
    frames = frames - 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    power = np.abs(np.fft.rfft(frames * np.hanning(window), length)[:, :-1]) ** 2
    return np.log(np.maximum(power @ mel_matrix(rate, 128, length).T, 1.1920929e-07))


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_it_is_the_formula(rate: int) -> None:
    sound = noise(1.5, rate, channels=2)
    expected = (by_hand(sound[0] - sound.mean(dtype=np.float64), rate) + 4.2677393) / (2 * 4.5689974)
    bands = fbank(sound, rate, NATIVE)
    assert (bands.shape, bands.dtype) == ((512, 128), np.float32)
    np.testing.assert_allclose(bands[: len(expected)], expected, atol=2e-4)
    np.testing.assert_allclose(bands[len(expected) :], 0.467032, atol=1e-5)
    assert len(expected) == 148


def test_only_the_first_5_seconds_count_but_for_the_mean() -> None:
    sound = noise(7.0, 16000)
    sound -= sound.mean()
    first = sound[:, : 400 + 511 * 160].copy()
    later = np.concatenate([first, first[:, :20000] * 0], axis=1)
    later[:, first.shape[1] :] = -first.sum() / 20000  # the mean over all is zero in one, and not in the other
    expected = by_hand(later[0] - later.mean(dtype=np.float64), 16000)[:512]
    np.testing.assert_allclose(fbank(later, 16000, NATIVE) * 2 * 4.5689974 - 4.2677393, expected, atol=2e-3)


def test_the_mean_is_over_all_channels_and_then_the_first_is_used() -> None:
    left, right = noise(0.5, 16000), noise(0.5, 16000)[:, ::-1].copy() * 3
    both = np.concatenate([left, right])
    np.testing.assert_allclose(fbank(both, 16000, NATIVE), fbank(left, 16000, NATIVE), atol=2e-3)
    assert np.abs(fbank(both[::-1].copy(), 16000, NATIVE) - fbank(left, 16000, NATIVE)).max() > 0.1


def test_sizes_are_configurable() -> None:
    assert fbank(noise(2.0, 16000), 16000, SoundConfig(frames=100, mels=64)).shape == (100, 64)


def test_silence_is_the_floor() -> None:
    bands = fbank(np.zeros((1, 16000), np.float32), 16000, NATIVE)
    np.testing.assert_allclose(bands[:98], (np.log(1.1920929e-07) + 4.2677393) / (2 * 4.5689974), atol=1e-5)


@pytest.mark.parametrize("samples", [0, 1, 1101])
def test_less_than_one_frame_is_no_sound(samples: int) -> None:
    with pytest.raises(ClipError, match=f"{samples} samples at 44100 Hz") as caught:
        fbank(np.ones((2, samples), np.float32), 44100, NATIVE)
    assert caught.value.reason == "no sound"
    assert fbank(noise(0.025, 44100), 44100, NATIVE).shape == (512, 128)
