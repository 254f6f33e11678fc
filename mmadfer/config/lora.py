"""Low-rank updates of frozen linear layers, as configurations name them; nothing here imports torch."""

from typing import Annotated, Literal

from pydantic import Field

from mmadfer.config.base import Section


class LoraConfig(Section):
    """Low-rank updates of the frozen encoders' linear layers (Hu et al. 2022, "LoRA"); rank 8 and alpha 32 in
    CLAIP-Emo. Exports hold them merged into the layers."""

    rank: Annotated[int, Field(ge=0, le=4096)] = 0
    """Of the updates of q, k, v, out, fc1 and fc2 in every block of both encoders; 0: none."""
    alpha: Annotated[float, Field(gt=0, le=1e6)] = 32.0
    """Updates are scaled by alpha / rank."""

    @property
    def scale(self) -> float:
        """Of the updates; there must be some."""
        return self.alpha / self.rank


class TextLoraConfig(LoraConfig):
    """The same of the text encoder; rank 8, alpha 8 and `scale_by: sqrt` are those of arXiv 2407.12927.

    Nothing drops out of the updates, as that program has it with 0.05: training draws nothing in the model.
    """

    alpha: Annotated[float, Field(gt=0, le=1e6)] = 8.0
    """Updates are scaled by alpha / rank, or alpha / sqrt(rank)."""
    scale_by: Literal["rank", "sqrt"] = "rank"
    """`sqrt`: the scale falls with the root of the rank (Kalajdzievski 2023, "A Rank Stabilization Scaling Factor for
    Fine-Tuning with LoRA")."""

    @property
    def scale(self) -> float:
        """As in `LoraConfig`."""
        return self.alpha / (self.rank**0.5 if self.scale_by == "sqrt" else self.rank)
