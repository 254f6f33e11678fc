"""Logits of many clips in batches, also where the memory holds fewer than were asked for."""

import sys
import warnings
from collections.abc import Sequence

import numpy as np

from mmadfer.contract import Contract
from mmadfer.errors import MmadferError
from mmadfer.runtime.backends import Backend
from mmadfer.runtime.inputs import Inputs

ON_GPU = 8
"""Clips that are computed together on a GPU where neither the caller nor the model says how many. On a CPU it is one:
more are hardly faster, and results then do not depend on what else is predicted."""
FULL = ("out of memory", "allocate memory", "not enough memory", "cudaerrormemoryallocation", "cublas_status_alloc")
"""What engines say when memory is used up; they have no common exception."""


class Batches:
    """A backend and the most clips that it is given at once; where fewer fit, that is found out, told, and kept to."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        allowed = backend.contract.batch
        self.usual = (allowed[1] if allowed else ON_GPU) if backend.device.gpu else 1
        self._most = allowed[2] if allowed else None

    def logits(self, clips: Sequence[Inputs], batch: int | None = None) -> np.ndarray:
        """Logits float32 (clips, C), computed `batch` clips at a time.

        Raises:
            MmadferError: the memory does not hold even one clip, or a logit is not a finite number.
        """
        size, done = min(batch or self.usual, self._most or sys.maxsize), list[np.ndarray]()
        while clips:
            some = clips[:size]
            try:
                done.append(self.backend.logits(*map(np.concatenate, zip(*some, strict=True))))
            except Exception as error:
                if not _full(error):
                    raise
                size = self._most = _fewer(len(some), error)
                continue
            clips = clips[len(some) :]
        return finite(np.concatenate(done), self.backend.contract)


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


def _fewer(tried: int, error: Exception) -> int:
    if tried == 1:
        raise MmadferError(
            f"no memory is left to compute a single clip ({_words(error)}): end what else uses the memory, or take "
            "another device or a smaller model"
        ) from error
    warnings.warn(f"{tried} clips at once do not fit into the memory; going on with {tried // 2}", stacklevel=4)
    return tried // 2


def _full(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in FULL)


def _words(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]
