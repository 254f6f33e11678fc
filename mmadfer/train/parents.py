"""What a fold takes from its parents: weights to begin with, a teacher, and word in run.json of which they were."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from mmadfer.config.schema import Config
from mmadfer.contract import Contract
from mmadfer.data.compatibility import check_prepared
from mmadfer.data.parent_leakage import check_stages
from mmadfer.data.store.store import Store
from mmadfer.errors import ConfigError, DataError, RunError
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights.load import WEIGHTS, load
from mmadfer.model.weights.transfer import transfer
from mmadfer.run import checkpoint_state, records
from mmadfer.run import directory as runs
from mmadfer.run.parents import ParentRun, parents, why_unfinished
from mmadfer.utils.files import sha256

PATIENCE_SECONDS = 30.0
"""For a shared file system to show the result of a job that has just ended."""


@dataclass(frozen=True)
class _Source:
    """The checkpoint of a parent's fold that is read."""

    parent: ParentRun
    checkpoint: Path
    state: checkpoint_state.State

    def told(self, fold: int) -> records.ParentFold:
        return records.ParentFold(
            run=str(self.parent.run),
            fold=fold,
            step=self.state.progress.total,
            weights_hash=self.state.weights_hash,
            config_hash=sha256(self.parent.run / "config.yaml"),
        )


class Parents:
    """The parents of one fold, found to be finished and to have seen no clip that it is tested on.

    Raises:
        DataError, RunError, ConfigError: as `stages.check_stages`; a parent's fold is not finished.
        WeightsError: its last checkpoint is damaged.
    """

    def __init__(self, config: Config, store: Store, fold: int) -> None:
        self.config, self.store, self.fold = config, store, fold
        found = parents(config)
        for parent in found:
            _await(parent, fold)
        check_stages(config, store, [fold])
        self._sources = {parent.key: _source(parent, fold) for parent in found}

    def begin(self, model: MMADFER) -> str:
        """Give the model the weights of `stages.init`; in words, what was done ("" without a parent)."""
        source = self._sources.get("stages.init")
        if source is None:
            return ""
        own = self.config.stages
        drawn = transfer(model, source.checkpoint / WEIGHTS, own.missing, own.extra)
        kept = f"; drawn: {', '.join(drawn)}" if drawn else ""
        return f"begins from fold {self.fold} of {source.parent.run}, step {source.state.progress.total}{kept}"

    def teacher(self, labels: tuple[str, ...]) -> MMADFER | None:
        """The model of `stages.teacher` in eval mode, without gradients, in float32 on the CPU; None without one.

        Raises:
            WeightsError: it has other labels.
            ConfigError: it gives other values, takes other frames or sound, or was trained on other modalities.
            DataError: the store was not prepared as the teacher's.
        """
        source = self._sources.get("stages.teacher")
        if source is None:
            return None
        classes = labels if self.config.task.spec.output == "classes" else None
        model = load(source.checkpoint, labels=classes).requires_grad_(False)
        takes = [(one.image_size, one.frames, one.fbank) for one in (model.config, self.config.model)]
        if takes[0] != takes[1]:
            raise ConfigError(
                f"stages.teacher: {source.parent.run} takes clips of image_size, frames and fbank {takes[0]}, here "
                f"they are {takes[1]}: both see the same clips, so set model's to the teacher's"
            )
        if model.contract:
            self._check_teacher(source.parent.run, model.contract)
        return model

    def _check_teacher(self, run: Path, contract: Contract) -> None:
        theirs, own = (list(values.items()) for values in (contract.values, self.config.task.values))
        if theirs != own:
            raise ConfigError(
                f"stages.teacher: {run} gives the values {dict(theirs)}, but task.values are {dict(own)}: set them to "
                "the teacher's, or give another teacher"
            )
        fed = self.config.data.modalities
        if contract.modalities != fed and (contract.model.branches == "both" or fed != "both"):
            raise ConfigError(
                f"stages.teacher: {run} was trained on {contract.modalities}, but data.modalities is {fed}: both see "
                "the same clips, so set it to the teacher's, or give another teacher"
            )
        try:
            check_prepared(contract, self.store)
        except DataError as error:
            raise DataError(f"stages.teacher: {run}: {error}") from error

    def note(self, run: Path) -> None:
        """Write them into run.json.

        Raises:
            RunError: the fold has begun, with other weights of a parent.
        """
        told = {key.partition(".")[2]: source.told(self.fold) for key, source in self._sources.items()}
        if not told:
            return
        before = runs.about(run).get("parents", {}).get(str(self.fold), {})
        if runs.latest_checkpoint(runs.fold_dir(run, self.fold)):
            for key, one in told.items():
                self._check_same(key, before.get(key, {}).get("weights_hash"), one)
        runs.note_parents(run, self.fold, {key: one.model_dump() for key, one in told.items()})

    def _check_same(self, key: str, before: str | None, now: records.ParentFold) -> None:
        if before != now.weights_hash:
            raise RunError(
                f"stages.{key}: fold {self.fold} has begun with other weights of {now.run} (hash {str(before)[:12]}, "
                f"now {now.weights_hash[:12]}): put that run back, or begin a new run"
            )


def _await(parent: ParentRun, fold: int) -> None:
    """Refuse a fold that is not finished; a job that a scheduler has just let go on looks for it a little longer."""
    end = time.monotonic() + (PATIENCE_SECONDS if "SLURM_JOB_ID" in os.environ else 0)
    while why := why_unfinished(parent, fold):
        if time.monotonic() >= end or runs.failure(parent.fold(fold)):
            raise RunError(f"{why}. `mmadfer launch resume {parent.run}` goes on with it; then resume this run")
        time.sleep(0.5)


def _source(parent: ParentRun, fold: int) -> _Source:
    checkpoint = runs.latest_checkpoint(parent.fold(fold))
    problem = checkpoint_state.damage(checkpoint) if checkpoint else "there is none"
    if checkpoint is None or problem:
        raise RunError(f"{parent.key}: the last checkpoint of fold {fold} of {parent.run} cannot be used: {problem}")
    return _Source(parent, checkpoint, checkpoint_state.read(checkpoint))
