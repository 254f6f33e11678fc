"""An exponential moving average of the trained weights (Tarvainen and Valpola 2017, "Mean teachers", section 2)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mmadfer.utils import compat


class Average:
    """Follows the weights on their device; nothing here waits for it.

    It begins as the first weights: a_0 = w_0, and a_n = decay a_(n-1) + (1 - decay) w_n after the n-th step that moved
    them. So it needs no correction for its start, and with few steps it is still near to where training began.

    Args:
        weights: by name; all of each on this rank (not at ZeRO stage 3).
        decay: in (0, 1).
    """

    def __init__(self, weights: dict[str, nn.Parameter], decay: float) -> None:
        self._names, self._decay = list(weights), decay
        self._weights: list[Tensor] = list(weights.values())
        self._values = self._copies()

    @torch.no_grad()
    def follow(self, moved: Tensor) -> None:
        """Count a step: `moved` () is 1 where it moved the weights, and 0 where it was skipped."""
        compat.move_towards(self._values, self._weights, moved * (1 - self._decay))

    @contextmanager
    def instead(self) -> Iterator[None]:
        """The average in the place of the weights, which are as before afterwards, to the bit."""
        aside = self._copies()
        self._put(self._values)
        try:
            yield
        finally:
            self._put(aside)

    @torch.no_grad()
    def load(self, path: Path) -> None:
        """Go on from the average in a safetensors file."""
        saved = load_file(path)
        for name, value in zip(self._names, self._values, strict=True):
            value.copy_(saved[name])

    def _copies(self) -> list[Tensor]:
        return [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        compat.copy_all(self._weights, values)
