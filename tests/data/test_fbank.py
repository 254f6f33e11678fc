"""The filter bank is Kaldi's: torchaudio's routine is the reference, in float32 as published, and in float64."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from needs import needed
from torchaudio.compliance import kaldi

from mmadfer.config.schema import SoundConfig
from mmadfer.data.media.fbank import FBANK_MEAN, FBANK_SCALE, MIN_ENERGY, SAMPLE_RATES_HZ, fbank
from mmadfer.data.media.fbank_torch import MelBank
from mmadfer.errors import ClipError

NATIVE = SoundConfig()
COMMON = (8000, 11025, 16000, 22050, 32000, 44100, 48000)
MAX, AVERAGE = 1e-3, 1e-5
"""Nats."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def noise(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(7)
    return (0.2 * rng.standard_normal((channels, round(seconds * rate))) + 0.05).astype(np.float32)


def speech(time: np.ndarray) -> np.ndarray:
    """Harmonics of a gliding voice, in syllables, with the hiss of a recording."""
    phase = 2 * np.pi * (120 * time + 4 * np.sin(2 * np.pi * 3 * time))
    voice = sum(np.sin(k * phase) / k for k in range(1, 24)) * (0.55 + 0.45 * np.sin(4 * np.pi * time))
    return 0.2 * voice + 1e-3 * np.random.default_rng(3).standard_normal(len(time))


SOUNDS = {
    "noise": lambda time: 0.2 * np.random.default_rng(1).standard_normal(len(time)),
    "silence": np.zeros_like,
    "clipping": lambda time: np.clip(20 * np.sin(440 * np.pi * time), -1, 1),
    "DC": lambda time: 0.9 + 0.05 * np.random.default_rng(2).standard_normal(len(time)),
    "nothing but DC": lambda time: np.full_like(time, 0.9),
    "impulse": lambda time: np.eye(1, len(time), len(time) // 3)[0],
    "tiny noise": lambda time: 1e-4 * np.random.default_rng(4).standard_normal(len(time)),
    "speech": speech,
}
PURE = {
    "tone": lambda time: 0.5 * np.sin(880 * np.pi * time),
    "sweep": lambda time: 0.5 * np.sin(2 * np.pi * (100 * time + 600 * time**2)),
}
"""Far from the tone there is nothing but float32's rounding: torchaudio's own is above the bound there."""


def made(name: str, seconds: float, rate: int) -> torch.Tensor:
    time = np.arange(int(seconds * rate)) / rate
    return torch.from_numpy((SOUNDS | PURE)[name](time).astype(np.float32))[None]


def torchaudio(samples: torch.Tensor, rate: int, mels: int = 128) -> torch.Tensor:
    """Of (1, samples), (frames, mels) in the arithmetic of `samples`, with float32's floor."""
    bands = kaldi.fbank(
        samples,
        htk_compat=True,
        sample_frequency=rate,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=mels,
        dither=0.0,
        frame_shift=10.0,
    )
    return bands.clamp_min(torch.tensor(MIN_ENERGY, dtype=bands.dtype).log())


def exact_bank(rate: int) -> MelBank:
    """In float64, with torchaudio's own triangles, whose last digits differ between its builds and from ours."""
    bank = MelBank(rate, dtype=torch.float64)
    bands, _ = kaldi.get_mel_banks(128, 2 * len(bank.bands), rate, 20.0, 0.0, 100.0, -500.0, 1.0)
    bank.bands.copy_(bands.T)
    return bank


def by_hand(samples: np.ndarray, rate: int) -> np.ndarray:
    """Kaldi's formula in float64, without torchaudio: DC, pre-emphasis, window, power spectrum, mel, log."""
    window, shift = int(rate * 0.025), int(rate * 0.010)
    length = 1 << (window - 1).bit_length()
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), window)[::shift]
    frames = frames - frames.mean(axis=1, keepdims=True)
    frames = frames - 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    power = np.abs(np.fft.rfft(frames * np.hanning(window), length)[:, :-1]) ** 2
    return np.log(np.maximum(power @ mel_matrix(rate, 128, length).T, 1.1920929e-07))


