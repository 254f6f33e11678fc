"""How the model's attention is drawn to action units, beside its own loss; nothing here imports torch.

task:
  align: {layers: [last], weight: 9}
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from mmadfer.config.terms import TermConfig, Weight
from mmadfer.tasks.codebook import Disgust

Layer = Literal["last"] | Annotated[int, Field(ge=0, lt=1000)]


class AlignConfig(TermConfig):
    """Attention of layers near maps of the clip's class (Belharbi et al. 2024); needs landmarks in the store."""

    module = "mmadfer.tasks.alignment:Alignment"
    name: Literal["au_align"] = "au_align"
    weight: Weight = 9.0
    """The published lambda."""
    layers: Annotated[tuple[Layer, ...], Field(min_length=1)] = ("last",)
    """After which of the model's layers attention is taken, from 0, or `last`; the loss is the mean of theirs."""
    kind: Literal["random_avg", "std_cosine", "l2"] = "random_avg"
    """1 - cosine, as published; the same of attention with mean 0 and deviation 1 over places; or the squared
    difference."""
    disgust: Disgust = "program"
    """The units of Disgust: FACS 5, as the published program has it, or FACS 10, the number in the paper's figure."""

    def places(self, layers: int) -> tuple[int, ...]:
        """The layers by their index, in a model of so many."""
        return tuple(layers - 1 if layer == "last" else layer for layer in self.layers)

    def check_with(self, config: Any) -> None:
        """As in `TermConfig`."""
        model, data, task = config.model, config.data, config.task
        places = self.places(model.layers)
        if odd := [place for place in places if place >= model.layers]:
            raise ValueError(
                f"task.align.layers names layer {odd[0]}, but the model has {model.layers}: name some of 0 to "
                f"{model.layers - 1}, or last"
            )
        if len({*places}) < len(places):
            raise ValueError(f"task.align.layers names a layer twice: {', '.join(map(str, self.layers))}")
        if task.spec.output != "classes":
            raise ValueError(
                f"task.align draws attention to the action units of a class, but task {task.name} gives values: leave "
                "task.align out"
            )
        for key, value in {"model.branches": model.branches, "data.modalities": data.modalities}.items():
            if value == "audio":
                raise ValueError(
                    f"task.align is of attention on faces, and {key} audio shows none: set {key} to both or vision"
                )
        if data.augment.mixup:
            raise ValueError(
                "task.align has one map for a face, and data.augment.mixup blends two faces: set data.augment.mixup 0"
            )
