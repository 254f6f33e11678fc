"""Low-rank updates are merged into what is exported, which is proven against the model that has them."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from export_setup import CONTRACT, MODEL, clips
from torch import Tensor

import mmadfer
from mmadfer.config.lora import LoraConfig
from mmadfer.errors import WeightsError
from mmadfer.export.graph.merging import merged
from mmadfer.export.parity.logits import _delivered
from mmadfer.export.parity.parity import export_onnx, parity
from mmadfer.export.to_weights import to_weights
from mmadfer.model.lora import LoraLinear
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights.build import build_model, encoder_hash, save_weights, weights_hash
from mmadfer.runtime import Recogniser

LORA = MODEL.model_copy(update={"lora": LoraConfig(rank=3, alpha=10)})


def trained(seed: int) -> MMADFER:
    """A model whose updates and gates are no longer zero."""
    model = build_model(LORA, len(CONTRACT.labels))
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.trainable().items():
        scale = 0.05 if ".lora_" in name else 0.2
        value.data.add_(scale * torch.randn(value.shape, generator=generator))
    return model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one fold, whose checkpoint holds what was trained."""
    folder = tmp_path_factory.mktemp("lora") / "run"
    path = folder / "fold-1/checkpoints/step-00000007/weights.safetensors"
    path.parent.mkdir(parents=True)
    save_weights(path, trained(1), CONTRACT.model_copy(update={"model": LORA}), frozen=False)
    return folder


@pytest.fixture(scope="module")
def exported(run: Path, store: Path) -> Path:
    """As the command does it: proven on real clips."""
    return export_onnx(run, run / "export" / "fold-1.onnx", store)


def logits(model: MMADFER) -> Tensor:
    with torch.inference_mode():
        return model(*map(torch.from_numpy, clips(2)))


def exact(linear: LoraLinear, row: int, column: int) -> np.float32:
    """A merged weight of a layer of q, k and v, without any rounding but the last."""
    rank, part = linear.lora_b.shape[1], row // (linear.out_features // 3)
    a, b = linear.lora_a[part * rank :, column].tolist(), linear.lora_b[row].tolist()
    total = sum((Fraction(one) * Fraction(other) for one, other in zip(a, b, strict=False)), Fraction())
    return np.float32(float(Fraction(linear.weight[row, column].item()) + Fraction(10, 3) * total))


def test_merged_weights_are_the_nearest_float32_numbers() -> None:
    linear = trained(1).vision.blocks[1].attn.qkv
    found, rng = linear.merged(), np.random.default_rng(1)
    assert found.dtype == torch.float32
    for row, column in zip(rng.integers(0, 96, 200), rng.integers(0, 32, 200), strict=True):
        assert found[row, column].item() == exact(linear, row, column), (row, column)
        assert found[row, column] != linear.weight[row, column]


def test_a_merged_model_is_a_plain_one_of_the_same_logits() -> None:
    model = trained(1).eval()
    model.contract = CONTRACT.model_copy(update={"model": LORA, "encoder_hash": "of before"})
    plain = merged(model)
    assert not [module for module in plain.modules() if isinstance(module, LoraLinear)]
    assert set(plain.state_dict()) == set(build_model(MODEL, len(CONTRACT.labels)).state_dict())
    assert set(plain.frozen()) == set(model.frozen())
    assert plain.contract is not None
    assert (plain.config.lora.rank, plain.contract.model.lora.rank, plain.contract.encoder_hash) == (0, 0, "")
    torch.testing.assert_close(logits(plain), logits(model), rtol=0, atol=1e-5)
    unchanged = trained(1)
    for name, value in unchanged.trainable().items():
        value.data.mul_(0.0 if name.endswith("lora_b") else 1.0)
    assert (logits(plain) - logits(unchanged)).abs().max() > 0.01, "or there was nothing to merge"
    assert not plain.training
    assert merged(plain) is plain


def test_an_exported_graph_is_merged_and_proven(run: Path, exported: Path, store: Path) -> None:
    graph, before = Recogniser(exported), mmadfer.load(run)
    plain = merged(before)
    assert before.config.lora.rank == 3, "a run stays as it was trained"
    assert graph.contract.model == MODEL
    assert graph.contract.weights_hash == weights_hash(plain) != weights_hash(before)
    assert graph.contract.encoder_hash == encoder_hash(plain) != encoder_hash(before)
    found = graph.backend.logits(*clips(2))
    np.testing.assert_allclose(found, logits(before).numpy(), rtol=0, atol=1e-5)
    report = json.loads(exported.with_suffix(".parity.json").read_text())
    (form,) = report["forms"]
    assert (report["passed"], report["clips"], form["label_flips"]) == (True, 4, [])
    assert 0 < form["logit_difference"]["max"] < 1e-5
    assert report["reference"]["weights_hash"] == weights_hash(before)
    assert form["weights_hash"] == weights_hash(plain)
    assert parity(run, data=store, clips=1).passed


def test_a_graph_of_other_updates_is_refused(exported: Path, store: Path, tmp_path: Path) -> None:
    """Only the updates differ, so only the merged encoders do."""
    other = trained(1)
    other.get_parameter("audio.blocks.0.mlp.fc2.lora_b").data[0, 0] += 0.01
    save_weights(tmp_path / "other.safetensors", other, CONTRACT.model_copy(update={"model": LORA}), frozen=True)
    with pytest.raises(WeightsError, match=r"fold-1\.onnx holds other encoders than .*other\.safetensors"):
        parity(tmp_path / "other.safetensors", [exported], store)


def test_exported_weights_are_those_of_the_graph(run: Path, exported: Path, store: Path, tmp_path: Path) -> None:
    out = to_weights(run, tmp_path / "model.safetensors")
    model = mmadfer.load(out)
    assert model.contract is not None
    assert (model.contract.model, model.config) == (MODEL, MODEL)
    assert not [name for name in model.state_dict() if "lora" in name]
    torch.testing.assert_close(logits(model), logits(mmadfer.load(run)), rtol=0, atol=1e-5)
    assert parity(out, [exported], store, clips=1).passed
    assert _delivered(Recogniser(run, "torch")).weights_hash == model.contract.weights_hash