def mel_matrix(rate: int, bins: int, length: int) -> np.ndarray:
    """Kaldi's triangles, linear in mel, from 20 Hz to Nyquist: (bins, length // 2)."""
    mel = 1127 * np.log1p(np.arange(length // 2) * rate / length / 700)
    edges = np.linspace(1127 * np.log1p(20 / 700), 1127 * np.log1p(rate / 2 / 700), bins + 2)[:, None]
    width = edges[1] - edges[0]
    return np.minimum((mel - edges[:-2]) / width, (edges[2:] - mel) / width).clip(0)


def assert_near(one: torch.Tensor, other: torch.Tensor, largest: float = MAX, average: float = AVERAGE) -> None:
    assert one.shape == other.shape
    apart = (one.double() - other.double()).abs()
    assert float(apart.max()) <= largest
    assert float(apart.mean()) <= average


@pytest.mark.parametrize("rate", COMMON)
@pytest.mark.parametrize("name", SOUNDS)
def test_it_is_torchaudios(name: str, rate: int) -> None:
    exact, ours, quick = exact_bank(rate), MelBank(rate, dtype=torch.float64), MelBank(rate)
    for seconds in (0.026, 0.2, 1.5):
        samples = made(name, seconds, rate)
        published, truth = torchaudio(samples, rate), torchaudio(samples.double(), rate)
        assert_near(exact(samples)[0], truth, 1e-9, 1e-9)
        assert_near(ours(samples)[0], truth, 5e-4, 5e-6)  # the triangles' last digits
        wrong = (published - truth).abs() > MAX  # torchaudio's own rounding: 1.003e-3 once, in noise at 16 kHz
        assert int(wrong.sum()) <= 1
        assert_near(exact(samples)[0], published.where(~wrong, truth.float()))
        assert_near(quick(samples)[0], published, 1.5 * MAX, 1.5 * AVERAGE)  # the rounding of both


@pytest.mark.parametrize("rate", [16000, 44100])
def test_30_seconds(rate: int) -> None:
    samples = made("speech", 30, rate)
    assert_near(MelBank(rate)(samples)[0], torchaudio(samples, rate))
    whole = fbank(samples.numpy(), rate, SoundConfig(frames=2998)) * FBANK_SCALE + FBANK_MEAN
    assert_near(torch.from_numpy(whole), torchaudio(samples - samples.mean(), rate))


@pytest.mark.parametrize("rate", COMMON)
@pytest.mark.parametrize("name", PURE)
def test_next_to_a_pure_tone_it_is_nearer_to_the_truth_than_torchaudio(name: str, rate: int) -> None:
    samples = made(name, 1.0, rate)
    truth = torchaudio(samples.double(), rate)
    assert_near(exact_bank(rate)(samples)[0], truth, 1e-9, 1e-9)
    assert_near(MelBank(rate, dtype=torch.float64)(samples)[0], truth, 5e-4, 5e-6)
    assert_near(torchaudio(samples, rate), truth, 0.05, 3e-4)
    assert_near(MelBank(rate)(samples)[0], truth, 0.05, 3e-4)


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_it_is_the_formula(rate: int) -> None:
    sound = noise(1.5, rate, channels=2)
    expected = (by_hand(sound[0] - sound.mean(dtype=np.float64), rate) + 4.2677393) / (2 * 4.5689974)
    bands = fbank(sound, rate, NATIVE)
    assert (bands.shape, bands.dtype) == ((512, 128), np.float32)
    np.testing.assert_allclose(bands[: len(expected)], expected, atol=2e-4)
    np.testing.assert_allclose(bands[len(expected) :], 0.467032, atol=1e-5)
    assert len(expected) == 148


def test_only_the_first_5_seconds_count() -> None:
    sound = noise(7.0, 16000)
    sound -= sound.mean()
    first = sound[:, : 400 + 511 * 160].copy()
    later = np.concatenate([first, first[:, :20000] * 0], axis=1)
    later[:, first.shape[1] :] = -first.sum() / 20000  # the mean over all is zero in one, and not in the other
    expected = by_hand(later[0] - later.mean(dtype=np.float64), 16000)[:512]
    np.testing.assert_allclose(fbank(later, 16000, NATIVE) * FBANK_SCALE + FBANK_MEAN, expected, atol=2e-3)


def test_the_first_channel_is_used() -> None:
    left, right = noise(0.5, 16000), noise(0.5, 16000)[:, ::-1].copy() * 3
    both = np.concatenate([left, right])
    np.testing.assert_allclose(fbank(both, 16000, NATIVE), fbank(left, 16000, NATIVE), atol=1e-6)
    assert np.abs(fbank(both[::-1].copy(), 16000, NATIVE) - fbank(left, 16000, NATIVE)).max() > 0.1


def test_sizes_are_configurable() -> None:
    sound = noise(2.0, 16000)
    bands = fbank(sound, 16000, SoundConfig(frames=100, mels=64))
    assert bands.shape == (100, 64)
    assert_near(
        torch.from_numpy(bands * FBANK_SCALE + FBANK_MEAN), torchaudio(torch.from_numpy(sound), 16000, 64)[:100]
    )


def test_silence_is_the_floor() -> None:
    bands = fbank(np.zeros((1, 16000), np.float32), 16000, NATIVE)
    np.testing.assert_allclose(bands[:98], (np.log(1.1920929e-07) + 4.2677393) / (2 * 4.5689974), atol=1e-5)


@pytest.mark.parametrize("samples", [0, 1, 882, 1101])
def test_less_than_one_frame_is_no_sound(samples: int) -> None:
    with pytest.raises(ClipError, match=f"{samples} samples at 44100 Hz") as caught:
        fbank(np.ones((2, samples), np.float32), 44100, NATIVE)
    assert caught.value.reason == "no sound"
    assert MelBank(44100)(torch.ones(2, samples)).shape == (2, 0, 128)
    assert fbank(noise(0.025, 44100), 44100, NATIVE).shape == (512, 128)


@pytest.mark.parametrize("rate", [50, 999, 96001, 768000])
def test_an_odd_rate_takes_no_memory(rate: int) -> None:
    with pytest.raises(ClipError, match=f"{rate} Hz.*1000 to 96000 Hz.*-ar 48000.*prepare.sound.rate=16000") as caught:
        fbank(np.ones((1, 800000), np.float32), rate, NATIVE)
    assert caught.value.reason == "sound rate"


def test_the_ends_of_the_range_work() -> None:
    for rate in SAMPLE_RATES_HZ:
        samples = made("noise", 0.1, rate)
        assert_near(exact_bank(rate)(samples)[0], torchaudio(samples.double(), rate), 1e-9, 1e-9)


@pytest.mark.parametrize("rate", [1000, *COMMON, 96000])
def test_the_triangles_are_torchaudios_but_for_rounding(rate: int) -> None:
    bank = MelBank(rate, dtype=torch.float64)
    assert_near(bank.bands, exact_bank(rate).bands, 3e-5, 1e-7)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_preparation_computes_what_the_module_does(rate: int) -> None:
    sound = noise(1.5, rate)
    sound -= sound.mean(dtype=np.float64)
    expected = (
        MelBank(rate, dtype=torch.float64)(torch.from_numpy(sound).double())[0].float() - FBANK_MEAN
    ) / FBANK_SCALE
    np.testing.assert_allclose(fbank(sound, rate, NATIVE)[: len(expected)], expected.numpy(), atol=2e-6)


HASHES = """
import hashlib, sys, numpy as np
from mmadfer.config.schema import SoundConfig
from mmadfer.data.media.fbank import fbank
for rate in (16000, 48000):
    sound = 0.2 * np.random.default_rng(7).standard_normal((1, 3 * rate)).astype(np.float32)
    print(hashlib.sha256(fbank(sound, rate, SoundConfig()).tobytes()).hexdigest(), "torch" in sys.modules)
"""


def test_preparation_depends_on_no_thread_count_and_needs_no_torch() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-c", HASHES], capture_output=True, text=True, check=True, env=os.environ | dict(threads)
        ).stdout
        for threads in ({"OPENBLAS_NUM_THREADS": "1"}, {"OPENBLAS_NUM_THREADS": "2"}, {"OPENBLAS_NUM_THREADS": "5"})
    }
    assert len(told) == 1
    assert "True" not in told.pop()


