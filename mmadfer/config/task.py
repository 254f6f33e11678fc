"""What a step computes, as configurations name it; nothing here imports torch."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, model_validator

from mmadfer.config.alignment import AlignConfig
from mmadfer.config.base import Line, Section
from mmadfer.config.distillation import DISTILLATIONS, DistillConfig, TNetConfig
from mmadfer.config.subjects import SubjectsConfig
from mmadfer.config.terms import TermConfig
from mmadfer.tasks.spec import TaskSpec
from mmadfer.tasks.tables import LOSSES, LOSSES_TAKE, TASKS, spec_of

Number = Annotated[float, Field(gt=-1e9, lt=1e9)]


class TaskConfig(Section):
    """What is learnt, and the loss that says how well."""

    name: Annotated[str, AfterValidator(TASKS.check)] = "classification"
    """`classification`: the label of a clip. `regression`: `values` of a clip."""
    loss: Annotated[str, AfterValidator(LOSSES.check)] | None = None
    """By default the task's own: `cross_entropy`, `mse`."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of `cross_entropy`: share of each label that is spread evenly over all classes (Szegedy et al. 2016, "Rethinking
    the Inception Architecture", section 7)."""
    values: dict[Line, tuple[Number, Number]] = Field(default_factory=dict)
    """The values that a task with such an output gives, in order, each with its lowest and highest number."""
    target: Line | None = None
    """The store's target that values are compared with, by default `values`; classes are always the store's `label`."""
    distill: Annotated[SerializeAsAny[DistillConfig] | None, BeforeValidator(DISTILLATIONS.read), DISTILLATIONS] = None
    """What the model learns from that of `stages.teacher`: `pkdot`, `logits`, `features` or `similarity`
    (`mmadfer.config.distillation`)."""
    t_net: TNetConfig | None = None
    """A network beside the model that imitates what the teacher's other encoder says of a clip."""

    align: AlignConfig | None = None
    """Draws the attention of layers to the action units of a clip's class (`mmadfer.config.alignment`)."""
    subjects: SubjectsConfig | None = None
    """Draws the features of the people who are trained on together (`mmadfer.config.subjects`)."""

    @property
    def compared(self) -> str:
        """The name of the target."""
        return self.target or self.spec.target

    @property
    def spec(self) -> TaskSpec:
        """The task."""
        return spec_of(self.name)

    @property
    def terms(self) -> dict[str, TermConfig]:
        """The additional losses that are set, by name."""
        return {name: one for name in type(self).model_fields if isinstance(one := getattr(self, name), TermConfig)}

    @model_validator(mode="after")
    def _classes_are_labels(self) -> "TaskConfig":
        if self.spec.output == "classes" and self.compared != "label":
            raise ValueError(
                f"target is {self.compared}, but task {self.name} gives classes, and those are the store's labels: "
                f"leave target out. To learn {self.compared}, prepare a store with it as its label"
            )
        return self

    @model_validator(mode="after")
    def _loss_fits(self) -> "TaskConfig":
        given, usual = self.spec.output, self.spec.loss
        if self.loss and self.loss != usual and LOSSES_TAKE.get(self.loss, given) != given:
            raise ValueError(
                f"loss {self.loss} is of {LOSSES_TAKE[self.loss]}, but task {self.name} gives {given}: leave loss out, "
                f"for the task's own ({usual})"
            )
        return self

    @model_validator(mode="after")
    def _smoothing_fits(self) -> "TaskConfig":
        loss = self.loss or self.spec.loss
        if self.label_smoothing and (self.spec.output != "classes" or (loss in LOSSES.own and loss != "cross_entropy")):
            raise ValueError(
                f"label_smoothing {self.label_smoothing} is of labels of classes, in the loss cross_entropy; task "
                f"{self.name} gives {self.spec.output}, and its loss is {loss}: leave label_smoothing out"
            )
        return self

    @model_validator(mode="after")
    def _values_fit(self) -> "TaskConfig":
        wanted = self.spec.output == "values"
        if wanted != bool(self.values):
            raise ValueError(
                f"task {self.name} needs values: name each with its lowest and highest number, {{valence: [-1, 1]}}"
                if wanted
                else f"values are for tasks that give values, but {self.name} gives classes: leave them out"
            )
        if odd := [name for name, (low, high) in self.values.items() if not low < high]:
            raise ValueError(f"values.{odd[0]} is {list(self.values[odd[0]])}; it must be [low, high] with low < high")
        return self
