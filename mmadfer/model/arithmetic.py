"""The arithmetic of training: what each `train.precision` makes of the frozen encoders.

| precision | frozen matrices | products | residuals, LayerNorm, trainable weights, their gradients and optimizer |
|---|---|---|---|
| reference | float32 | float32, attention written out, never compiled: as the published program | float32 |
| fp32 | float32 | float32 | float32 |
| bf16 | bfloat16 | bfloat16 | float32 |
| fp16 | float16 | float16, with a scaled loss | float32 |
| fp8 | 8 bits (`mmadfer.model.float8`) | in 8 bits where matrices are frozen, else bfloat16 | float32 |

Frozen weights have no gradients, so a layer's products cost two thirds of a normal training step: forward, and the
gradient of what went in.
"""

import os
import shutil
from contextlib import AbstractContextManager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from timm.models.vision_transformer import Block
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmadfer.config import Precision, TrainConfig
from mmadfer.errors import MissingDependencyError
from mmadfer.exact import exact
from mmadfer.model.layer import layer
from mmadfer.model.mma_dfer import MMADFER

PRODUCTS: dict[Precision, torch.dtype] = {
    "reference": torch.float32,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8": torch.bfloat16,
}
"""What products other than fp8's own are computed in."""


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """For a forward pass: its products are in the precision's type, or in float32 without the TF32 of GPUs."""
    if PRODUCTS[precision] == torch.float32:
        return exact(device.type)
    return torch.autocast(device.type, PRODUCTS[precision])


def apply(
    model: MMADFER,
    precision: Precision,
    device: torch.device,
    compiled: bool = False,
    recomputed: bool = False,
) -> None:
    """Turn a model into this arithmetic, in place; its forward passes belong into `autocast`.

    Args:
        model: in float32, on any device.
        precision: see above.
        device: where it will compute.
        compiled: let torch.compile make one program of `layer`, for each shape that it meets.
        recomputed: on the way back, compute what is inside of a layer again instead of keeping it.

    Raises:
        ConfigError: a GPU that does not know fp8, or sizes that fp8 does not allow.
    """
    blocks = [cast(Block, block) for encoder in (model.vision, model.audio) for block in encoder.blocks]
    kind = PRODUCTS[precision]
    if precision == "reference" or (device.type == "cpu" and kind != torch.float32):
        _write_out_attention(blocks)
    if kind != torch.float32:
        _round_frozen(model, kind)
    if precision == "fp8":
        from mmadfer.model import float8

        float8.check(device)
        for block in blocks:
            float8.replace(block)
    run = _compile() if compiled else layer
    model.layer = partial(checkpoint, run, use_reentrant=False, preserve_rng_state=False) if recomputed else run


def _write_out_attention(blocks: list[Block]) -> None:
    """On a CPU in half precision, PyTorch's fused attention with its gradient takes four times as long."""
    for block in blocks:
        cast(Any, block.attn).fused_attn = False


def _round_frozen(model: MMADFER, kind: torch.dtype) -> None:
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and not module.weight.requires_grad:
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(kind)


def compiles(config: TrainConfig, device: torch.device) -> bool:
    """Whether training on this device compiles its layers.

    Raises:
        MissingDependencyError: `train.compile` is true, and what compiling needs is missing.
    """
    if config.compile is False or config.precision == "reference":
        return False
    missing = _missing(device)
    if config.compile == "auto":
        return device.type == "cuda" and not missing and config.zero_stage < 3
    if missing:
        raise MissingDependencyError(f"train.compile is true, which needs {missing}: install it, or set it to false")
    return True


def _missing(device: torch.device) -> str:
    """What torch.compile lacks on this device; empty if nothing."""
    if device.type == "cpu":
        return "" if shutil.which(os.environ.get("CXX", "g++")) else "a C++ compiler (g++, or another one named by CXX)"
    if find_spec("triton") is None:
        return "Triton"
    if torch.cuda.get_device_capability(device) < (7, 0):
        return f"a GPU of compute capability 7.0 or newer ({torch.cuda.get_device_name(device)} is older)"
    found = any(shutil.which(name) for name in (os.environ.get("CC", ""), "gcc", "clang") if name)
    return "" if found else "a C compiler (gcc, or another one named by CC)"


def _compile() -> Any:
    """One program for all layers, kept for later processes in ~/.cache/mmadfer or in TORCHINDUCTOR_CACHE_DIR."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(home / "mmadfer" / "compiled"))
    torch.compiler.reset()  # a model trained before in this process would count as other shapes
    return torch.compile(layer, fullgraph=True, dynamic=False)


def loss_scale(precision: Precision) -> float:
    """What the loss is multiplied by, for the gradients of activations not to vanish in float16's 5 bits of exponent.

    A power of two, and constant: dividing by it is exact, a resumed run knows it, and a step whose gradient still
    overflows is skipped like any other that is not finite.
    """
    return 2.0**12 if precision == "fp16" else 1.0
