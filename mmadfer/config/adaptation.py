"""Adaptation to people whose clips have no labels, from people whose clips have some; nothing here imports torch.

adapt: {threshold: 0.9, step: 0.02, every: 20, sources: {nearest: 10}}

`mmadfer.train.adaptation` says how it goes.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from mmadfer.config.base import Positive, Section
from mmadfer.config.subjects import Factor, Kernels
from mmadfer.config.terms import Weight

_ALONE = "adapt has losses of its own"
_Share = Annotated[float, Field(gt=0, lt=1)]


class NearestConfig(Section):
    """Some of the people with labels."""

    nearest: Positive
    """How many of them: those whose mean features are nearest to the mean of the people who are adapted to."""


class AdaptConfig(Section):
    """Fold k adapts to the people that it tests (Zeeshan et al. 2023, arXiv 2312.05632).

    A part of their clips adapts, without labels; the others are tested. Needs subjects, and `stages.init`.
    """

    trains: Literal["temporal", "all"] = "temporal"
    """`temporal`: the temporal part and the head alone, on features of all clips that are computed once; clips are then
    seen as in tests. `all`: everything that training trains, on clips as training sees them."""
    share: _Share = 0.5
    """Of each person's clips that adapt. Clips of one media file stay together."""
    labels: Literal["withheld", "given"] = "withheld"
    """`given`: the labels of the clips that adapt are learnt, in the place of pseudo-labels: an upper bound, of which a
    result and a model say so."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """A clip has a pseudo-label where the mean confidence of its two views, as it is and mirrored, is above it."""
    step: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """By which it falls after each time."""
    every: Positive = 20
    """Epochs from one time to the next that pseudo-labels are given; the first is before the first epoch."""
    agree: bool = False
    """Whether both views must be of one class; the published program does not ask."""
    choose: Literal["all", "released"] = "all"
    """From which clips pseudo-labels are chosen: `released`, of those that were chosen the time before, so that none
    ever comes back, as the published program does."""
    weight: Weight = 1.0
    """Of the discrepancy."""
    kernels: Kernels = 5
    """Of the discrepancy."""
    factor: Factor = 2.0
    """Between the bandwidths of two kernels."""
    mmd_gradient: bool = True
    """Whether the discrepancy draws features together. In the published program, it is a number without a gradient."""
    sources: Literal["all"] | NearestConfig = "all"
    """Whose labelled clips are trained on."""

    def check_with(self, config: Any) -> None:
        """Raises ValueError where it does not fit the rest of the configuration; says what to change."""
        self._check_task(config)
        self._check_data(config.data)
        self._check_batch(config.train)
        self._check_threshold(config.train.epochs)
        if config.stages.init is None:
            raise ValueError("adapt begins with a model that knows the other people: set stages.init to its run")
        if self.sources != "all" and config.train.zero_stage == 3:
            raise ValueError("adapt.sources nearest looks at features before training: set train.zero_stage 2 or less")
        if self.trains == "all":
            return
        if config.model.temporal.name == "none":
            raise ValueError(
                "adapt.trains temporal, but model.temporal is none: nothing would learn; set adapt.trains all"
            )
        if config.train.zero_stage:
            raise ValueError("adapt.trains temporal has few weights, which stay in one place: set train.zero_stage 0")

    def _check_task(self, config: Any) -> None:
        if config.task.spec.output != "classes":
            raise ValueError(
                f"adapt gives pseudo-labels of classes, but task {config.task.name} gives values: leave adapt out"
            )
        if terms := [*config.task.terms]:
            raise ValueError(f"{_ALONE}, and task.{terms[0]} is of clips with labels: leave task.{terms[0]} out")
        if config.stages.teacher is not None:
            raise ValueError(f"{_ALONE}, and asks no teacher: leave stages.teacher out")

    def _check_data(self, data: Any) -> None:
        if data.augment.mixup:
            raise ValueError("data.augment.mixup blends labels, and half of the clips have none: set 0 under adapt")
        if data.window is not None:
            raise ValueError("adapt takes whole clips: leave data.window out")
        if data.test_clips > 1:
            raise ValueError(f"data.test_clips is {data.test_clips}, but adapt has one way to look at a clip: set 1")

    def _check_threshold(self, epochs: int) -> None:
        last = threshold_at(epochs - 1, self.threshold, self.step, self.every)
        if last <= 0:
            raise ValueError(
                f"adapt.threshold falls to {last:.2f} in {epochs} epochs, where every clip has a pseudo-label: set a "
                "smaller adapt.step, or more epochs between (adapt.every)"
            )

    def _check_batch(self, train: Any) -> None:
        clips = train.micro_batch
        if clips % 2 or clips < 4:
            raise ValueError(
                f"train.batch_size {train.batch_size} in {train.accumulate} micro-batches makes {clips} clips: half of "
                "them are of who is adapted to, and a discrepancy needs two on each side: make it even, and 4 or more"
            )


def chooses(epoch: int, every: int) -> bool:
    """Whether labels are given anew before this epoch, from 0: at 0, `every`, 2 `every` and so on."""
    return epoch % every == 0


def threshold_at(epoch: int, start: float, step: float, every: int) -> float:
    """The threshold of an epoch, from 0: `start` at first, less `step` after each time that labels were given."""
    return start - step * (epoch // every)
