"""What a sampler that observes is told: the loss, or the score, of each clip of an epoch while it was trained on.

It is told after the epoch, so that the picks of an epoch never change while it lasts. A checkpoint within an epoch
holds the sampler as it was at the epoch's start, and what it will be told up to now.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmadfer.data.loading.samplers import Pick, Sampler
from mmadfer.distributed.ranks import Ranks
from mmadfer.errors import RunError


class Feedback:
    """A number of each of an epoch's clips, the same on all ranks; nothing is gathered where the sampler observes none.

    Args:
        sampler: of the fold.
        ranks: this process and its peers.
    """

    def __init__(self, sampler: Sampler, ranks: Ranks) -> None:
        self.sampler, self._ranks = sampler, ranks
        self._numbers = list[Tensor]()

    def note(self, numbers: Sequence[Tensor]) -> None:
        """Take the numbers (clips,) of this rank's micro-batches of one step; all ranks must call."""
        if self.sampler.observes:
            rows = self._ranks.gather_tensor(torch.stack(list(numbers)))  # (ranks, micro-batches, clips)
            self._numbers.append(rows.transpose(0, 1).flatten())  # in the order of the epoch's picks

    def end_epoch(self, picks: Sequence[Pick]) -> None:
        """Tell the sampler."""
        if self.sampler.observes:
            self.sampler.observe(picks, np.array(self._found(), np.float32))
            self._numbers.clear()

    def state(self) -> dict[str, Any] | None:
        """What a checkpoint keeps, as JSON types; None for a sampler that does not observe."""
        if not self.sampler.observes:
            return None
        numbers = [one if math.isfinite(one) else None for one in self._found()]
        return {"sampler": self.sampler.state_dict(), "told": numbers}

    def load(self, state: dict[str, Any], count: int) -> None:
        """Go on from `state`, with the numbers of `count` clips.

        Raises:
            RunError: it is not of such a sampler.
            DataError: it is of a sampler of other clips.
        """
        try:
            numbers = [math.nan if one is None else float(one) for one in state["told"]]
            if len(numbers) != count:
                raise ValueError(f"it has numbers of {len(numbers)} clips, and {count} were trained on")
            self.sampler.load_state_dict(state["sampler"])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise RunError(f"the sampler cannot go on from its checkpoint: {error!r:.200}") from error
        self._numbers = [torch.tensor(numbers, device=self._ranks.device)] if numbers else []

    def _found(self) -> list[float]:
        return torch.cat(self._numbers).tolist() if self._numbers else []
