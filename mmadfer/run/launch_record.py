"""What a launch leaves behind in RUN/jobs/launch.json, so that status, cancel and resume need no options.

folds, options             as resolved at the launch; of a sweep, `options.folds` is what `--folds` was
jobs                       SLURM ids by name: `fold 1`, ..., `report`, `export`; of a sweep `array`, `report`
launcher                   the process of a local launch, as in a lease
logs                       where the job files and logs are, if not in RUN/jobs: a sweep's rows have theirs together
"""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from mmadfer.config.base import Line
from mmadfer.errors import FileError, RunError
from mmadfer.run.owner import Owner
from mmadfer.utils.files import read_object, write_json

_Size = Annotated[int, Field(ge=1, le=10**6)]
Name = Annotated[str, Field(pattern=r"^(fold \d{1,6}|report|export|array)$")]
_Number = Annotated[str, Field(pattern=r"^\d{1,12}(_\d{1,9})?$")]
"""SLURM's, of a job or an element of an array."""

PLACE = Path("jobs", "launch.json")
"""In the run directory."""


_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """What a launch, a sweep or a resumption is asked for; None leaves the choice to the launcher or the last launch.

    `mmadfer.cli.launch_options` has the words for the command line; sizes and times are those of a fold.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    folds: Line | None = None
    cluster: Annotated[str, Field(pattern="^(local|slurm)$")] | None = None
    gpus: Annotated[int, Field(ge=0, le=10**6)] | None = None
    nodes: _Size | None = None
    cpus: _Size | None = None
    parallel: _Size | None = None
    time: Line | None = None
    partition: Line | None = None
    account: Line | None = None
    qos: Line | None = None
    constraint: Line | None = None
    export: bool | None = None

    def over(self, kept: "LaunchOptions") -> "LaunchOptions":
        """These, and those that were `kept` where nothing is asked for here."""
        return replace(kept, **{name: value for name, value in asdict(self).items() if value is not None})

    def kept(self, asked: "LaunchOptions") -> "LaunchOptions":
        """What of these still has a meaning in a launch that asks for others."""
        if asked.cluster not in (None, self.cluster):
            return LaunchOptions(folds=self.folds, export=self.export)
        if (asked.gpus, asked.nodes) != (None, None):
            return replace(self, cpus=None, parallel=None)
        return replace(self, parallel=None) if asked.folds else self


@dataclass(frozen=True)
class LaunchRecord:
    """One launch."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    folds: list[_Size]
    options: LaunchOptions
    jobs: dict[Name, _Number] = field(default_factory=dict)
    launcher: Owner | None = None
    logs: str = ""

    @property
    def cluster(self) -> str:
        """`local` or `slurm`."""
        return self.options.cluster or ""

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

    def noted(self, run: Path, jobs: dict[str, str]) -> "LaunchRecord":
        """With more `jobs`, and left in the run directory."""
        record = replace(self, jobs={**self.jobs, **jobs})
        record.write(run)
        return record


def read(run: Path) -> LaunchRecord | None:
    """What the last launch left, or None where the run was made without one.

    Raises:
        RunError: there is one, but it cannot be read: jobs that it names may still run.
    """
    try:
        return _RECORD.validate_json(json.dumps(read_object(run / PLACE)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, FileError, ValidationError) as error:
        raise RunError(
            f"{run / PLACE} cannot be read ({_short(error)}), so nobody knows which jobs of this run still run: end "
            "them with squeue and scancel, or by their processes, and delete the file"
        ) from error


def _short(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])):.80}: {first['msg']:.80}"


_RECORD = TypeAdapter(LaunchRecord)
