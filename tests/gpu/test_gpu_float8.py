"""8-bit products on a GPU, against what a CPU simulates."""

from collections.abc import Callable

import pytest
import torch
from needs import missing
from torch import Tensor, nn

from mmadfer.model import float8
from mmadfer.model.float8 import Float8Linear

INPUTS, OUTPUTS, ROWS = 768, 3072, 1000
"""fc1 of a ViT-B, and a number of rows that is no multiple of anything that a kernel likes."""
NEAR = 2**-7
"""Of a row's norm: the rounding to bfloat16, and the sums of a GPU, which has fewer bits for them than float32."""


@pytest.fixture(autouse=True)
def _it_multiplies_8_bits() -> None:
    if not torch.cuda.is_available():
        missing("PyTorch finds no GPU here: another driver, or a build for CPUs")
    if torch.cuda.get_device_capability() not in ((8, 9), (9, 0), (10, 0)):
        pytest.skip("needs a GPU of compute capability 8.9, 9.0 or 10.0")
    float8.check_device(torch.device("cuda"))


def layers(bias: bool = True) -> tuple[Float8Linear, Float8Linear]:
    """The same layer on the CPU and on the GPU, each with its weights quantised there."""
    torch.manual_seed(3)
    linear = nn.Linear(INPUTS, OUTPUTS, bias=bias).requires_grad_(False)
    return Float8Linear(linear), Float8Linear(linear.cuda())


def case() -> tuple[Tensor, Tensor]:
    """Inputs and gradients whose rows differ by five orders of magnitude."""
    generator, sizes = torch.Generator().manual_seed(1), torch.logspace(-3, 2, ROWS)[:, None]
    inputs, gradient = (torch.randn(ROWS, width, generator=generator) * sizes for width in (INPUTS, OUTPUTS))
    return inputs, gradient.bfloat16()


def passed(layer: Callable[[Tensor], Tensor], inputs: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    inputs = inputs.detach().requires_grad_()
    outputs = layer(inputs)
    outputs.backward(gradient)
    assert inputs.grad is not None
    return outputs.detach(), inputs.grad


def far(found: Tensor, wanted: Tensor) -> float:
    """The largest distance of two rows, as a share of the row."""
    found, wanted = found.cpu().double(), wanted.double()
    return ((found - wanted).norm(dim=1) / wanted.norm(dim=1)).amax().item()


@pytest.mark.parametrize("compiled", [False, True])
def test_rows_get_the_same_8_bits(compiled: bool) -> None:
    inputs, _ = case()
    inputs[2], inputs[3] = 0, inputs[3] * 1e-36
    quantise = torch.compile(float8.quantise_rows, fullgraph=True, dynamic=False) if compiled else float8.quantise_rows
    found, wanted = quantise(inputs.cuda()), float8.quantise_rows(inputs)
    torch.testing.assert_close(found[1].cpu(), wanted[1], rtol=0, atol=0)
    torch.testing.assert_close(found[0].cpu().float(), wanted[0].float(), rtol=0, atol=0)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_both_passes_are_the_cpus(bias: bool, compiled: bool) -> None:
    (cpu, gpu), (inputs, gradient) = layers(bias), case()
    wanted = passed(cpu, inputs, gradient)
    layer = torch.compile(gpu, fullgraph=True, dynamic=False) if compiled else gpu
    with torch.autocast("cuda", torch.bfloat16):
        found = passed(layer, inputs.cuda(), gradient.cuda())
    assert all(far(one, other) < NEAR for one, other in zip(found, wanted, strict=True))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_is_not_finite_stays_visible(value: float, compiled: bool) -> None:
    """Also where the cast to 8 bits saturates."""
    (_, gpu), (inputs, gradient) = layers(), case()
    inputs[2, 5], gradient[3, 7] = value, value
    layer = torch.compile(gpu, fullgraph=True, dynamic=False) if compiled else gpu
    outputs, found = passed(layer, inputs.cuda(), gradient.cuda())
    assert (~outputs.isfinite().all(1)).nonzero().flatten().tolist() == [2]
    assert (~found.isfinite().all(1)).nonzero().flatten().tolist() == [3]


def test_a_row_does_not_depend_on_the_others() -> None:
    (_, gpu), (inputs, gradient) = layers(), case()
    alone = passed(gpu, inputs.cuda(), gradient.cuda())
    inputs[1:], gradient[1:] = inputs[1:].flip(0), gradient[1:].flip(0)
    among = passed(gpu, inputs.cuda(), gradient.cuda())
    for one, other in zip(among, alone, strict=True):
        torch.testing.assert_close(one[:1], other[:1], rtol=0, atol=0)
        assert not torch.equal(one[1:], other[1:])


def test_nothing_waits_for_the_gpu() -> None:
    (_, gpu), (inputs, gradient) = layers(), case()
    rows, slopes = inputs.cuda(), gradient.cuda()
    passed(gpu, rows, slopes)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        outputs, found = passed(gpu, rows, slopes)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    assert outputs.isfinite().all()
    assert found.isfinite().all()
