"""Low-rank updates: what they add, what learns, and that one program and every arithmetic run them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from model_setup import LABELS, TINY, clips, contract, open_gates
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional

from mmadfer.config.lora import LoraConfig
from mmadfer.config.schema import ModelConfig, Precision
from mmadfer.errors import WeightsError
from mmadfer.model import precision as arithmetic
from mmadfer.model.float8 import Float8Linear, Float8LoraLinear
from mmadfer.model.layer import layer
from mmadfer.model.lora import LoraLinear
from mmadfer.model.mma_dfer import MMADFER, empty_model
from mmadfer.model.precision import apply, autocast
from mmadfer.model.weights.build import build_model, encoder_hash, load_weights, save_weights, weights_hash
from mmadfer.model.weights.published import published_name

CPU = torch.device("cpu")
RANK = 8
LORA = TINY.model_copy(update={"lora": LoraConfig(rank=RANK, alpha=32)})
DROPS = torch.rand(2, 5, 4, 2, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def random(*shape: int, seed: int = 1, kind: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(kind)


def updates(model: MMADFER) -> dict[str, Tensor]:
    return {name: value for name, value in model.trainable().items() if ".lora_" in name}


def trained(seed: int = 1) -> MMADFER:
    """A model whose updates are no longer zero."""
    model = open_gates(build_model(LORA, len(LABELS)))
    for number, (name, value) in enumerate(updates(model).items()):
        if name.endswith("lora_b"):
            value.data.copy_(0.05 * random(*value.shape, seed=1000 * seed + number))
    return model


def test_it_starts_as_the_model_without_and_names_stay() -> None:
    plain, model = build_model(TINY, len(LABELS)), build_model(LORA, len(LABELS))
    assert torch.equal(model(*clips(), DROPS), plain(*clips(), DROPS))
    assert encoder_hash(model) == encoder_hash(plain)
    assert list(model.frozen()) == list(plain.frozen())
    assert "vision.blocks.0.attn.qkv.weight" in model.frozen()
    new = updates(model)
    assert set(model.trainable()) == {*plain.trainable(), *new}
    assert len(new) == 2 * 4 * 4 * 2  # encoders, blocks; qkv, proj, fc1, fc2; A and B
    for name, value in new.items():
        bound = value.shape[1] ** -0.5
        assert value.abs().max() == 0 if name.endswith("lora_b") else 0.95 * bound < value.abs().max() <= bound, name
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_rank_0_is_no_update() -> None:
    model = build_model(LORA.model_copy(update={"lora": LoraConfig(rank=0, alpha=8)}), len(LABELS))
    assert not [module for module in model.modules() if isinstance(module, LoraLinear)]
    assert weights_hash(model) == weights_hash(build_model(TINY, len(LABELS)))


def test_parameters_of_the_published_size() -> None:
    """Of a block of ViT-B at rank 8: q, k, v and out 8 * (768 + 768) each, fc1 and fc2 8 * (768 + 3072) each.

    4 * 12,288 + 2 * 30,720 = 110,592; in 12 blocks of two encoders 2,654,208.
    """
    model = empty_model(ModelConfig(lora=LoraConfig(rank=RANK)), 7)
    assert sum(value.numel() for value in updates(model).values()) == 2_654_208
    others = sum(value.numel() for value in model.trainable().values()) - 2_654_208
    assert others == sum(value.numel() for value in empty_model(ModelConfig(), 7).trainable().values()) == 7_556_639


def test_q_k_and_v_have_an_update_each() -> None:
    """W x + b + alpha / rank B A x, with A and B of each part."""
    base = nn.Linear(12, 30).requires_grad_(False)
    linear = LoraLinear(base, LoraConfig(rank=2, alpha=3), parts=3).double()
    inputs = random(5, 12, kind=torch.float64)
    for number, value in enumerate((linear.lora_a, linear.lora_b)):
        value.data.copy_(random(*value.shape, seed=number))
    assert (linear.lora_a.shape, linear.lora_b.shape) == ((6, 12), (30, 2))
    wanted = base.double()(inputs)
    for part in range(3):
        a, b = linear.lora_a[2 * part : 2 * part + 2], linear.lora_b[10 * part : 10 * part + 10]
        wanted[:, 10 * part : 10 * part + 10] += 1.5 * (inputs @ a.t() @ b.t())
    torch.testing.assert_close(linear(inputs), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("precision", "off", "gradient"),
    [("fp32", 1e-5, 1e-4), ("bf16", 0.02, 0.06), ("fp16", 0.005, 0.02), ("fp8", 0.08, 0.4)],
)
def test_every_arithmetic_computes_it(precision: Precision, off: float, gradient: float) -> None:
    """Logits, of which the updates make 0.2, and the updates' gradient, as near to float32's as the numbers allow."""

    def gradients(model: MMADFER, precision: Precision) -> tuple[Tensor, dict[str, Tensor]]:
        apply(model, precision, CPU)
        with autocast(precision, CPU):
            logits = model(*clips(), DROPS).float()
        functional.cross_entropy(logits, torch.tensor([0, 3])).backward()
        return logits.detach(), {name: value.grad for name, value in updates(model).items() if value.grad is not None}

    plain, model = trained(), trained()
    wanted, found = gradients(plain, "reference"), gradients(model, precision)
    untrained = open_gates(build_model(LORA, len(LABELS)))(*clips(), DROPS)
    assert (wanted[0] - found[0]).abs().max() < off < 0.15 < (wanted[0] - untrained).abs().max()
    assert len(found[1]) == len(wanted[1]) == 64
    assert {value.dtype for value in model.trainable().values()} == {torch.float32}
    one, other = (torch.cat([value.flatten() for value in grads.values()]) for _, grads in (wanted, found))
    assert (one - other).norm() < gradient * one.norm()


def test_in_8_bits_only_the_frozen_product_is() -> None:
    model, inputs = trained(), random(6, 64)
    before = model.vision.blocks[0].attn.qkv
    outwards = (before.scale * torch.block_diag(*before.lora_b.chunk(3))).bfloat16()
    wanted = functional.linear(functional.linear(inputs.bfloat16(), before.lora_a.bfloat16()), outwards)
    frozen = Float8Linear(before)(inputs)
    apply(model, "fp8", CPU)
    after = model.vision.blocks[0].attn.qkv
    assert type(after) is Float8LoraLinear
    assert after.lora_a is before.lora_a
    assert after.lora_b is before.lora_b
    with autocast("fp8", CPU):
        found = after(inputs)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, frozen + wanted)


@pytest.mark.parametrize("recomputed", [False, True])
def test_one_program_serves_all_layers(recomputed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the compiler sees the layers, without the compiling."""
    graphs = list[torch.fx.GraphModule]()

    def kept(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    program = torch.compile(layer, fullgraph=True, dynamic=False, backend=kept)
    monkeypatch.setattr(arithmetic, "_compile", lambda: program)
    torch.compiler.reset()
    plain, model = trained(), trained()
    apply(model, "fp32", CPU, compiled=True, recomputed=recomputed)
    with torch._dynamo.config.patch(error_on_recompile=True):
        found = model(*clips(), DROPS)
        found.sum().backward()
    wanted = plain(*clips(), DROPS)
    wanted.sum().backward()
    assert len(graphs) == 1
    assert torch.equal(found, wanted)
    for name, value in updates(plain).items():
        torch.testing.assert_close(updates(model)[name].grad, value.grad, rtol=0, atol=0, msg=name)


def test_updates_alone_can_learn() -> None:
    """Ten steps with everything else held still."""
    model, answers, losses = build_model(LORA, len(LABELS)), torch.tensor([0, 3]), []
    optimizer = torch.optim.AdamW(updates(model).values(), lr=3e-3)
    for _ in range(10):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(*clips(), DROPS), answers)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.75 * losses[0]
    fresh = updates(build_model(LORA, len(LABELS)))
    assert all(not torch.equal(value, fresh[name]) for name, value in updates(model).items())


