"""What `mmadfer.train.measure` leaves behind, as plain numbers that a launcher reads without torch."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmadfer.run import directory as runs
from mmadfer.utils.files import write_json


@dataclass(frozen=True)
class EpochSize:
    """How much an epoch of one fold is."""

    fold: int
    steps: int
    """Optimizer steps."""
    clips: int
    """Test clips."""
    validation: int = 0
    """Clips that `data.validation` keeps from training: tested after each epoch, and the test clips after the last."""


@dataclass(frozen=True)
class Measured:
    """A short training of one fold. Seconds, and bytes; over ranks the largest."""

    at: str
    """Time in UTC."""
    processor: str
    """The GPU's name, or the CPU's without one."""
    compiled: bool
    fold: int
    ranks: int
    sizes: list[EpochSize]
    """Of all folds that are to be trained."""
    steps: int
    """Steps that counted."""
    rounds: int
    """Epochs that these steps and those before them went into."""
    start: float
    """From the start of the process to the end of the first step, and what the first test takes more than others."""
    step: float
    """Mean of the steps, with their waits for data."""
    low: float
    """Tenth percentile of the steps."""
    high: float
    """Ninetieth percentile."""
    waiting: float
    """Share of the steps' time in which the loader was waited for, 0 to 1; on a GPU, some of it beside other work."""
    clip: float
    """Testing one clip once, on one rank."""
    save: float
    """Saving one checkpoint."""
    checkpoint: int
    """Size of one checkpoint."""
    weights: int
    """All weights of the model in float32, as an export holds them."""
    gpu: int
    """Most memory in use on a GPU: by this rank, and by whatever lies beside it. 0 without a GPU."""
    gpu_total: int
    host: int
    """Most memory of a rank's process."""
    host_total: int
    """What a job may have of it on a node: the least of what SLURM, control groups and the machine give."""

    def write(self, folder: Path) -> None:
        """Leave it as the result of a fold directory."""
        write_json(folder / "result.json", {"finished": True, **asdict(self)})


def read(folder: Path) -> Measured | None:
    """What `Measured.write` left, or None."""
    found = runs.result(folder)
    if found is None:
        return None
    values: dict[str, Any] = {key: value for key, value in found.items() if key != "finished"}
    return Measured(**{**values, "sizes": [EpochSize(**size) for size in values["sizes"]]})
