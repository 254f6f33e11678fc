"""Low-rank updates of frozen linear layers (Hu et al. 2022, "LoRA", section 4.1): W x + b + (alpha / rank) B A x.

A and B learn, W and b don't. A starts uniform in +-1/sqrt(inputs) as every trained linear layer does here, B as zeros,
so the model starts as it is without updates. q, k and v, which timm computes as one layer, have an update each.

Shapes: K inputs, N outputs, r rank, p parts that the outputs consist of (3 where they are q, k and v, else 1).
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmadfer.config.lora import LoraConfig
from mmadfer.model.initializers import Stream

FUSED = "qkv"
"""timm's name of the layer that computes q, k and v."""


class LoraLinear(nn.Linear):
    """A linear layer, (..., K) -> (..., N), that keeps its `weight` and `bias` and gets `lora_a` and `lora_b`.

    `lora_a` (p * r, K) holds A of all parts, one below the other, and `lora_b` (N, r) their B.
    """

    def __init__(self, linear: nn.Linear, config: LoraConfig, parts: int) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.scale = config.scale
        self.lora_a = nn.Parameter(linear.weight.new_empty(parts * config.rank, linear.in_features))
        self.lora_b = nn.Parameter(linear.weight.new_empty(linear.out_features, config.rank))

    def forward(self, inputs: Tensor) -> Tensor:
        """With the update."""
        return super().forward(inputs) + update(inputs, self.lora_a, self.lora_b, self.scale)

    def draw(self, name: str, stream: Stream) -> Tensor | None:
        """A as trained linear layers, B 0; the frozen layer is the encoder's."""
        if name == "lora_a":
            return stream.uniform(self.in_features**-0.5)
        return stream.full(0) if name == "lora_b" else None

    @torch.no_grad()
    def merged(self) -> Tensor:
        """The weight (N, K) with the update: computed in float64, rounded to float32 once, the same on any machine.

        Products of two float32 numbers are exact in float64, and one rank is added after the other: a matrix product
        has an order of its own on every machine, and the hash of one merged model would not be that of another.
        """
        parts = zip(*_parts(self.lora_a.double(), self.lora_b.double()), strict=True)
        return (self.weight.double() + self.scale * torch.cat([_product(b, a) for a, b in parts])).float()


def update(inputs: Tensor, lora_a: Tensor, lora_b: Tensor, scale: float) -> Tensor:
    """What is added to the frozen product: (..., K) -> (..., N), in the type that autocast gives to products."""
    _, outwards = _parts(lora_a, lora_b)
    return functional.linear(functional.linear(inputs, lora_a), scale * torch.block_diag(*outwards))


def _parts(lora_a: Tensor, lora_b: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """(p * r, K) and (N, r) -> p of (r, K) and p of (N / p, r)."""
    count = len(lora_a) // lora_b.shape[1]
    return lora_a.chunk(count), lora_b.chunk(count)


def _product(b: Tensor, a: Tensor) -> Tensor:
    total = b[:, :1] * a[:1]
    for column, row in zip(b.t()[1:], a[1:], strict=True):
        total += column[:, None] * row
    return total


def attach(blocks: Iterable[nn.Module], config: LoraConfig) -> None:
    """Give every linear layer in blocks of an encoder an update; with rank 0 nothing changes."""
    for block in blocks if config.rank else ():
        for parent in list(block.modules()):
            for name, child in parent.named_children():
                if isinstance(child, nn.Linear):
                    setattr(parent, name, LoraLinear(child, config, parts=3 if name == FUSED else 1))
