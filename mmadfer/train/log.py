"""What a fold writes while it trains: metrics.jsonl, TensorBoard, log.txt and the terminal. Rank 0 alone writes.

metrics.jsonl has one event a line. `step` counts optimizer steps of the whole run, `epoch` from 1:
    step    epoch, step, loss, lr, norm          every train.log_every steps
    skip    epoch, step, reason, ids             a step that was not finite; ids: clips of the ranks to blame
    epoch   epoch, step, loss, lr, SCORES, seconds, clips_per_second
            with data.validation: validation_SCORES, and SCORES in the last epoch only
    resume  epoch, step;  stop  epoch, step;  end  epoch, step, SCORES, seconds
    unadapted  epoch, step, SCORES               under adapt, before the first step: of the model that is begun with
    labels  epoch, step, threshold, chosen, clips   under adapt, before this step: how many have a pseudo-label
SCORES are the task's own, by their names; parts of the loss that a task names stand behind `loss`, null where they are
not finite.
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmadfer.config.schema import Config
from mmadfer.run.disk import explain_write_errors
from mmadfer.run.lease import Held
from mmadfer.tracking import Trackers
from mmadfer.tracking.tracker import tracked
from mmadfer.utils.files import no_link, own_folder, read_bytes
from mmadfer.utils.logs import logger
from mmadfer.utils.optional import need

LOGGER = logger(__name__)

BREATH = 30.0
"""Seconds between lines on the terminal within an epoch."""

_MAX_LOG_BYTES = 1 << 30
"""Bytes of a log that is gone on with."""
PLAIN = ("epoch", "step", "seconds")
"""Numbers that are no curve."""
_STATES = {"stop": "stopped", "end": "finished"}
"""Event -> what trackers are told in the end."""


class Log:
    """Writes for rank 0, and does nothing on the others.

    Args:
        folder: the fold directory.
        held: its lease; once that is lost, nothing more is written.
        main: whether this is rank 0.
        prefix: put before each line on the terminal.
        echo: where lines go beside log.txt.
    """

    def __init__(
        self, folder: Path, held: Held, main: bool, prefix: str, echo: Callable[[str], None] | None = None
    ) -> None:
        self._folder, self._held, self._main, self._prefix = Path(folder), held, main, prefix
        self._echo = echo or LOGGER.info
        self._board: Any = None
        self._trackers: Trackers | None = None
        self._state = "failed"
        """What trackers are told at the end: where no event has said better, training was cut short."""

    def open(self, total: int, config: Config, fold: int) -> None:
        """Begin after `total` steps of the run: what an earlier start wrote of later ones is cut off.

        Both files become new ones, so that an earlier start that still lives cannot add to them. Trackers are told of
        the configuration.

        Raises:
            MissingDependencyError: TensorBoard, or a tracker of the configuration, is not installed.
        """
        if not self._main:
            return
        need("tensorboard", "train")
        board = need("torch.utils.tensorboard", "train")
        with explain_write_errors(self._folder):
            self._renew("metrics.jsonl", lambda line: _keep(line, total))
            self._renew("log.txt", lambda line: True)
            place = str(own_folder(self._folder / "tensorboard"))
            self._board = board.SummaryWriter(place, purge_step=total + 1, flush_secs=30)
        if config.train.trackers:
            run = tracked(self._folder.parent, config, f"fold {fold}")
            self._trackers = Trackers(config.train.trackers, run, self.say)
            self._trackers.state("running")

    def event(self, kind: str, /, **values: Any) -> None:
        """One line of metrics.jsonl, and its curves in TensorBoard and trackers; what is not finite becomes null."""
        if not self._main:
            return
        line = {"event": kind, **{name: _finite(value) for name, value in values.items()}}
        if not self._append("metrics.jsonl", json.dumps(line)):
            return
        self._state = _STATES.get(kind, self._state)
        if "step" not in values:
            return
        points = {f"{kind}/{name}": value for name, value in line.items() if _is_point(name, value)}
        with explain_write_errors(self._folder / "tensorboard"):
            for name, value in points.items():
                self._board.add_scalar(name, value, values["step"])
        if self._trackers is not None:
            self._trackers.scalars(values["step"], points)

    def say(self, text: str) -> None:
        """One line for a person."""
        if not self._main:
            return
        self._echo(f"{self._prefix}{text}")
        self._append("log.txt", f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}")

    def close(self) -> None:
        """Flush TensorBoard, and tell trackers how it ended."""
        if self._trackers is not None:
            self._trackers.close(None if self._held.lost else self._state)
        if self._board is not None and not self._held.lost:
            self._board.close()

    def _append(self, name: str, line: str) -> bool:
        """Whether the fold is still this process's own, so that the line was written."""
        path = self._folder / name
        with explain_write_errors(path), open(path, "a", encoding="utf-8", opener=no_link) as file:
            if self._held.keeps():  # asked once the file is open: a successor puts another one in its place
                file.write(line + "\n")
        return not self._held.lost

    def _renew(self, name: str, keep: Callable[[str], bool]) -> None:
        path = self._folder / name
        if path.exists():
            lines = read_bytes(path, _MAX_LOG_BYTES).decode("utf-8", errors="replace").splitlines()
            self._held.write_text(path, "".join(f"{line}\n" for line in lines if keep(line)))


def _keep(line: str, total: int) -> bool:
    try:
        return int(json.loads(line)["step"]) <= total
    except (ValueError, KeyError, TypeError):  # torn by a crash
        return False


def _is_point(name: str, value: Any) -> bool:
    return isinstance(value, int | float) and name not in PLAIN


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Pace:
    """The speed of an epoch, or of what is left of it after a resume."""

    def __init__(self) -> None:
        self._began = self._spoke = time.monotonic()
        self._steps = 0
        self.speed = 0.0
        """Optimizer steps a second."""

    def tick(self) -> bool:
        """Count a step; whether it is time to say something."""
        now, self._steps = time.monotonic(), self._steps + 1
        self.speed = self._steps / (now - self._began)
        if now - self._spoke < BREATH:
            return False
        self._spoke = now
        return True

    @property
    def seconds(self) -> float:
        """Since the epoch began, or was taken up again."""
        return time.monotonic() - self._began

    def epoch(self, steps: int) -> float:
        """Seconds that a whole epoch of `steps` steps takes, its test included."""
        return self.seconds + (steps - self._steps) / self.speed if self.speed else self.seconds
