"""What each fold of a launch gets."""

from dataclasses import asdict, dataclass
from typing import Any

from mmadfer.run.launch_record import LaunchOptions


@dataclass(frozen=True)
class Resources:
    """What each fold gets."""

    cluster: str
    gpus: int
    """GPUs of a fold, over all its nodes; there is one rank per GPU, and one per node without GPUs."""
    nodes: int
    cpus: int
    """CPU cores of a fold, over all its nodes."""
    parallel: int
    """Folds at the same time."""
    minutes: int
    """Time limit of a job."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None

    def options(self, **more: Any) -> LaunchOptions:
        """What `plan.resources` makes the same of, and `more`."""
        values = asdict(self)
        return LaunchOptions(time=str(values.pop("minutes")), **values, **more)

    @property
    def ranks_per_node(self) -> int:
        """Processes of a fold on each of its nodes."""
        return max(1, self.gpus // self.nodes)

    @property
    def threads(self) -> int:
        """CPU threads of each rank."""
        return max(1, self.cpus // (self.ranks_per_node * self.nodes))
