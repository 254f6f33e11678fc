"""Products in 8-bit floating point through frozen linear layers, forward and backward.

Every row of a matrix has its own scale, a power of two s with max |row| <= 448 * s: 448 is the largest number of e4m3
(four bits of exponent, three of mantissa). The row is kept as round(row / s), and a product of two matrices is

    y[i, j] = bfloat16(float32(sum over k of a[i, k] * b[j, k]) * s_a[i] * s_b[j] + bias[j]).

- Rows are tokens, so the numbers of a clip do not depend on the other clips of its batch.
- Gradients are e4m3, too: e5m2, which others take for them, ranges wider, for which rows have their scales, and has a
  bit of mantissa less; on the toy set, its loss falls more slowly.
- Scaling by a power of two is exact, so every device, compiled or not, gets the same 8 bits for the same row: a
  quotient that was rounded otherwise would now and then fall to the neighbouring number, which is 2^-3 away.
- Scales are computed where the tensors are, from the exponent of the row's maximum, and nothing waits for them.
- A row that holds an infinity or a NaN has an infinite scale, so all of its products are NaN or infinite, also where a
  cast to 8 bits saturates (on GPUs, compiled) instead of giving NaN. A row of zeros stays zeros.

On a GPU, `torch._scaled_mm` multiplies (compute capability 8.9, 9.x or 10.x as of PyTorch 2.11), with `use_fast_accum`
off: its more precise sums. On a CPU the same is simulated: 8-bit numbers are exact in float32, and so are their
products, so only the sums differ, in their last bits; slow, for tests and for loss curves of small models.
"""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from mmadfer.errors import ConfigError
from mmadfer.model.lora import LoraLinear, update
from mmadfer.utils import compat

FLOAT8 = torch.float8_e4m3fn
MULTIPLE = 16
"""What a GPU wants both sizes of a layer to be a multiple of (`torch._scaled_mm`); rows are free."""
INFINITY = 0x7F800000
"""Its bits in float32, which are those of the exponent: as a mask, it leaves infinity, and makes infinity of NaN."""
TWICE_ONE = 0x7F000000
"""Twice the bits of 1.0 in float32: less those of a power of two, they are its inverse's."""
_MIN_ROW_MAX = 2.0**-100
"""A row's maximum is taken to be at least this, for the scale and its inverse to be normal float32 numbers."""
_scaled_product = compat.scaled_matrix_product()


def quantise_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (M, K) of any floating type -> 8-bit numbers (M, K) and scales (M, 1) in float32: rows ~ numbers * scales.

    The error of each number is at most 2^-4 of it, or half the smallest subnormal times the scale if that is more:
    2^-10 of the scale, which is 2^-17 of the row's maximum.
    """
    rows = rows.float()
    largest = rows.abs().amax(dim=1, keepdim=True).clamp(min=_MIN_ROW_MAX)
    exponents = (largest * (2 / torch.finfo(FLOAT8).max)).view(torch.int32) & INFINITY  # a power of two, rounded down
    inverse = (TWICE_ONE - exponents).view(torch.float32)  # by its bits: a compiled quotient is off by an ulp or two
    return (rows * inverse).to(FLOAT8).contiguous(), exponents.view(torch.float32)


class Float8Linear(nn.Module):
    """A frozen linear layer: (..., K) -> (..., N) in bfloat16, and back (..., N) -> (..., K) in the input's type.

    There is no gradient for the weight, so autograd keeps no activation. The weight is there twice, once with a scale
    for each output (forward sums over inputs), once with one for each input (backward sums over outputs): 2 bytes a
    weight together. They are buffers that no state dict holds.
    """

    def __init__(self, linear: nn.Linear):
        """linear: frozen, in any floating type, on any device; its bias, if it has one, is rounded to bfloat16.

        Raises:
            ConfigError: a size that GPUs do not take.
        """
        super().__init__()
        self.in_features = linear.in_features
        if linear.in_features % MULTIPLE or linear.out_features % MULTIPLE:
            raise ConfigError(
                f"train.precision: fp8 does not fit a linear layer of {linear.in_features} inputs and "
                f"{linear.out_features} outputs: both must be multiples of {MULTIPLE}. Change model.*.width and "
                "mlp_ratio, or take train.precision: bf16"
            )
        weight = linear.weight.detach()
        for name, matrix in (("forward", weight), ("backward", weight.t())):
            numbers, scales = quantise_rows(matrix)
            self.register_buffer(f"{name}_weight", numbers, persistent=False)
            self.register_buffer(f"{name}_scales", scales.view(1, -1), persistent=False)
        bias = None if linear.bias is None else linear.bias.detach().to(torch.bfloat16, copy=True)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., K) float -> (..., N) bfloat16, under autocast or not."""
        buffers = (self.forward_weight, self.forward_scales, self.backward_weight, self.backward_scales, self.bias)
        outputs: Tensor = _Product.apply(inputs.reshape(-1, self.in_features), *buffers)
        return outputs.unflatten(0, inputs.shape[:-1])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the bytes: `half()` and the like convert floating types, those of 8 bits included, but no integers."""
        return super()._apply(lambda tensor: fn(tensor.view(torch.uint8)).view(tensor.dtype), recurse)


class Float8LoraLinear(Float8Linear):
    """With the low-rank update of the layer, the very parameters, whose products autocast makes bfloat16."""

    def __init__(self, linear: LoraLinear):
        super().__init__(linear)
        self.lora_a, self.lora_b, self.scale = linear.lora_a, linear.lora_b, linear.scale

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., K) -> (..., N)."""
        return super().forward(inputs) + update(inputs, self.lora_a, self.lora_b, self.scale)


