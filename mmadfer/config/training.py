"""How training moves the weights: steps, optimizer, learning rates and arithmetic; nothing here imports torch."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from mmadfer.config.base import Line, Positive, Section, Seed
from mmadfer.utils.registry import Registry

OPTIMIZERS = Registry(
    "optimizer",
    "mmadfer.optimizers",
    {"adamw": "mmadfer.train.optimizers:adamw", "sgd": "mmadfer.train.optimizers:sgd"},
)
SCHEDULES = Registry(
    "schedule",
    "mmadfer.schedules",
    {"cosine": "mmadfer.train.schedules:cosine", "constant": "mmadfer.train.schedules:constant"},
)
TRACKERS = Registry(
    "tracker",
    "mmadfer.trackers",
    {
        "wandb": "mmadfer.tracking.wandb_tracker:WandbTracker",
        "mlflow": "mmadfer.tracking.mlflow_tracker:MlflowTracker",
    },
)
LearningRate = Annotated[float, Field(gt=0)]
WeightDecay = Annotated[float, Field(ge=0)]

Precision = Literal["reference", "fp32", "bf16", "fp16", "fp8"]
"""Arithmetic of training; `mmadfer.model.precision` says what each means."""

PUBLISHED_BATCH = 8
LR_POWERS = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}


class GroupConfig(Section):
    """Weights with a learning rate of their own."""

    match: Line
    """Which: a pattern of their names as `weights.safetensors` has them, with * for any characters (`temporal.*`)."""
    lr: LearningRate
    """In the place of `train.lr`; schedule, warm-up and `lr_scaling` are the same."""
    weight_decay: WeightDecay | None = None
    """In the place of `train.weight_decay`, if given."""


class TrainConfig(Section):
    """The published recipe: AdamW, cosine to zero stepped once an epoch, no clipping, last epoch is the result."""

    epochs: Positive = 25
    batch_size: Positive = 8
    """Clips in one optimizer step, over all ranks."""
    accumulate: Positive = 1
    """Micro-batches per optimizer step."""
    lr: LearningRate = 1e-4
    """Learning rate of the first epoch (after warm-up); `lr_scaling` says for which batch."""
    lr_scaling: Literal["none", "sqrt", "linear"] = "none"
    """What `lr` becomes with another batch than the published 8: times (batch_size / 8) to the power of 0, 1/2 or 1.
    The root is the rule for optimizers like Adam (Malladi et al. 2022, "On the SDEs and Scaling Rules for Adaptive
    Gradient Algorithms"), the line the one for plain gradient descent (Goyal et al. 2017)."""
    schedule: Annotated[str, AfterValidator(SCHEDULES.check)] = "cosine"
    """How the learning rate falls: `cosine` to zero, stepped once an epoch as published, or `constant`."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs before the schedule in which the learning rate rises, step by step, on a line from 0 to `lr`."""
    optimizer: Annotated[str, AfterValidator(OPTIMIZERS.check)] = "adamw"
    """`adamw` (Loshchilov and Hutter 2019) as published, or `sgd` with `momentum`."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of `sgd`, which adds up gradients as v = momentum v + g, and moves by lr v."""
    weight_decay: WeightDecay = 1e-2
    groups: tuple[GroupConfig, ...] = ()
    """Weights that learn otherwise than `lr` and `weight_decay` say; of several that match, the first counts."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Gradients whose norm, over all weights and ranks, is larger are scaled down to it (Pascanu et al. 2013); by
    default, none are, as published."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of an exponential moving average of the trained weights, one step of it after each optimizer step; tests
    and checkpoints are of the average (Tarvainen and Valpola 2017, "Mean teachers"). 0: none."""
    seed: Seed = 1
    precision: Precision = "fp32"
    compile: Literal["auto"] | bool = "auto"
    """Whether torch.compile makes one program of each encoder layer with its fusion; `auto`: on a GPU that Triton
    knows. On a CPU it needs a C++ compiler and takes half a minute before the first step."""
    checkpoint_activations: bool = False
    """Keep only what goes from layer to layer, and compute the rest again on the way back: for GPUs with little memory,
    at the price of a second forward pass."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """DeepSpeed's ZeRO stage; 0 because the trainable weights take 30 MB."""
    save_every: Positive = 500
    """Optimizer steps between checkpoints; one is also saved at the end of every epoch."""
    keep: Annotated[int, Field(ge=1)] = 2
    """Complete checkpoints kept on disk."""
    log_every: Positive = 20
    trackers: tuple[Annotated[str, AfterValidator(TRACKERS.check)], ...] = ()
    """Where metrics, configuration and states go beside metrics.jsonl and TensorBoard, and the report: `wandb`,
    `mlflow`, or another package's."""

    @property
    def micro_batch(self) -> int:
        """The clips of a micro-batch over all ranks, whose rows some losses compare with each other."""
        return self.batch_size // self.accumulate

    @property
    def scaled_lr(self) -> float:
        """Learning rate of the first epoch, for this batch."""
        return (self.batch_size / PUBLISHED_BATCH) ** LR_POWERS[self.lr_scaling] * self.lr

    @model_validator(mode="after")
    def _warmup_ends(self) -> "TrainConfig":
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} leaves none of {self.epochs} epochs for the schedule")
        return self

    @model_validator(mode="after")
    def _batches_divide(self) -> "TrainConfig":
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}")
        return self

    @model_validator(mode="after")
    def _speed_fits(self) -> "TrainConfig":
        if self.compile is True and self.precision == "reference":
            raise ValueError("compile is true, but precision reference is never compiled: take precision fp32")
        if self.zero_stage == 3 and (self.compile is True or self.precision == "fp8"):
            what = "compile true" if self.compile is True else "precision fp8"
            raise ValueError(f"{what} does not go with weights spread over ranks: take zero_stage 0, 1 or 2")
        if self.zero_stage == 3 and self.ema:
            raise ValueError("ema does not go with weights spread over ranks: take zero_stage 0, 1 or 2")
        return self
