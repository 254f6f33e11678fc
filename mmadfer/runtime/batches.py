"""Logits of many clips in batches, also where the memory holds fewer than were asked for."""

import sys
import warnings
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import Any

import numpy as np

from mmadfer.contract import Contract
from mmadfer.errors import MmadferError
from mmadfer.runtime.arrays import Inputs
from mmadfer.runtime.backends.choice import Backend
from mmadfer.utils.memory import first_line, lacks_memory

ON_GPU = 8
"""Clips that are computed together on a GPU where neither the caller nor the model says how many. On a CPU it is one:
more are hardly faster, and results then do not depend on what else is predicted."""
RETRY_AFTER_BATCHES = 32
"""Batches of the size that fits, before a larger one is tried again; twice as many after each time that it does not."""
_turns: dict[int, Lock] = defaultdict(Lock)
"""Of each GPU: what threads computed there at once would take more memory, and no less time."""


class Batches:
    """A backend, and how many clips it is given at once: fewer, for a while, where the memory does not hold them."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        allowed = backend.contract.batch
        self.usual = (allowed[1] if allowed else ON_GPU) if backend.device.gpu else 1
        self._most = self._fits = allowed[2] if allowed else sys.maxsize
        self._patience, self._good = RETRY_AFTER_BATCHES // 2, 0
        device = backend.device
        self._turn: AbstractContextManager[Any] = _turns[device.index] if device.gpu else nullcontext()

    def logits(self, clips: Sequence[Inputs], batch: int | None = None) -> np.ndarray:
        """Logits float32 (clips, C), computed `batch` clips at a time.

        Raises:
            MmadferError: the memory does not hold even one clip, or a logit is not a finite number.
        """
        return finite(self.computed(clips, batch), self.backend.contract)

    def computed(self, clips: Sequence[Inputs], batch: int | None = None) -> np.ndarray:
        """The same, whatever the logits are.

        Raises:
            MmadferError: the memory does not hold even one clip.
        """
        done = list[np.ndarray]()
        while clips:
            some = clips[: min(batch or self.usual, self._most, self._fits)]
            try:
                done.append(self._computed(some))
            except Exception as error:
                if not lacks_memory(error):
                    raise
                self._shrink(len(some), error)
                continue
            clips = clips[len(some) :]
        return np.concatenate(done)

    def _computed(self, some: Sequence[Inputs]) -> np.ndarray:
        arrays = list(map(np.concatenate, zip(*some, strict=True)))
        with self._turn:
            logits = self.backend.logits(*arrays)
        self._good += len(some) == self._fits
        if self._good >= self._patience:  # who else used the memory may be gone
            self._fits, self._good = 2 * self._fits, 0
        return logits

    def _shrink(self, tried: int, error: Exception) -> None:
        if tried == 1:
            raise MmadferError(
                f"no memory is left to compute a single clip ({first_line(error)}): end what else uses the memory, or "
                "take another device or a smaller model"
            ) from error
        warnings.warn(f"{tried} clips at once do not fit into the memory; going on with {tried // 2}", stacklevel=3)
        self._fits, self._patience, self._good = tried // 2, 2 * self._patience, 0


def finite(logits: np.ndarray, contract: Contract) -> np.ndarray:
    """The logits themselves.

    Raises:
        MmadferError: one is not a finite number; else the first label would be told, as if it were meant.
    """
    if not np.isfinite(logits).all():
        raise MmadferError(
            f"the model computes in {contract.arithmetic}, and gave a logit that is not a finite number: the file is "
            "damaged, or its numbers are too small for it. Export it anew, with --precision fp32 or with --data STORE"
        )
    return logits