class _Product(torch.autograd.Function):
    """Rows (M, K) -> (M, N); of the gradient (M, N) -> (M, K)."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        weight: Tensor,
        scales: Tensor,
        backward_weight: Tensor,
        backward_scales: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(backward_weight, backward_scales)
        return _multiply(*quantise_rows(rows), weight, scales, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weight, scales = ctx.saved_tensors
        found = _multiply(*quantise_rows(gradients[0]), weight, scales, None)
        return found, None, None, None, None, None  # autograd casts it to the type of the rows


def _multiply(rows: Tensor, scales: Tensor, weight: Tensor, weight_scales: Tensor, bias: Tensor | None) -> Tensor:
    """(M, K), (M, 1), (N, K), (1, N), (N) -> bfloat16 (M, N)."""
    if rows.is_cuda:  # it wants the second matrix column after column, which the transposed one is
        return _scaled_product(rows, weight.t(), scales, weight_scales, bias=bias, out_dtype=torch.bfloat16)
    with torch.autocast(rows.device.type, enabled=False):  # it would round the sum before it is scaled
        outputs = rows.float() @ weight.float().t() * scales * weight_scales
    return (outputs if bias is None else outputs + bias).to(torch.bfloat16)


def replace(block: nn.Module) -> None:
    """Put a `Float8Linear` in the place of each frozen linear layer in a block: of timm's, qkv, proj, fc1 and fc2.

    Raises:
        ConfigError: a size that GPUs do not take.
    """
    for parent in list(block.modules()):
        for name, child in parent.named_children():
            if isinstance(child, LoraLinear):
                setattr(parent, name, Float8LoraLinear(child))
            elif isinstance(child, nn.Linear) and not any(p.requires_grad for p in child.parameters()):
                setattr(parent, name, Float8Linear(child))


def check_device(device: torch.device) -> None:
    """That this device multiplies 8-bit numbers, by doing it once; a CPU always does, simulated.

    Raises:
        ConfigError: it does not.
    """
    try:
        ones = torch.ones(MULTIPLE, MULTIPLE, device=device)
        numbers, scales = quantise_rows(ones)
        _multiply(numbers, scales, numbers, scales.view(1, -1), ones[0].bfloat16())
    except (RuntimeError, ValueError, AssertionError) as error:  # ruled out, not built in, or no driver
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"train.precision: fp8 does not run on {_named(device)} ({reason}). It needs an NVIDIA GPU of compute "
            "capability 8.9 (Ada), 9.0 (Hopper) or 10.0 (Blackwell): take one, or train.precision: bf16"
        ) from error


def _named(device: torch.device) -> str:
    if device.type != "cuda" or not torch.cuda.is_available():
        return f"{device} here"
    major, minor = torch.cuda.get_device_capability(device)
    return f"{torch.cuda.get_device_name(device)}, of compute capability {major}.{minor}"
