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
import warnings
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmadfer.config.schema import Precision, TrainConfig
from mmadfer.errors import MissingDependencyError
from mmadfer.model import float8
from mmadfer.model.block import Block
from mmadfer.model.layer import layer
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.utils.compat import compiled_programs_folder
from mmadfer.utils.float32 import exact
from mmadfer.utils.logs import logger

LOGGER = logger(__name__)

PRODUCT_DTYPES: dict[Precision, torch.dtype] = {
    "reference": torch.float32,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8": torch.bfloat16,
}
"""What products other than fp8's own are computed in."""


def products(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """For a backward pass, and all that is computed again on the way: float32 is that, not the TF32 of GPUs."""
    return exact(device.type) if PRODUCT_DTYPES[precision] == torch.float32 else nullcontext()


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """For a forward pass: its products are in the precision's type."""
    if PRODUCT_DTYPES[precision] == torch.float32:
        return products(precision, device)
    return torch.autocast(device.type, PRODUCT_DTYPES[precision])


def apply(
    model: MMADFER, precision: Precision, device: torch.device, compiled: bool = False, recomputed: bool = False
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
    blocks = [cast(Block, block) for encoder in model.encoders.values() for block in encoder.blocks]
    kind = PRODUCT_DTYPES[precision]
    if precision == "fp8":
        float8.check_device(device)
        for block in blocks:
            float8.replace(block)
    if precision == "reference" or (device.type == "cpu" and kind != torch.float32):
        _write_out_attention(blocks)
    if kind != torch.float32:
        _round_frozen(model, kind)
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
                if not parameter.requires_grad:  # a low-rank update stays as it is
                    parameter.data = parameter.data.to(kind)


def compiles(config: TrainConfig, device: torch.device) -> bool:
    """Whether training on this device compiles its layers; warns where it would, but nothing can be compiled here.

    Raises:
        MissingDependencyError: `train.compile` is true, and nothing can be compiled here.
    """
    if config.compile is False or config.precision == "reference":
        return False
    if config.compile == "auto" and (device.type != "cuda" or config.zero_stage == 3):
        return False
    if not (reason := _cannot_compile(device)):
        return True
    needs = "a C++ compiler (g++, or another one named by CXX)" if device.type == "cpu" else "Triton, gcc and Python.h"
    told = f"torch.compile does not work here, which needs {needs}: {reason}"
    if config.compile == "auto":
        warnings.warn(f"training is not compiled, and slower for it: {told}", stacklevel=2)
        return False
    raise MissingDependencyError(f"train.compile is true, but {told}. Install what is missing, or set it to false")


def _cannot_compile(device: torch.device) -> str:
    """Why not, in a line; empty where a small function could be compiled and run."""
    _keep_programs()
    try:
        torch.compile(torch.sin)(torch.zeros(8, device=device))
    except Exception as error:  # of compilers, of the linker, of the driver
        return str(error).strip().partition("\n")[0]
    return ""


def _compile() -> Any:
    """One program for all layers."""
    _keep_programs()
    torch.compiler.reset()  # a model trained before in this process would count as other shapes
    # else a CPU's program has as many threads as the process that compiled it, and the next one finds it in the cache
    threads: Any = {"cpp.dynamic_threads": True}
    return torch.compile(layer, fullgraph=True, dynamic=False, options=threads)


def _keep_programs() -> None:
    """For later processes, in ~/.cache/mmadfer: torch's own place, in /tmp, is often a job's alone, and anybody's.

    Importing timm already sets TORCHINDUCTOR_CACHE_DIR to that place. What the user has set it to holds, and torch's
    place where there is no home that can be written to.
    """
    if os.environ.get("TORCHINDUCTOR_CACHE_DIR", compiled_programs_folder()) != compiled_programs_folder():
        return
    with suppress(OSError, RuntimeError):
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmadfer" / "compiled"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
            LOGGER.debug(f"compiled programs are kept in {folder}")


def loss_scale(precision: Precision) -> float:
    """What the loss is multiplied by, for the gradients of activations not to vanish in float16's 5 bits of exponent.

    A power of two, and constant: dividing by it is exact, a resumed run knows it, and a step whose gradient still
    overflows is skipped like any other that is not finite.
    """
    return 2.0**12 if precision == "fp16" else 1.0
