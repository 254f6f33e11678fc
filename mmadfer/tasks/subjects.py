"""Features of people that are drawn together while all of them are trained on (`task.subjects`; stage 1 of Zeeshan et
al. 2023, arXiv 2312.05632).

Halves are of the clips of a micro-batch over all ranks: train.batch_size / train.accumulate clips, the same for any
number of ranks (`mmadfer.tasks.gathering`).

Shapes: B clips of a micro-batch over all ranks.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from mmadfer.tasks.base import Term
from mmadfer.tasks.discrepancy import discrepancy
from mmadfer.tasks.distillation import of_clips
from mmadfer.tasks.gathering import digests, gathered
from mmadfer.tasks.output import Output

_FEWEST = 2
"""Clips of a half."""


class Subjects(Term):
    """The discrepancy between two halves of a micro-batch."""

    def __init__(self, settings: Any, model: Any, teacher: nn.Module | None) -> None:
        super().__init__(settings, model, teacher)
        self._by_person, self._gradient = settings.halves == "by_person", settings.mmd_gradient
        self._kernels = settings.kernels, settings.factor
        self._salt = int(torch.randint(1 << 62, ()))  # of train.seed, on every rank and after every resume

    def forward(self, output: Output, batch: Any, teacher: Output | None) -> dict[str, Tensor]:
        """`loss`, 0 where people make no two halves; `halved`: 1 where they do."""
        features = gathered(of_clips(output))
        first = self._first(batch)
        halves = [[k for k, one in enumerate(first) if one == half] for half in (True, False)]
        halved = min(map(len, halves)) >= _FEWEST
        loss = features.new_zeros(())
        if halved:
            one, other = (features[torch.tensor(half, device=features.device)] for half in halves)
            loss = discrepancy(one, other, *self._kernels, gradient=self._gradient)
        return {"loss": loss, "halved": features.new_tensor(float(halved))}

    def _first(self, batch: Any) -> list[bool]:
        """Of each clip (B), whether it is in the first half."""
        people = gathered(batch.subjects).tolist()
        if not self._by_person:
            return [place < len(people) // 2 for place in range(len(people))]
        order = digests(self._salt, batch.ids, batch.subjects.device)
        return half_of_people(people, gathered(order).tolist())


def half_of_people(people: Sequence[int], order: Iterable[int]) -> list[bool]:
    """Of each clip, whether it is of one of those people who make up about half of the clips; of all, where none can.

    Args:
        people: of each clip; each is on one side with all clips.
        order: a number of each clip. People are taken by the smallest of theirs, until half of the clips are reached:
            numbers that depend on the clips make other halves in every batch.
    """
    first = dict[int, int]()
    for person, number in zip(people, order, strict=True):
        first[person] = min(number, first.get(person, number))
    clips, taken = Counter(people), sorted(first, key=lambda person: first[person])
    sums = list(accumulate(clips[person] for person in taken))
    last = min(range(len(taken)), key=lambda k: abs(2 * sums[k] - len(people)))
    chosen = {*taken[: last + 1]}
    return [person in chosen for person in people]
