"""What a launch leaves behind in RUN/jobs/launch.json, so that status, cancel and resume need no options.

cluster, folds, options    as resolved at the launch; `options` are those of `plan.resources`, and `export`
jobs                       SLURM ids by name: `fold 1`, ..., `report`, `export`; of a sweep `array`, `report`
launcher                   the process of a local launch, as in a lease
logs                       where the job files and logs are, if not in RUN/jobs: a sweep's rows have theirs together
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmadfer.errors import RunError
from mmadfer.files import write_json
from mmadfer.owner import Owner

PLACE = Path("jobs", "launch.json")
"""In the run directory."""


@dataclass(frozen=True)
class Record:
    """One launch."""

    cluster: str
    folds: list[int]
    options: dict[str, Any]
    jobs: dict[str, str] = field(default_factory=dict)
    launcher: Owner | None = None
    logs: str = ""

    @property
    def launching(self) -> bool:
        """Whether the process of a local launch is known to be alive; it can only be on its own machine."""
        return self.launcher is not None and self.launcher.here() and not self.launcher.dead()

    @property
    def followers(self) -> list[str]:
        """SLURM ids of the jobs that come after the folds; the last one first."""
        return [self.jobs[name] for name in ("export", "report") if name in self.jobs]

    @property
    def fold_ids(self) -> dict[int, str]:
        """SLURM id of each fold."""
        return {int(name[5:]): job for name, job in self.jobs.items() if name.startswith("fold ")}

    def folder(self, run: Path) -> Path:
        """Where the jobs leave their files."""
        return Path(self.logs) if self.logs else run / PLACE.parent

    def write(self, run: Path) -> None:
        """Leave it in the run directory."""
        write_json(run / PLACE, asdict(self))


def read(run: Path) -> Record | None:
    """What the last launch left, or None where the run was made without one.

    Raises:
        RunError: there is one, but it cannot be read: jobs that it names may still run.
    """
    try:
        found = json.loads((run / PLACE).read_text(encoding="utf-8"))
        launcher = found.pop("launcher", None)
        return Record(**found, launcher=Owner(**launcher) if launcher else None)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RunError(
            f"{run / PLACE} cannot be read ({error}), so nobody knows which jobs of this run still run: end them with "
            "squeue and scancel, or by their processes, and delete the file"
        ) from error
