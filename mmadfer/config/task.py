"""What a step computes, as configurations name it; nothing here imports torch."""

from typing import Annotated

from pydantic import AfterValidator, Field

from mmadfer.config.base import Section
from mmadfer.tasks.tables import LOSSES


class TaskConfig(Section):
    """What is learnt, and the loss that says how well."""

    loss: Annotated[str, AfterValidator(LOSSES.check)] = "cross_entropy"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each label that is spread evenly over all classes (Szegedy et al. 2016, "Rethinking the Inception
    Architecture", section 7)."""
