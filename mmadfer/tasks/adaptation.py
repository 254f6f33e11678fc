"""The loss of a batch with clips of labelled people and of who is adapted to (Zeeshan et al. 2023, arXiv 2312.05632).

    loss = task loss (labelled clips) + task loss (others, pseudo-labels) + weight x MMD (labelled clips, others)

Each is a mean over the micro-batch, of all ranks. Without a pseudo-label among the others, the second is 0.
"""

from dataclasses import replace
from typing import Any

from torch import Tensor

from mmadfer.tasks.base import Parts
from mmadfer.tasks.discrepancy import discrepancy
from mmadfer.tasks.gathering import gathered, mean_count
from mmadfer.tasks.output import Output


class AdaptationLoss:
    """Of the settings of `adapt` (`mmadfer.config.adaptation`), and of the target that holds the labels."""

    def __init__(self, settings: Any, target: str) -> None:
        self._settings, self._target = settings, target

    def __call__(self, said: Output, batch: Any, parts: Parts) -> dict[str, Tensor]:
        """`parts` of the labelled clips, with the whole `loss`; also `source_loss`, `target_loss`, `mmd`, and `chosen`,
        the share of the others that have a pseudo-label."""
        sources, others = ~batch.adapted, batch.adapted & (batch.targets[self._target] >= 0)
        found = parts(said.logits[sources], self._rows(batch, sources))
        own, far = found["loss"], self._of_chosen(said.logits, batch, others, parts)
        apart = self._discrepancy(said.pooled, batch.adapted)
        share = others.sum() / batch.adapted.sum()
        told = {"source_loss": own, "target_loss": far, "mmd": apart, "chosen": share}
        return {**found, "loss": own + far + self._settings.weight * apart, **told}

    def _of_chosen(self, logits: Tensor, batch: Any, chosen: Tensor, parts: Parts) -> Tensor:
        """The mean over the pseudo-labels of all ranks, of which each may have several, ()."""
        here, mean = chosen.sum(), mean_count(chosen)
        if not here:
            return 0 * logits.sum()
        return parts(logits[chosen], self._rows(batch, chosen))["loss"] * (here / mean)

    def _discrepancy(self, pooled: Tensor, adapted: Tensor) -> Tensor:
        settings = self._settings
        sources, others = gathered(pooled[~adapted]), gathered(pooled[adapted])
        return discrepancy(sources, others, settings.kernels, settings.factor, settings.mmd_gradient)

    def _rows(self, batch: Any, rows: Tensor) -> Any:
        """The batch with the targets of some clips alone; inputs are not looked at any more."""
        ids = [name for name, kept in zip(batch.ids, rows.tolist(), strict=True) if kept]
        return replace(batch, targets={name: values[rows] for name, values in batch.targets.items()}, ids=ids)
