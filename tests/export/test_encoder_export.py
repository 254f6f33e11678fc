"""Graphs of models with other encoders give what PyTorch gives: timm's ViTs, scaled pixels, longer sound."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_setup import CONTRACT, MODEL

from mmadfer.config.schema import ModelConfig
from mmadfer.contract import Contract
from mmadfer.data.media.fbank import fbank
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights.build import build_model, save_weights
from mmadfer.runtime.backends.ort import OrtBackend

SMALL = {"timm": "test_vit", "width": 64, "depth": 6, "heads": 2, "mlp_ratio": 3}
REGISTERS = {"timm": "test_vit2", "width": 64, "depth": 8, "heads": 2, "mlp_ratio": 3}
RMS = {"timm": "test_vit4", "width": 96, "depth": 9, "heads": 3, "mlp_ratio": 3}
SHALLOW = {"width": 32, "depth": 1, "heads": 2}
CASES: dict[str, dict[str, Any]] = {
    "registers, no class token": {"vision": REGISTERS, "audio": SHALLOW, "pixels": "imagenet"},
    "other norms, wider and deeper sound": {"vision": SHALLOW, "audio": RMS, "pixels": "clip"},
}


def promised(change: dict[str, Any]) -> Contract:
    """CONTRACT of another model; its sound is as long as the model hears."""
    model = ModelConfig.model_validate({**MODEL.model_dump(), "progressive": 1, **change})
    sound = {"rate": 16000, "frames": model.fbank[0]}
    prepare = CONTRACT.prepare.model_validate({**CONTRACT.prepare.model_dump(), "sound": sound})
    return CONTRACT.model_copy(update={"model": model, "prepare": prepare})


def saved(contract: Contract, path: Path) -> MMADFER:
    """A model whose gates are open, also in the file at `path`."""
    model, generator = build_model(contract.model, len(contract.labels)), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.trainable().values():
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
    save_weights(path, model, contract, frozen=True)
    return model


def frames_of(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).integers(0, 256, (batch, 4, 3, 32, 32), np.uint8)


def logits(model: MMADFER, frames: np.ndarray, sound: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(frames), torch.from_numpy(sound)).numpy()


@pytest.mark.parametrize("change", CASES.values(), ids=CASES)
def test_the_graph_is_the_model(tmp_path: Path, change: dict[str, Any]) -> None:
    model = saved(promised(change), tmp_path / "model.safetensors")
    backend = OrtBackend(to_onnx(tmp_path / "model.safetensors", tmp_path / "model.onnx"))
    sound = np.random.default_rng(1).standard_normal((3, 1, 512, 128), np.float32)
    wanted = logits(model, frames_of(3), sound)
    np.testing.assert_allclose(backend.logits(frames_of(3), sound), wanted, rtol=0, atol=2e-5)
    assert np.ptp(wanted, axis=0).max() > 1e-3, "clips differ"
    assert backend.contract.model.pixels == change["pixels"]


def test_a_class_token_and_pixels_in_half_precision(tmp_path: Path) -> None:
    model = saved(promised({"vision": SMALL, "audio": SHALLOW, "pixels": "half"}), tmp_path / "model.safetensors")
    half = OrtBackend(to_onnx(tmp_path / "model.safetensors", tmp_path / "half.onnx", precision="fp16"))
    sound = np.random.default_rng(1).standard_normal((2, 1, 512, 128), np.float32)
    wanted = logits(model, frames_of(2), sound)
    found = half.logits(frames_of(2), sound)
    assert (found != wanted).any()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-2)


def test_ten_seconds_at_16_khz_as_samples(tmp_path: Path) -> None:
    """1024 frames of the filter bank, which the graph makes itself."""
    contract = promised({"vision": SHALLOW, "audio": SHALLOW, "fbank": (1024, 128)})
    model = saved(contract, tmp_path / "model.safetensors")
    backend = OrtBackend(to_onnx(tmp_path / "model.safetensors", tmp_path / "long.onnx", input="waveform", rate=16000))
    rng, samples = np.random.default_rng(1), 400 + 1023 * 160
    assert backend.contract.samples == samples
    sounds = (0.1 * rng.standard_normal((2, samples))).astype(np.float32)
    sounds[1, 90000:] = 0
    lengths = np.array([samples, 90000])
    banks = [fbank(s[None, :n], 16000, contract.prepare.sound) for s, n in zip(sounds, lengths, strict=True)]
    wanted = logits(model, frames_of(2), np.stack(banks)[:, None])
    np.testing.assert_allclose(backend.logits(frames_of(2), sounds, lengths), wanted, rtol=0, atol=5e-5)
