"""How a model learns from that of `stages.teacher`, beside its own loss; nothing here imports torch.

    task:
      distill: {name: pkdot, k: 8}
      t_net: {weight: 0.5}

Installed packages may add some (`mmadfer.distillations`): a `mmadfer.tasks.distillation.Distillation` whose `Settings`
derive from `DistillConfig`.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from mmadfer.config.model import Modality, Width
from mmadfer.config.parts import Part, Parts
from mmadfer.config.terms import TermConfig

Positive = Annotated[float, Field(gt=0, le=1e6)]
_FEWEST_SHUFFLED = 3
"""Clips of a micro-batch."""


class DistillConfig(TermConfig, Part):
    """What every kind has."""

    uses_teacher = True
    shuffle: bool = False
    """The control: each clip is compared with what the teacher says of another clip of the batch. What it gains is not
    learnt from the teacher's view of a clip."""

    def term(self) -> Any:
        """Its class, which imports torch."""
        return DISTILLATIONS.made(self)

    def check_with(self, config: Any) -> None:
        """As in `TermConfig`."""
        if not self.shuffle:
            return
        if (clips := config.train.micro_batch) < _FEWEST_SHUFFLED:
            raise ValueError(
                f"task.distill.shuffle needs {_FEWEST_SHUFFLED} clips or more in a micro-batch (two have the same "
                f"similarity in any order), and there are {clips} (train.batch_size {config.train.batch_size} / "
                f"train.accumulate {config.train.accumulate})"
            )
        for key, given in (("task.t_net", config.task.t_net), ("data.augment.mixup", config.data.augment.mixup)):
            if given:
                raise ValueError(
                    "task.distill.shuffle is a control, in which nothing is learnt of what the teacher says of a clip, "
                    f"and with {key} something is: leave {key} out, in the rows that it is compared with, too"
                )


class PkdotConfig(DistillConfig):
    """Optimal transport between rows of similarities (PKDOT, Aslam et al. 2024)."""

    name: str = "pkdot"
    weight: Annotated[float, Field(ge=0, lt=1e6)] = 0.6
    anchors: Literal["lowest", "highest"] = "lowest"
    """Which clips each row is cut down to: those least similar to its clip for the teacher, ascending, as the published
    program; or the most similar, descending, as the paper's words."""
    k: Annotated[int, Field(gt=0, le=1_000_000)] = 30
    """Anchors of each row; less than the clips of a micro-batch over all ranks."""
    blur: Annotated[float, Field(ge=1e-3, le=1e3)] = 0.1
    """Root of the entropic regularisation, in the units of similarities."""
    iterations: Annotated[int, Field(gt=0, le=1_000_000)] = 1000
    """The most for each transport, which ends before where it has converged."""

    def check_with(self, config: Any) -> None:
        """As in `TermConfig`."""
        super().check_with(config)
        if self.k >= (clips := config.train.micro_batch):
            train = config.train
            raise ValueError(
                f"task.distill.k is {self.k}, but it must be less than the {clips} clips of a micro-batch over all "
                f"ranks (train.batch_size {train.batch_size} / train.accumulate {train.accumulate}): set a smaller k, "
                "or a larger batch"
            )


class LogitsConfig(DistillConfig):
    """The teacher's output as a target: of classes, its probabilities (Hinton et al. 2015); values as they are."""

    name: str = "logits"
    temperature: Positive = 4.0
    """Of classes: both sides' logits are divided by it."""


class FeaturesConfig(DistillConfig):
    """The mean squared error of the features before the head."""

    name: str = "features"


class SimilarityConfig(DistillConfig):
    """The mean squared error of the similarities between the clips of a batch."""

    name: str = "similarity"


DISTILLATIONS = Parts(
    "distillation",
    "mmadfer.distillations",
    DistillConfig,
    {
        "mmadfer.tasks.distillation:Pkdot": PkdotConfig,
        "mmadfer.tasks.distillation:Logits": LogitsConfig,
        "mmadfer.tasks.distillation:Features": FeaturesConfig,
        "mmadfer.tasks.distillation:Similarity": SimilarityConfig,
    },
)
"""What of teacher and student is compared."""


class TNetConfig(TermConfig):
    """A network that imitates the teacher's features of a modality from the model's own (the T-Net of PKDOT)."""

    module = "mmadfer.tasks.imitation:Imitation"
    uses_teacher = True
    modality: Modality = "audio"
    """Whose summary by the teacher's encoder is imitated."""
    hidden: tuple[Width, ...] = (256, 128, 256)
    """Widths of the layers between."""
