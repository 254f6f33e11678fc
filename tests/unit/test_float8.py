"""Frozen linear layers in 8 bits, as a CPU simulates them, against float64; tests/gpu holds GPUs against this."""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from needs import missing
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmadfer.errors import ConfigError
from mmadfer.model import float8
from mmadfer.model.block import Block
from mmadfer.model.float8 import FLOAT8, Float8Linear
from mmadfer.model.layer import through

INPUTS, OUTPUTS, ROWS = 96, 64, 10
CPU = torch.device("cpu")


def linear(inputs: int = INPUTS, outputs: int = OUTPUTS) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Linear(inputs, outputs).requires_grad_(False)


def normal(*shape: int, seed: int = 1) -> Tensor:
    """Rows whose sizes differ by five orders of magnitude."""
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return values * torch.logspace(-3, 2, shape[-2])[:, None]


def passed(layer: Callable[[Tensor], Tensor], inputs: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Forward and backward: the output, and the gradient of the inputs."""
    inputs = inputs.detach().requires_grad_()
    outputs = layer(inputs)
    outputs.backward(gradient.to(outputs.dtype))
    assert inputs.grad is not None
    return outputs.detach(), inputs.grad


def case() -> tuple[Tensor, Tensor]:
    return normal(ROWS, INPUTS), normal(ROWS, OUTPUTS, seed=2)


def assert_same(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_row_becomes_the_nearest_numbers_of_8_bits() -> None:
    rows = normal(ROWS, INPUTS)
    numbers, scales = float8.quantise_rows(rows)
    assert torch.equal(scales.frexp().mantissa, torch.full_like(scales, 0.5))  # powers of two
    share = rows.abs().amax(1) / scales[:, 0] / torch.finfo(FLOAT8).max
    assert ((share > 0.5 - 1e-6) & (share <= 1)).all()  # as little room as a power of two leaves
    all_numbers = torch.arange(256, dtype=torch.uint8).view(FLOAT8).double()
    all_numbers = all_numbers[all_numbers.isfinite()]
    exact = rows.double() / scales
    nearest = (exact[..., None] - all_numbers).abs().amin(-1)
    torch.testing.assert_close((exact - numbers.double()).abs(), nearest, rtol=0, atol=0)


def test_both_passes_are_within_the_bound_of_8_bits() -> None:
    """Each number of 8 bits is off by up to 2^-4, and the bfloat16 results by 2^-8; see quantise."""
    layer, (inputs, gradient) = linear(), case()
    weight, bias = layer.weight.double(), layer.bias.double()
    found = passed(Float8Linear(layer), inputs, gradient)
    bound = (1 + 2**-4) ** 2 - 1
    for one, left, right, added in (
        (found[0], inputs.double(), weight.t(), bias),
        (found[1], gradient.bfloat16().double(), weight, torch.zeros(()).double()),
    ):
        wanted = left @ right + added
        subnormal = left.abs().amax(1, keepdim=True) * right.abs().amax(0) * len(right) * 2**-16
        allowed = bound * (left.abs() @ right.abs()) + subnormal + 2**-8 * (wanted.abs() + added.abs())
        assert ((one - wanted).abs() <= allowed).all()
        off = ((one - wanted).norm(dim=1) / wanted.norm(dim=1)).amax()
        assert 0.005 < off < 0.1  # 8 bits, and not 16; whatever the size of the row


def test_sums_are_as_good_as_float32() -> None:
    """Of the 8-bit numbers themselves, the product is the nearest bfloat16, or the one beside it."""
    layer, (inputs, gradient) = linear(), case()
    in_8_bits = Float8Linear(layer)
    found = passed(in_8_bits, inputs, gradient)
    for one, rows, name, bias in (
        (found[0], inputs, "forward", layer.bias.bfloat16()),
        (found[1], gradient.bfloat16(), "backward", torch.zeros(())),
    ):
        numbers, scales = float8.quantise_rows(rows)
        weight = in_8_bits.get_buffer(f"{name}_weight").double() * in_8_bits.get_buffer(f"{name}_scales").double().t()
        wanted = (numbers.double() * scales.double()) @ weight.t() + bias.double()
        torch.testing.assert_close(one.double(), wanted, rtol=2**-8, atol=1e-5 * scales.amax().item())


def test_a_row_does_not_depend_on_the_others() -> None:
    layer, (inputs, gradient) = Float8Linear(linear()), case()
    alone = passed(layer, inputs, gradient)
    inputs[1:], gradient[1:] = inputs[1:].flip(0) * 1e4, gradient[1:].flip(0) * 1e4
    among = passed(layer, inputs, gradient)
    assert_same([one[:1] for one in among], [one[:1] for one in alone])
    assert not torch.equal(among[0][1:], alone[0][1:])
    assert not torch.equal(among[1][1:], alone[1][1:])


def test_rows_of_zeros_stay_zeros() -> None:
    plain, (inputs, gradient) = linear(), case()
    inputs[2], gradient[3] = 0, 0
    inputs[4], gradient[4] = inputs[4] * 1e-36, gradient[4] * 1e-36  # and what is next to nothing is no trouble
    outputs, found = passed(Float8Linear(plain), inputs, gradient)
    torch.testing.assert_close(outputs[2], plain.bias.bfloat16(), rtol=0, atol=0)
    assert not found[3].any()
    assert outputs.isfinite().all()
    assert found.isfinite().all()


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")])
def test_what_is_not_finite_stays_visible(value: float) -> None:
    layer, (inputs, gradient) = Float8Linear(linear()), case()
    wanted = passed(layer, inputs, gradient)
    inputs[2, 5], gradient[3, 7] = value, value
    assert float8.quantise_rows(inputs)[1][2].isinf()  # so it does not depend on what a cast does
    outputs, found = passed(layer, inputs, gradient)
    assert not outputs[2].isfinite().any()
    assert not found[3].isfinite().any()
    rest = [row for row in range(ROWS) if row not in (2, 3)]
    assert_same([outputs[rest], found[rest]], [one[rest] for one in wanted])


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("around", [nullcontext(), torch.autocast("cpu", torch.bfloat16)])
def test_autocast_changes_nothing(around: AbstractContextManager[None], kind: torch.dtype) -> None:
    layer, (inputs, gradient) = Float8Linear(linear()), case()
    wanted = passed(layer, inputs.to(kind).float(), gradient)
    with around:
        found = passed(layer, inputs.to(kind).view(2, 5, INPUTS), gradient.view(2, 5, OUTPUTS))
    assert found[0].dtype == torch.bfloat16
    assert found[1].dtype == kind
    assert_same([one.flatten(0, 1).float() for one in found], [one.float() for one in wanted])


def test_without_gradients_and_in_a_checkpoint_it_is_the_same() -> None:
    layer, (inputs, gradient) = Float8Linear(linear()), case()
    wanted = passed(layer, inputs, gradient)
    assert_same(passed(lambda rows: checkpoint(layer, rows, use_reentrant=False), inputs, gradient), wanted)
    with torch.no_grad():
        assert_same((layer(inputs),), wanted[:1])


def test_autograd_keeps_no_activation() -> None:
    """Only the weight and the scales of the backward pass, which are there anyway."""
    layer, (inputs, _), kept = Float8Linear(linear()), case(), list[Tensor]()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        layer(inputs.requires_grad_())
    assert [one.data_ptr() for one in kept] == [layer.backward_weight.data_ptr(), layer.backward_scales.data_ptr()]


@pytest.mark.slow
def test_compiled_it_gives_the_same_numbers() -> None:
    """The gradient but for its rounding to bfloat16, which torch.compile leaves out before a cast to float32."""
    if not shutil.which("g++"):
        missing("torch.compile needs g++")
    layer, (inputs, gradient) = Float8Linear(linear()), case()
    inputs[2], inputs[3, 1], gradient[4, 1] = 0, float("inf"), float("nan")
    wanted = passed(layer, inputs, gradient)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, found = passed(torch.compile(layer, fullgraph=True, dynamic=False), inputs, gradient)
    torch.testing.assert_close((outputs, found.bfloat16().float()), wanted, rtol=0, atol=0, equal_nan=True)


def test_changing_a_models_type_leaves_the_8_bits_alone() -> None:
    layer, (inputs, gradient) = Float8Linear(linear()), case()
    wanted = passed(layer, inputs, gradient)
    kinds = [buffer.dtype for buffer in layer.buffers()]
    assert_same(passed(nn.Sequential(layer).half().to(torch.float64), inputs, gradient), wanted)
    assert [buffer.dtype for buffer in layer.buffers()] == kinds
    assert layer.to("meta").forward_weight.is_meta


def test_a_blocks_frozen_linear_layers_are_replaced() -> None:
    block = Block(32, 2, 4).requires_grad_(False)
    block.mlp.fc2.requires_grad_(True)
    tokens = normal(2, 5, 32)
    wanted = through([block], tokens, None).detach()
    float8.replace(block)
    found = {name for name, module in block.named_modules() if isinstance(module, Float8Linear)}
    assert found == {"attn.qkv", "attn.proj", "mlp.fc1"}
    assert {name.rpartition(".")[0] for name in block.state_dict()} == {"norm1", "norm2", "mlp.fc2"}
    with torch.autocast("cpu", torch.bfloat16):
        assert 0.005 < (through([block], tokens, None) - wanted).norm() / (wanted - tokens).norm() < 0.1


@pytest.mark.parametrize(("inputs", "outputs"), [(24, 32), (32, 24)])
def test_sizes_that_gpus_do_not_take_are_told(inputs: int, outputs: int) -> None:
    with pytest.raises(ConfigError, match=f"{inputs} inputs and {outputs} outputs: both must be multiples of 16.*bf16"):
        float8.replace(nn.Sequential(linear(inputs, outputs)))


def test_a_device_that_cannot_is_told_with_what_to_take() -> None:
    float8.check_device(CPU)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match=r"on cuda here.*compute capability 8\.9.*or train\.precision: bf16"):
            float8.check_device(torch.device("cuda"))
