"""What training spends: seconds, and joules where GPUs count them (NVML), for the record of a run."""

import ctypes
import math
import time
from collections.abc import Callable

import torch

from mmadfer.distributed.ranks import Ranks
from mmadfer.run.checkpoint_state import Progress

_LIBRARY = "libnvidia-ml.so.1"
"""Comes with NVIDIA's driver."""
Counter = Callable[[], float]
"""Gives the joules since the driver was loaded; NaN where it cannot be read."""


class Spent:
    """Adds up for a fold what it has spent since the last time; all ranks call it together.

    Args:
        ranks: this process and its peers; what their GPUs used is added up, whoever used them.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks, self._gpu = ranks, ranks.device.type == "cuda"
        self._read = counter(ranks.device) if self._gpu else None
        self.start()

    def begin(self) -> Progress:
        """That of a fold which has spent nothing yet."""
        return Progress(joules=0.0 if self._gpu else None)

    def start(self) -> None:
        """Count from now on."""
        self._clock, self._joules = time.monotonic(), self._now()

    def add(self, at: Progress) -> None:
        """Add what was spent; joules become None for good where one GPU does not tell them."""
        clock, joules = self._clock, self._joules
        self.start()
        at.seconds += self._clock - clock
        if self._gpu:
            used = sum(row[0] for row in self._ranks.gather([self._joules - joules]))
            at.joules = None if at.joules is None or math.isnan(used) else at.joules + max(0.0, used)

    def _now(self) -> float:
        return math.nan if self._read is None else self._read()


def counter(device: torch.device) -> Counter | None:
    """The energy counter of a GPU; None where the driver gives none, as of a part of a GPU (MIG), or before Volta."""
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    try:
        return None if uuid is None else nvml_counter(ctypes.CDLL(_LIBRARY), f"GPU-{uuid}")
    except (OSError, AttributeError):  # no such library, or an old one
        return None


def nvml_counter(library: ctypes.CDLL, uuid: str) -> Counter | None:
    """The counter of the GPU with this UUID, by NVML; None where the library refuses.

    Raises:
        AttributeError: the library lacks a function.
    """
    handle = ctypes.c_void_p()
    if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(handle)):
        return None
    ask = library.nvmlDeviceGetTotalEnergyConsumption

    def joules() -> float:
        millijoules = ctypes.c_ulonglong()
        return math.nan if ask(handle, ctypes.byref(millijoules)) else millijoules.value / 1000

    return None if math.isnan(joules()) else joules
