"""A server's parts, and its begin and end."""

from functools import partial
from pathlib import Path
from typing import Any

from mmadfer.contract.description import describe_contract
from mmadfer.errors import ConfigError, MissingDependencyError
from mmadfer.runtime.live import why_not_live
from mmadfer.runtime.recogniser import Recogniser
from mmadfer.serve.computing import Computing
from mmadfer.serve.guard import token_is
from mmadfer.serve.jobs import Jobs
from mmadfer.serve.law import NOTICE
from mmadfer.serve.limits import Limits
from mmadfer.serve.live_socket import LiveLimits, LiveSockets
from mmadfer.serve.metrics import Metrics
from mmadfer.serve.reading import Readers


class Service:
    """What answers requests.

    Args:
        recogniser: the model.
        limits: what is allowed.
        folder: of ours, for uploads; whoever gives it removes it.
        batch: looks that are computed together, by default as `Recogniser.predict` does.

    Raises:
        MmadferError: the process that reads videos does not start.
    """

    def __init__(self, recogniser: Recogniser, limits: Limits, folder: Path, batch: int | None = None) -> None:
        self.recogniser, self.limits, self.folder = recogniser, limits, folder
        self.metrics, self.stopping = Metrics(), False
        self.readers = Readers(recogniser, folder)
        recogniser.warm(batch, readers=self._not_live() is None)  # meanwhile
        self.readers.wait()
        self.computing = Computing(recogniser, self.metrics, batch)
        self.jobs = Jobs(self.readers, self.computing, limits, self.metrics)
        self.live = LiveSockets(recogniser, partial(token_is, limits), LiveLimits(connections=limits.live))
        self.metrics.watch("mmadfer_live", "Live connections.", {"open": lambda: self.live.open})

    @property
    def works(self) -> bool:
        """Whether it takes jobs and works at them."""
        return not self.stopping and self.jobs.alive

    def close(self) -> None:
        """Cancel all jobs, and end what was started."""
        self.stopping = True
        self.jobs.close()
        self.computing.stop()
        self.readers.close()

    def model(self) -> dict[str, Any]:
        """The model, as `replies.ModelFacts` has it."""
        contract, limits = self.recogniser.contract, self.limits
        window, live_reason = contract.window, self._not_live()
        return {
            "name": self.recogniser.path.name,
            "facts": self.recogniser.facts(),
            "contract": describe_contract(contract),
            "output": "values" if contract.output == "values" else "labels",
            "labels": list(contract.labels),
            "values": dict(contract.values),
            "per_step": contract.per_step,
            "modalities": [one for one in contract.model.modalities if contract.modalities in ("both", one)],
            "faces": self._tells_apart(),
            "live": live_reason is None,
            "live_reason": live_reason,
            "window": round(window.span(contract.model.frames) / contract.prepare.fps, 3) if window else None,
            "windows": contract.pooled_windows is None and contract.model.text is None,
            "limits": {
                "bytes": limits.max_bytes,
                "seconds": limits.max_seconds,
                "jobs": limits.jobs,
                "queue": limits.queue,
                "live": limits.live,
            },
            "token": limits.token is not None,
            "notice": NOTICE,
        }

    def _tells_apart(self) -> bool:
        try:
            self.recogniser.of_faces("all")
        except (ConfigError, MissingDependencyError):
            return False
        return True

    def _not_live(self) -> str | None:
        if not self.limits.live:
            return "this server takes no live streams"
        reason = why_not_live(self.recogniser.contract, people=False)
        return f"{self.recogniser.path.name} {reason}" if reason else None
