"""MLflow: to the server of MLFLOW_TRACKING_URI, or files in RUN/mlruns."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmadfer.tracking.tracker import TrackedRun
from mmadfer.utils.optional import need

_ID = "mmadfer.id"
"""Tag by which a later start finds the run of an earlier one."""
_STATES = {"running": "RUNNING", "stopped": "KILLED", "finished": "FINISHED", "failed": "FAILED"}
_MOST_PARAMS, _LONGEST = 100, 500
"""Parameters of one request, and characters of one: MLflow's own limits."""


class MlflowTracker:
    """A run of the experiment MLFLOW_EXPERIMENT_NAME (`mmadfer`)."""

    def __init__(self, run: TrackedRun) -> None:
        self._place = os.environ.get("MLFLOW_TRACKING_URI") or (run.run / "mlruns").absolute().as_uri()
        if self._place.startswith("file:"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 asks, for it adds nothing to these
        self._mlflow, self._run = need("mlflow.tracking", extra="mlflow"), run
        self._entities = need("mlflow.entities", extra="mlflow")
        self._id = ""
        self._client: Any = None

    def open(self) -> None:
        """Begin, with the configuration as parameters, or go on."""
        self._client = self._mlflow.MlflowClient(self._place)
        experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "mmadfer"))
        found = self._client.search_runs([experiment], f"tags.`{_ID}` = '{self._run.key}'", max_results=1)
        if found:
            self._id = found[0].info.run_id
            return
        tags = {_ID: self._run.key, "mmadfer.group": self._run.group}
        self._id = self._client.create_run(experiment, tags=tags, run_name=self._run.name).info.run_id
        params = [self._entities.Param(key, str(value)[:_LONGEST]) for key, value in self._run.config.items()]
        for k in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(self._id, params=params[k : k + _MOST_PARAMS])

    def _experiment(self, name: str) -> str:
        """Its id; folds that begin together may all try to make it."""
        try:
            made: str = self._client.create_experiment(name)
        except Exception:
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)
        return made

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Points of curves over steps."""
        metrics = [self._entities.Metric(name, value, 0, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def state(self, state: str) -> None:
        """MLflow's own status, which calls a run that is to be resumed killed."""
        self._client.set_terminated(self._id, _STATES[state]) if state != "running" else self._client.update_run(
            self._id, _STATES[state]
        )

    def file(self, path: Path) -> None:
        """An artifact."""
        self._client.log_artifact(self._id, str(path))

    def close(self) -> None:
        """Nothing waits."""
