"""What a sampler that observes is told: the loss of each clip of an epoch while it was trained on.

It is told after the epoch, so that the picks of an epoch never change while it lasts. A checkpoint within an epoch
holds the sampler as it was at the epoch's start, and the losses up to now.
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
    """The losses of an epoch's clips, the same on every rank; nothing is gathered for a sampler that does not observe.

    Args:
        sampler: of the fold.
        ranks: this process and its peers.
    """

    def __init__(self, sampler: Sampler, ranks: Ranks) -> None:
        self.sampler, self._ranks = sampler, ranks
        self._losses = list[Tensor]()

    def note(self, losses: Sequence[Tensor]) -> None:
        """Take the losses (clips,) of this rank's micro-batches of one step; all ranks must call."""
        if self.sampler.observes:
            rows = self._ranks.gather_tensor(torch.stack(list(losses)))  # (ranks, micro-batches, clips)
            self._losses.append(rows.transpose(0, 1).flatten())  # in the order of the epoch's picks

    def end_epoch(self, picks: Sequence[Pick]) -> None:
        """Tell the sampler."""
        if self.sampler.observes:
            self.sampler.observe(picks, np.array(self._found(), np.float32))
            self._losses.clear()

    def state(self) -> dict[str, Any] | None:
        """What a checkpoint keeps, as JSON types; None for a sampler that does not observe."""
        if not self.sampler.observes:
            return None
        losses = [loss if math.isfinite(loss) else None for loss in self._found()]
        return {"sampler": self.sampler.state_dict(), "losses": losses}

    def load(self, state: dict[str, Any], count: int) -> None:
        """Go on from `state`, with the losses of `count` clips.

        Raises:
            RunError: it is not of such a sampler.
        """
        try:
            losses = [math.nan if loss is None else float(loss) for loss in state["losses"]]
            if len(losses) != count:
                raise ValueError(f"it has {len(losses)} losses, and {count} clips were trained on")
            self.sampler.load_state_dict(state["sampler"])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise RunError(f"the sampler cannot go on from its checkpoint: {error!r:.200}") from error
        self._losses = [torch.tensor(losses, device=self._ranks.device)] if losses else []

    def _found(self) -> list[float]:
        return torch.cat(self._losses).tolist() if self._losses else []
