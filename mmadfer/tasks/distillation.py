"""What a model learns from a teacher's, which may see more of a clip than it does (`task.distill`, `stages.teacher`).

Features are those that the head makes the output of (`Output.pooled`), in float32. With an output for each step, the
features of a clip are their mean over steps: neighbouring steps are nearly equal, so that rows of steps would mostly be
compared within a clip.

Similarities are between the clips of a micro-batch over all ranks: train.batch_size / train.accumulate clips, the same
for any number of ranks (`mmadfer.tasks.gathering`).

Shapes: B clips of a micro-batch over all ranks, T steps, W features, C outputs.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, mse_loss

from mmadfer.errors import ConfigError
from mmadfer.tasks.base import Batch, Term
from mmadfer.tasks.gathering import digests, gathered, place
from mmadfer.tasks.optimal_transport import anchor_rows, divergence, similarity
from mmadfer.tasks.output import Output


def of_clips(output: Output) -> Tensor:
    """The features (B, W) of clips."""
    return output.pooled if output.pooled.ndim == 2 else output.pooled.mean(dim=1)


class Distillation(Term):
    """A comparison of the model's output with the teacher's; subclasses say which.

    Raises:
        ConfigError: the teacher lacks a modality that the model has, or has an output of another kind.
    """

    uses_teacher = True

    def __init__(self, settings: Any, model: Any, teacher: Any) -> None:
        super().__init__(settings, model, teacher)
        check_pair(model.config, teacher.config)
        self.shuffle = settings.shuffle
        self._salt = int(torch.randint(1 << 62, ()))  # of train.seed, on every rank and after every resume

    def forward(self, output: Output, batch: Batch, teacher: Output | None) -> dict[str, Tensor]:
        """`loss` ()."""
        assert teacher is not None
        return {"loss": self.compare(output, self._of_others(teacher, batch.ids) if self.shuffle else teacher)}

    def compare(self, own: Output, theirs: Output) -> Tensor:
        """The loss () of what both say of this rank's clips."""
        raise NotImplementedError

    def _of_others(self, teacher: Output, ids: list[str]) -> Output:
        """What the teacher says of other clips of the micro-batch: which, is a function of the seed and of their ids.

        A clip gets the one that is half of the batch further in the order of digests: never itself, nor, where it comes
        several times, another view of it, unless it fills half of the batch or more.
        """
        order = gathered(digests(self._salt, ids, teacher.logits.device)).argsort(stable=True)
        partners = torch.empty_like(order)
        partners[order] = order.roll(len(order) // 2)
        own = partners.chunk(place()[1])[place()[0]]
        told = {name: gathered(getattr(teacher, name))[own] for name in ("logits", "sequence", "pooled")}
        return teacher._replace(**told, features={})


def check_pair(own: Any, theirs: Any) -> None:
    """Raises ConfigError where a model of the configuration `own` has nothing to learn from one of `theirs`."""
    if lacking := sorted({*own.modalities} - {*theirs.modalities}):
        raise ConfigError(
            f"stages.teacher: its model takes {theirs.branches} alone, but this one also takes {lacking[0]}: a teacher "
            "must see and hear what its student does. Set model.branches to the teacher's, or give another teacher"
        )
    if own.head.per != theirs.head.per:
        raise ConfigError(
            f"stages.teacher: its model has an output per {theirs.head.per}, and this one per {own.head.per}: set "
            "model.head.per to the teacher's, or give another teacher"
        )


class Pkdot(Distillation):
    """Rows of both similarity matrices, at the teacher's anchors, by optimal transport (PKDOT, Aslam et al. 2024)."""

    def __init__(self, settings: Any, model: Any, teacher: Any) -> None:
        super().__init__(settings, model, teacher)
        self._anchors = settings.k, settings.anchors
        self._transport = settings.blur, settings.iterations

    def compare(self, own: Output, theirs: Output) -> Tensor:
        """As in `Distillation`."""
        rows = anchor_rows(gathered(of_clips(theirs)), gathered(of_clips(own)), *self._anchors)
        return divergence(*rows, *self._transport)


class Logits(Distillation):
    """Probabilities of classes as targets (Hinton et al. 2015, "Distilling the Knowledge in a Neural Network").

    The divergence is times the squared temperature, so that its gradient is of one size at any. Of values, the mean
    squared error.
    """

    def __init__(self, settings: Any, model: Any, teacher: Any) -> None:
        super().__init__(settings, model, teacher)
        self._temperature = settings.temperature

    def compare(self, own: Output, theirs: Output) -> Tensor:
        """As in `Distillation`."""
        if self.kind == "values":
            return mse_loss(own.logits, theirs.logits)
        said, told = ((one.logits / self._temperature).log_softmax(-1) for one in (own, theirs))
        return self._temperature**2 * kl_div(said, told, reduction="batchmean", log_target=True)


class Features(Distillation):
    """Mean squared error of the features, of steps where there are such; if widths differ, through a linear layer."""

    def __init__(self, settings: Any, model: Any, teacher: Any) -> None:
        super().__init__(settings, model, teacher)
        widths = model.config.width, teacher.config.width
        self.to_teacher = nn.Identity() if widths[0] == widths[1] else nn.Linear(*widths)

    def compare(self, own: Output, theirs: Output) -> Tensor:
        """As in `Distillation`."""
        return mse_loss(self.to_teacher(own.pooled), theirs.pooled)


class Similarity(Distillation):
    """Mean squared difference of the cosines between clips, the squared Frobenius norm over B^2.

    So Tung and Mori 2019 ("Similarity-preserving knowledge distillation") compare batches, with other similarities.
    """

    def compare(self, own: Output, theirs: Output) -> Tensor:
        """As in `Distillation`."""
        return mse_loss(similarity(gathered(of_clips(own))), similarity(gathered(of_clips(theirs))))
