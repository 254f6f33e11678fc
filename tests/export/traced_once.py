"""torch's exporter run once for each model: tracing takes seconds, and most exports of these tests are of one."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from needs import needed
from torch import Tensor, nn

from mmadfer.export.graph import to_onnx, tracing, waveform

_KEPT_BYTES = 1 << 30
"""Graphs of larger models are not kept."""


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
    """In the block, a model that has been traced is not traced again: each gets a copy of the graph of the first.

    Graphs are kept on disk, for a few of the full size would fill the memory.
    """
    traced, known = tracing.trace, dict[Any, Path]()

    def trace(module: nn.Module, example: dict[str, Tensor], output: str) -> Any:
        if sum(value.nbytes for value in module.state_dict().values()) > _KEPT_BYTES:
            return traced(module, example, output)
        shapes = tuple((name, value.dtype, tuple(value.shape)) for name, value in example.items())
        key = identity(module), shapes, output
        if key not in known:
            graph, path = traced(module, example, output), Path(folder) / f"{len(known)}.onnx"
            path.write_bytes(graph.SerializeToString())
            known[key] = path
        return needed("onnx").load(known[key])

    with TemporaryDirectory() as folder, patched(trace):
        yield


@contextmanager
def patched(trace: Callable[..., Any]) -> Iterator[None]:
    """In the block, exports trace by this function."""
    with pytest.MonkeyPatch.context() as patch:
        for place in (to_onnx, waveform):
            patch.setattr(place, "trace", trace)
        yield
