"""Weights & Biases; `WANDB_MODE=offline` writes to the run, for `wandb sync` on a machine with a network."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmadfer.tracking.tracker import TrackedRun
from mmadfer.utils.files import own_folder
from mmadfer.utils.optional import need

_STEP = "step"


class WandbTracker:
    """A run of the project WANDB_PROJECT (`mmadfer`), in the run's group; a later start goes on with it."""

    def __init__(self, run: TrackedRun) -> None:
        self._wandb, self._run, self._code = need("wandb", extra="wandb"), run, 0
        self._open: Any = None

    def open(self) -> None:
        """Begin; nothing but what is told here is sent: no code, no console, no git."""
        quiet = self._wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True)
        self._open = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", "mmadfer"),
            id=self._run.key,
            name=self._run.name,
            group=self._run.group,
            resume="allow",
            config=dict(self._run.config),
            dir=own_folder(self._run.run / "wandb").parent,
            settings=quiet,
        )
        self._open.define_metric("*", step_metric=_STEP)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Points of curves over the run's own steps, which may go back where it is resumed."""
        self._open.log({_STEP: step, **values})

    def state(self, state: str) -> None:
        """`state` in the summary; a failed one ends with an exit code."""
        self._open.summary["state"], self._code = state, int(state == "failed")

    def file(self, path: Path) -> None:
        """A copy of the file."""
        self._open.save(str(path), base_path=str(path.parent), policy="now")

    def close(self) -> None:
        """Send all, and end."""
        self._open.finish(exit_code=self._code)
