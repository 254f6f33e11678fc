"""Float32 in full on a GPU: PyTorch's convolutions there keep 10 of its 23 digits (TF32) unless told not to."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from threading import Lock
from typing import Any, ClassVar

Setting = tuple[Any, str, Any]
"""Where it is, its name, and its value."""
_lock = Lock()


class _Inside:
    """How many threads compute in full, and the settings from before the first of them."""

    count = 0
    before: ClassVar[list[Setting]] = []


@contextmanager
def exact(device: str) -> Iterator[None]:
    """PyTorch's products and convolutions of float32 in the block are just that, also on a `cuda` device.

    The settings are the process's: they hold for all threads meanwhile, and are put back when the last block ends.
    """
    if not device.startswith("cuda"):
        yield
        return
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    with _lock:
        _Inside.count += 1
        if _Inside.count == 1:
            wanted = _full()
            _Inside.before = [(place, name, getattr(place, name)) for place, name, _ in wanted]
            _set(wanted)


def _leave() -> None:
    with _lock:
        _Inside.count -= 1
        if not _Inside.count:
            _set(_Inside.before)


def _full() -> list[Setting]:
    """PyTorch has two sets of settings. The older does nothing where somebody has used the newer, or cannot be read."""
    backends: Any = import_module("torch").backends
    cudnn, products = backends.cudnn, backends.cuda.matmul
    older = [(cudnn, "allow_tf32", False), (products, "allow_tf32", False)]
    try:
        for place, name, _ in older:
            getattr(place, name)
        if "tf32" not in (backends.fp32_precision, cudnn.fp32_precision):
            return older
    except RuntimeError:
        pass
    return [(place, "fp32_precision", "ieee") for place in (cudnn.conv, cudnn.rnn, products)]


def _set(settings: list[Setting]) -> None:
    for place, name, value in settings:
        setattr(place, name, value)
