"""How the features of the people who are trained on are drawn together; nothing here imports torch.

task:
  subjects: {weight: 0.5, halves: by_person}
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from mmadfer.config.terms import TermConfig, Weight

Kernels = Annotated[int, Field(ge=1, le=32)]
Factor = Annotated[float, Field(gt=1, le=100)]
_FEWEST = 4
"""Clips of a micro-batch: two in each half."""


class SubjectsConfig(TermConfig):
    """The discrepancy between two halves of a micro-batch (stage 1 of Zeeshan et al. 2023, arXiv 2312.05632)."""

    module = "mmadfer.tasks.subjects:Subjects"
    weight: Weight = 0.5
    """As published: the program adds the losses of both halves, of which the task's own loss is the mean."""
    halves: Literal["by_person", "mixed"] = "by_person"
    """`by_person`: each half has other people. `mixed`: the first and the second half of the clips, whoever they show,
    as the published program does: two random halves of the same people."""
    mmd_gradient: bool = True
    """Whether it draws features together. In the published program, it is a number without a gradient."""
    kernels: Kernels = 5
    factor: Factor = 2.0
    """Between the bandwidths of two kernels."""

    def check_with(self, config: Any) -> None:
        """As in `TermConfig`."""
        train = config.train
        if (clips := train.micro_batch) < _FEWEST:
            raise ValueError(
                f"task.subjects needs two clips or more in each half of a micro-batch, and it has {clips} clips "
                f"(train.batch_size {train.batch_size} / train.accumulate {train.accumulate}): set {_FEWEST} or more"
            )
        if config.data.augment.mixup:
            raise ValueError(
                "task.subjects is of clips of one person each, and data.augment.mixup blends two: set "
                "data.augment.mixup 0"
            )
