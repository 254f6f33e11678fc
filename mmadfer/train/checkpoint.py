"""Checkpoints that are whole or not there: written beside, synced, published by rename.

    checkpoints/step-00000500/
      weights.safetensors    trainable weights with their contract; what other commands read
      deepspeed/             weights and optimizer state of every rank
      state.json             how far the run is, what it belongs to, size and SHA-256 of every other file

The frozen encoders are not in it, but their hash is. state.json is written last. Reading a checkpoint executes nothing.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mmadfer import run as runs
from mmadfer.contract import Contract
from mmadfer.errors import RunError, TrainingError, WeightsError
from mmadfer.files import sync
from mmadfer.model.build import save_weights, weights_hash
from mmadfer.train import state as states
from mmadfer.train.disk import writing
from mmadfer.train.ranks import Ranks
from mmadfer.train.state import Belonging, Progress

if TYPE_CHECKING:
    from mmadfer.train.engine import Engine


class Checkpoints:
    """The checkpoints of a fold directory; every rank calls the same methods, rank 0 writes and deletes.

    Args:
        folder: the fold directory.
        belonging: what this run is.
        keep: how many stay on disk.
        ranks: this process and its peers.
        warn: says a line loudly.

    Raises:
        TrainingError: the directory cannot be written.
    """

    def __init__(
        self, folder: Path, belonging: Belonging, keep: int, ranks: Ranks, warn: Callable[[str], None]
    ) -> None:
        self.folder, self.belonging, self.keep = Path(folder) / "checkpoints", belonging, keep
        self.ranks, self._warn = ranks, warn
        self._together(self.folder, self._clean)

    def save(self, engine: "Engine", progress: Progress, contract: Contract) -> Path:
        """Publish a checkpoint of this step and delete all but the newest ones.

        Raises:
            TrainingError: it cannot be written; the ones before are as they were.
        """
        final = self.folder / f"step-{progress.total:08d}"
        temporary = final.with_suffix(".tmp")
        try:
            self._together(final, temporary.mkdir)
            problem = engine.save(temporary / "deepspeed")
            self._together(final, lambda: _raise(problem), everywhere=True)
            with engine.whole() as model:
                digest, weights = weights_hash(model), temporary / "weights.safetensors"
                self._together(final, lambda: save_weights(weights, model, contract, frozen=False))
            self._together(final, lambda: self._publish(temporary, final, progress, digest))
        except TrainingError:
            if self.ranks.main:
                shutil.rmtree(temporary, ignore_errors=True)
            raise
        return final

    def load(self, engine: "Engine") -> Progress | None:
        """Go on from the newest whole checkpoint; None where there has never been one.

        A damaged one is moved aside with a warning, and the one before it is taken.

        Raises:
            RunError: it belongs to another run, or none is whole.
            WeightsError: it belongs to other encoders, or holds what must not be unpickled.
        """
        chosen = self.ranks.first(self._choose() if self.ranks.main else 0)
        if chosen < 0:
            return None
        path = self.folder / f"step-{chosen:08d}"
        state = states.read(path)
        self.belonging.check(state.belonging, path)
        if state.belonging.world != self.belonging.world:
            self._warn(f"WARNING: {self.belonging.world} ranks, not {state.belonging.world}: equal but for rounding")
        engine.load(path / "deepspeed")
        with engine.whole() as model:
            if weights_hash(model) != state.weights_hash:
                raise WeightsError(f"{path}: DeepSpeed's weights are not those of the checkpoint; delete it")
        return state.progress

    def _choose(self) -> int:
        """Step of the newest whole checkpoint, -1 without any checkpoint."""
        paths = runs.published(self.folder)
        for path in paths:
            problem = states.damage(path)
            if problem is None:
                return int(path.name[5:])
            self._warn(f"WARNING: checkpoint {path} is damaged ({problem}): moved aside, the one before it is used")
            _replace(path, path.with_suffix(".damaged"))
        if paths:
            raise RunError(f"no checkpoint in {self.folder} is whole: copy one back, or delete that folder")
        return -1

    def _publish(self, temporary: Path, final: Path, progress: Progress, digest: str) -> None:
        for script in (temporary / "deepspeed").glob("*.py"):  # DeepSpeed's copies of its own tools
            script.unlink()
        states.write(temporary, progress, self.belonging, digest)
        sync(temporary / "deepspeed")
        if final.exists():  # saved at the same step, before its epoch was tested
            _replace(final, final.with_suffix(".old"))
        os.rename(temporary, final)
        sync(self.folder)
        for path in [*runs.published(self.folder)[self.keep :], *self.folder.glob("step-*.old")]:
            _delete(path)

    def _clean(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.glob("step-*.tmp"):
            shutil.rmtree(path)
        for path in self.folder.glob("step-*.old"):
            if path.with_suffix("").exists():
                _delete(path)
            else:  # killed between two renames
                os.rename(path, path.with_suffix(""))

    def _together(self, path: Path, work: Callable[[], object], everywhere: bool = False) -> None:
        """Have rank 0 (or all ranks) do its part of writing `path`; all ranks fail if one does."""
        problem: TrainingError | None = None
        if self.ranks.main or everywhere:
            try:
                with writing(path):
                    work()
            except TrainingError as error:
                problem = error
        if self.ranks.any(problem is not None):
            raise problem or TrainingError(f"another rank could not write {path}; its log says why")


def _raise(problem: OSError | None) -> None:
    if problem is not None:
        raise problem


def _replace(path: Path, by: Path) -> None:
    if by.exists():
        shutil.rmtree(by)
    os.rename(path, by)


def _delete(path: Path) -> None:
    gone = path.with_suffix(".tmp")  # so that nothing half-deleted has a name that counts
    os.rename(path, gone)
    shutil.rmtree(gone)
