"""Graphs that hear samples give what those give that are handed the filter bank."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from export_setup import CONTRACT, clips

from mmadfer.config.schema import SoundConfig
from mmadfer.contract import Contract, samples_of_frames
from mmadfer.data.media.fbank import SILENCE, fbank, frame_samples
from mmadfer.errors import WeightsError
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.export.graph.tracing import trace
from mmadfer.export.graph.waveform import FilterBank, choose_rate
from mmadfer.runtime.backends.ort import OrtBackend

RATE = 16000
SAMPLES = samples_of_frames(RATE, 512)
SPANS = (0, 399, 400, 5000, SAMPLES - 1, SAMPLES, SAMPLES + 3000)
"""No sound, too little for a frame, one frame, a part, all but the last frame, all, and more than is heard."""


def sounds(rate: int = RATE) -> list[np.ndarray]:
    """Noise that is not centred, of every length."""
    rng = np.random.default_rng(1)
    return [(0.1 * rng.standard_normal(span) + 0.05).astype(np.float32) for span in SPANS]


def fed(sounds: list[np.ndarray], rest: float = np.nan) -> tuple[np.ndarray, np.ndarray]:
    """As a batch: what follows the end of a sound must not matter."""
    batch = np.full((len(sounds), SAMPLES), rest, np.float32)
    for row, sound in zip(batch, sounds, strict=True):
        row[: len(sound)] = sound[:SAMPLES]
    return batch, np.array([min(len(sound), SAMPLES) for sound in sounds])


def bands(sounds: list[np.ndarray]) -> np.ndarray:
    """The filter banks as preparation makes them, (B, 1, 512, 128)."""
    silence = np.full((512, 128), SILENCE, np.float32)
    found = [fbank(sound[None], RATE, SoundConfig()) if len(sound) >= 400 else silence for sound in sounds]
    return np.stack(found)[:, None]


@pytest.fixture(scope="module")
def waveform_file(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return to_onnx(checkpoint, tmp_path_factory.mktemp("waveform") / "model.onnx", input="waveform", rate=RATE)


def test_the_filter_bank_is_that_of_preparation() -> None:
    example = {"waveform": torch.zeros(2, SAMPLES), "lengths": torch.zeros(2, dtype=torch.int64)}
    proto = trace(FilterBank(RATE, 512, 128), example, "fbank")
    session = ort.InferenceSession(proto.SerializeToString())
    found = session.run(None, dict(zip(example, fed(sounds()), strict=True)))[0]
    wanted = bands(sounds())
    assert found.shape == wanted.shape
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=5e-5)
    assert (found[:2] == np.float32(SILENCE)).all()


def test_logits_are_those_of_the_filter_bank(onnx_file: Path, waveform_file: Path) -> None:
    frames, _ = clips(len(SPANS))
    one = OrtBackend(onnx_file).logits(frames, bands(sounds()))
    other = OrtBackend(waveform_file).logits(frames, *fed(sounds(), rest=0.0))
    np.testing.assert_allclose(other, one, rtol=0, atol=1e-5)
    assert np.abs(one[0] - one[-1]).max() > 1e-3


def test_what_products_bind_to(waveform_file: Path) -> None:
    model = onnx.load(waveform_file)
    ports = {
        port.name: [dim.dim_param or dim.dim_value for dim in port.type.tensor_type.shape.dim]
        for port in (*model.graph.input, *model.graph.output)
    }
    assert list(ports.items()) == [
        ("frames", ["batch", 4, 3, 32, 32]),
        ("waveform", ["batch", SAMPLES]),
        ("lengths", ["batch"]),
        ("logits", ["batch", 4]),
    ]
    contract = OrtBackend(waveform_file).contract
    assert (contract.input, contract.waveform_rate, contract.samples) == ("waveform", RATE, SAMPLES)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
def test_samples_are_those_of_whole_frames(rate: int) -> None:
    window, shift = frame_samples(rate)
    assert samples_of_frames(rate, 512) == window + 511 * shift


def resampling() -> Contract:
    sound = SoundConfig(rate=RATE)
    return CONTRACT.model_copy(update={"prepare": CONTRACT.prepare.model_copy(update={"sound": sound})})


def test_the_rate_is_one_that_the_model_knows() -> None:
    known = CONTRACT.model_copy(update={"sound_rates": (44100, 48000)})
    assert choose_rate(resampling(), None) == choose_rate(resampling(), RATE) == RATE
    assert choose_rate(known, 48000) == 48000
    assert choose_rate(CONTRACT.model_copy(update={"sound_rates": (44100,)}), None) == 44100
    assert choose_rate(CONTRACT, 32000) == 32000
    for contract, rate, words in (
        (resampling(), 44100, "sound of 16000 Hz, so the graph cannot take 44100 Hz"),
        (known, 16000, "sound of 44100, 48000 Hz, so the graph cannot take 16000 Hz"),
        (known, None, "sound of 44100, 48000 Hz.*say which"),
        (CONTRACT, None, "does not say what rates.*say which"),
    ):
        with pytest.raises(WeightsError, match=words):
            choose_rate(contract, rate)
