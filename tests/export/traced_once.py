"""torch's exporter run once for each model: tracing takes seconds, and most exports of these tests are of one."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch import Tensor, nn

from mmadfer.export.graph import to_onnx, tracing, waveform

_KEPT_BYTES = 64 << 20
"""Graphs of larger models are not kept: a few of the full size would fill the memory."""


def identity(module: nn.Module) -> str:
    """SHA-256 over all that a trace depends on: the modules, their plain attributes, and their tensors."""
    digest = hashlib.sha256()
    for name, part in module.named_modules():
        own = {key: repr(value) for key, value in vars(part).items() if key[0] != "_"}
        plain = {key: told for key, told in own.items() if " at 0x" not in told}
        digest.update(f"{name} {type(part)} {sorted(plain.items())}\n".encode())
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode() + value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def traced_once() -> Iterator[None]:
    """In the block, a model that has been traced is not traced again: each gets a copy of the graph of the first."""
    traced, known = tracing.trace, dict[Any, Any]()

    def trace(module: nn.Module, example: dict[str, Tensor], output: str) -> Any:
        if sum(value.nbytes for value in module.state_dict().values()) > _KEPT_BYTES:
            return traced(module, example, output)
        shapes = tuple((name, value.dtype, tuple(value.shape)) for name, value in example.items())
        key = identity(module), shapes, output
        if key not in known:
            known[key] = traced(module, example, output)
        copy = type(known[key])()
        copy.CopyFrom(known[key])
        return copy

    with patched(trace):
        yield


@contextmanager
def patched(trace: Callable[..., Any]) -> Iterator[None]:
    """In the block, exports trace by this function."""
    with pytest.MonkeyPatch.context() as patch:
        for place in (to_onnx, waveform):
            patch.setattr(place, "trace", trace)
        yield
