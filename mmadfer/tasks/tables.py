"""The tasks and losses there are, by name; nothing here imports torch."""

from mmadfer.tasks.spec import Kind, Score, TaskSpec
from mmadfer.utils.registry import Registry

TASKS = Registry(
    "task",
    "mmadfer.tasks",
    {
        "classification": "mmadfer.tasks.classification:CLASSIFICATION",
        "regression": "mmadfer.tasks.regression:REGRESSION",
    },
)
"""Each is a `TaskSpec`."""
LOSSES = Registry(
    "loss",
    "mmadfer.losses",
    {
        "cross_entropy": "mmadfer.tasks.losses:CrossEntropy",
        "mse": "mmadfer.tasks.losses:MeanSquaredError",
        "ccc": "mmadfer.tasks.losses:Concordance",
        "ccc_unbiased": "mmadfer.tasks.losses:UnbiasedConcordance",
    },
)
LOSSES_TAKE: dict[str, Kind] = {"cross_entropy": "classes", "mse": "values", "ccc": "values", "ccc_unbiased": "values"}
"""The output that each of our own losses is of."""
VALIDATION = "validation_"
"""Before the name of a score: it is of the clips that `data.validation` keeps from training."""


def spec_of(name: str) -> TaskSpec:
    """The task of this name.

    Raises:
        ValueError: there is none.
    """
    found: TaskSpec = TASKS.load(name)
    return found


def of_events(spec: TaskSpec) -> list[tuple[str, str, Score]]:
    """Every score that an epoch may have, those of validation first: its key, how it is called, and what it is."""
    kept = [(f"{VALIDATION}{score.name}", f"validation {score.title}", score) for score in spec.scores]
    return [*kept, *((score.name, score.title, score) for score in spec.scores)]