@pytest.mark.parametrize("rate", [16000, 48000])
def test_a_batch_gives_what_each_sound_gives(rate: int) -> None:
    bank = MelBank(rate, dtype=torch.float64)
    batch = torch.from_numpy(np.concatenate([made(name, 3.0, rate).numpy() for name in ("speech", "noise", "tone")]))
    for together, sound in zip(bank(batch), batch, strict=True):
        assert torch.equal(together.float(), bank(sound[None])[0].float())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_any_type_goes_in_and_autocast_does_no_harm(dtype: torch.dtype) -> None:
    bank, samples = MelBank(16000), torch.from_numpy(noise(0.5, 16000)).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        bands = bank(samples)
    assert bands.dtype == torch.float32
    torch.testing.assert_close(bands, bank(samples.float()), rtol=0, atol=1e-5)


def test_it_has_a_gradient() -> None:
    bank = MelBank(8000, mels=16, dtype=torch.float64)
    samples = torch.from_numpy(noise(0.05, 8000, channels=2)).double().requires_grad_()
    assert torch.autograd.gradcheck(bank, (samples,), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [*SOUNDS, *PURE])
def test_the_gradient_is_finite(name: str) -> None:
    samples = made(name, 0.5, 16000).requires_grad_()
    MelBank(16000)(samples).sum().backward()
    assert samples.grad is not None
    assert bool(samples.grad.isfinite().all())
    assert bool(samples.grad.any()) == (name not in ("silence", "nothing but DC"))


def test_a_model_file_does_not_carry_it() -> None:
    assert not MelBank(16000).state_dict()


@pytest.mark.slow
def test_it_becomes_an_onnx_graph(tmp_path: Path) -> None:
    onnxruntime = needed("onnxruntime")
    bank, name = MelBank(16000), str(tmp_path / "mel.onnx")
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("samples", min=bank.window)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(bank, (torch.zeros(2, 16000),), dynamo=True, dynamic_shapes=(sizes,), verbose=False)
    assert program is not None
    program.save(name)
    session = onnxruntime.InferenceSession(name, providers=["CPUExecutionProvider"])
    for batch, samples in ((1, 400), (3, 5000), (2, 82160)):
        sounds = torch.from_numpy(noise(samples / 16000, 16000, batch))
        (bands,) = session.run(None, {session.get_inputs()[0].name: sounds.numpy()})
        assert_near(torch.from_numpy(bands), bank(sounds), 5e-4, 1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sample_that_is_no_number_is_refused_wherever_it_is(value: float) -> None:
    waveform = noise(12, 16_000, channels=2)
    waveform[1, -1] = value  # behind what is heard, and in the other channel: it would reach all by the mean
    with pytest.raises(ClipError, match="not finite numbers") as caught:
        fbank(waveform, 16_000, NATIVE)
    assert caught.value.reason == "unreadable"
