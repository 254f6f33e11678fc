"""Devices by name: `cpu`, `cuda`, `cuda:1`, `tensorrt`, `tensorrt:1`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mmadfer.errors import MissingDependencyError

_DEVICE_KINDS = ("cpu", "cuda", "tensorrt")
"""`tensorrt` is a GPU, through ONNX Runtime's provider of that name."""


@dataclass(frozen=True)
class Device:
    """Where a model computes."""

    kind: str
    index: int = 0
    """Of several GPUs."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.index}" if self.index else self.kind

    @property
    def gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.kind != "cpu"

    @property
    def torch(self) -> str:
        """The name by which torch knows it."""
        return f"cuda:{self.index}" if self.gpu else "cpu"


def parse_device(name: str | None, kinds: Sequence[str] = _DEVICE_KINDS) -> Device:
    """A device by its name.

    Args:
        name: one of `kinds`; a GPU with its number behind a colon, if it is not the first. None: the first of `kinds`.
        kinds: those that can be used here.

    Raises:
        MissingDependencyError: there is no such device; says which there are.
    """
    found = re.fullmatch(r"([a-z]+)(?::(\d+))?", kinds[0] if name is None else name)
    if not found or found[1] not in kinds or (found[1] == "cpu" and found[2]):
        raise MissingDependencyError(
            f"no device {name!r} for this model; it can use {', '.join(kinds)}, cuda:1 for the second of several GPUs"
        )
    return Device(found[1], int(found[2] or 0))