def test_weights_files_hold_updates_and_no_encoder(tmp_path: Path) -> None:
    model, path = trained(), tmp_path / "weights.safetensors"
    save_weights(path, model, contract(LORA), frozen=False)
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == set(model.trainable())
    read, promises = load_weights(path)
    assert torch.equal(read(*clips()), model(*clips()))
    assert promises.model.lora == LoraConfig(rank=RANK, alpha=32)
    assert promises.encoder_hash == encoder_hash(build_model(TINY, len(LABELS)))
    save_weights(path, trained(), contract(LORA.model_copy(update={"lora": LoraConfig(rank=4)})), frozen=False)
    with pytest.raises(WeightsError, match=r"lora_a"):
        load_weights(path)


def test_an_encoder_file_fills_an_encoder_with_updates(tmp_path: Path) -> None:
    source = build_model(TINY.model_copy(update={"vision": TINY.vision.model_copy(update={"seed": 9})}), len(LABELS))
    tensors = {published_name(name): value for name, value in source.state_dict().items() if name.startswith("vision.")}
    state = {theirs.removeprefix("image_encoder."): value for theirs, value in tensors.items() if theirs}
    state = {name: value for name, value in state.items() if "prompts" not in name}
    state["pos_embed"] = state["pos_embed"][:, : 1 + 4]
    torch.save({"model": state}, tmp_path / "mae_face.pth")
    vision = TINY.vision.model_copy(update={"weights": tmp_path / "mae_face.pth"})
    model = build_model(LORA.model_copy(update={"vision": vision}), len(LABELS))
    for name, value in source.frozen().items():
        if name.startswith("vision."):
            assert torch.equal(model.frozen()[name], value), name
    assert len(updates(model)) == 64
