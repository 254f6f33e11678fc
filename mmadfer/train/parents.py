"""What a fold takes from its parents: weights to begin with, a teacher, and word in run.json of which they were."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from mmadfer.config.schema import Config, WindowConfig
from mmadfer.contract import Contract, inherited, origins_of, teacher_facts
from mmadfer.contract.facts import AdaptedFacts, TeacherFacts, TextFacts
from mmadfer.data.compatibility import check_prepared
from mmadfer.data.fold_clips import adapting_clips
from mmadfer.data.parent_leakage import check_stages
from mmadfer.data.sentences import check_facts
from mmadfer.data.store.store import Store
from mmadfer.errors import ConfigError, DataError, RunError
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights.build import read_contract
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
        self._contracts = {key: read_contract(one.checkpoint / WEIGHTS) for key, one in self._sources.items()}

    def begin(self, model: MMADFER) -> str:
        """Give the model the weights of `stages.init`; in words, what was done ("" without a parent)."""
        source = self._sources.get("stages.init")
        if source is None:
            return ""
        own = self.config.stages
        drawn = transfer(model, source.checkpoint / WEIGHTS, own.missing, own.extra)
        kept = f"; drawn: {', '.join(drawn)}" if drawn else ""
        return f"begins from fold {self.fold} of {source.parent.run}, step {source.state.progress.total}{kept}"

    def check_text(self, now: TextFacts | None) -> None:
        """Whether a model that begins with the weights of `stages.init` reads sentences as that one did.

        Raises:
            DataError, WeightsError: as `mmadfer.data.sentences.check_facts`.
        """
        begun = self._contracts.get("stages.init")
        check_facts(begun.text if begun else None, now)

    def teacher(self, labels: tuple[str, ...]) -> MMADFER | None:
        """The model of `stages.teacher` in eval mode, without gradients, in float32 on the CPU; None without one.

        Raises:
            WeightsError: it has other labels.
            ConfigError: it gives other values, takes other frames or sound, or was trained on other modalities or
                windows.
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
        if model.config.text is not None:
            raise ConfigError(
                f"stages.teacher: {source.parent.run} reads sentences, which no student is given: take another"
            )
        if model.contract:
            self._check_teacher(source.parent.run, model.contract)
        return model

    def adapted(self) -> AdaptedFacts | None:
        """Whom this fold adapts to; None without `adapt`."""
        settings = self.config.adapt
        if settings is None:
            return None
        source, begun = self._sources["stages.init"], self._contracts["stages.init"]
        clips = adapting_clips(self.config, self.store, self.fold)
        return AdaptedFacts(
            people=tuple(sorted({str(self.store.clips[clip].subject) for clip in clips})),
            clips=len(clips),
            share=settings.share,
            labels=settings.labels,
            name=source.parent.config.name,
            weights_hash=begun.weights_hash,
        )

    def inherit(self, contract: Contract) -> Contract:
        """The contract of this fold, with whose student the model is, with the licences of its teacher, with what binds
        the models before it; and with whom it is adapted to.

        A model that begins with the weights of a student is one, too; so is one that begins with an adapted one, whose
        share of clips is of that one's test fold.
        """
        teacher, begun = (self._contracts.get(f"stages.{key}") for key in ("teacher", "init"))
        if teacher is not None and not self.config.taught:
            teacher = None
        if teacher is not None:
            name = self._sources["stages.teacher"].parent.config.name
            contract = _student(contract, teacher_facts(name, teacher), teacher)
        if begun is not None and begun.teacher is not None:
            contract = _student(contract, contract.teacher or begun.teacher, begun)
        contract = contract.model_copy(update={"origins": origins_of(contract, begun, teacher)})
        adapted = self.adapted()
        if adapted is None and begun is not None and begun.adapted is not None:
            adapted = begun.adapted.model_copy(update={"share": None})
        return contract.model_copy(update={"adapted": adapted}) if adapted else contract

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
        if _stride(contract.window) != _stride(self.config.data.window):
            raise ConfigError(
                f"stages.teacher: {run} was trained on {_seen(contract.window)}, and here data.window gives "
                f"{_seen(self.config.data.window)}: both see the same, so set data.window to the teacher's"
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


def _seen(window: WindowConfig | None) -> str:
    return "whole clips" if window is None else f"windows of stride {window.stride}"


def _stride(window: WindowConfig | None) -> int | None:
    """Of the frames of a window; all have as many."""
    return None if window is None else window.stride


def _student(contract: Contract, teacher: TeacherFacts, source: Contract) -> Contract:
    """With a teacher, and the licences of what it has learnt from."""
    return contract.model_copy(update={"teacher": teacher, "licences": inherited(contract.licences, source.licences)})


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
