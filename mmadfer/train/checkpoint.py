"""Checkpoints that are whole or not there: written beside, synced, published by rename.

    checkpoints/step-00000500/
      weights.safetensors    trainable weights with their contract; what other commands read; with train.ema, their
                             average, which training goes on with, too
      deepspeed/             weights and optimizer state of every rank
      sampler.json           of a sampler that observes: its state, and what it will be told of this epoch's clips
      adaptation.json        under `adapt`: whose clips are sources, and pseudo-labels
      state.json             how far the run is, what it belongs to, size and SHA-256 of every other file

The frozen encoders are not in it, but their hash is. state.json is written last. Reading a checkpoint executes nothing.
What is being written or deleted lies in step-N.TOKEN.tmp, named after the lease; mmadfer.run.lease says why.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmadfer.contract import Contract
from mmadfer.distributed.ranks import Ranks, on_all_ranks
from mmadfer.errors import FileError, MmadferError, RunError, WeightsError
from mmadfer.model.weights.build import save_weights, weights_hash
from mmadfer.run import checkpoint_state as states
from mmadfer.run import directory as runs
from mmadfer.run.checkpoint_state import OLD, Belonging, Progress
from mmadfer.run.lease import Held
from mmadfer.utils.files import own_folder, read_object, sync, write_json

if TYPE_CHECKING:
    from mmadfer.train.deepspeed_engine import Engine


SAMPLER = "sampler.json"


class Checkpoints:
    """The checkpoints of a fold directory; every rank calls the same methods, rank 0 writes and deletes.

    Args:
        folder: the fold directory.
        held: its lease.
        belonging: what this run is.
        keep: how many stay on disk.
        ranks: this process and its peers.
        warn: says a line loudly.

    Raises:
        TrainingError: the directory cannot be written.
        LostError: the fold has been taken over.
    """

    def __init__(
        self, folder: Path, held: Held, belonging: Belonging, keep: int, ranks: Ranks, warn: Callable[[str], None]
    ) -> None:
        self.folder, self.belonging, self.keep = Path(folder) / "checkpoints", belonging, keep
        self.held, self.ranks, self._warn = held, ranks, warn
        self._loaded = self.folder
        self._together(self.folder, self._clean)

    def save(
        self, engine: "Engine", progress: Progress, contract: Contract, notes: Mapping[str, dict[str, Any] | None]
    ) -> Path:
        """Publish a checkpoint of this step, and delete all but the newest ones.

        `notes` are what else must be remembered, by the name of a file; of None, there is none.

        Raises:
            TrainingError: it cannot be written; the ones before are as they were.
            LostError: the fold has been taken over; nothing was published.
        """
        final = self.folder / f"step-{progress.total:08d}"
        temporary = self._temporary(final)
        try:
            self._together(final, lambda: self._begin(temporary))
            problem = engine.save(temporary / "deepspeed")
            self._together(final, lambda: _raise(problem), everywhere=True)
            with engine.whole() as model:
                digest, weights = weights_hash(model), temporary / "weights.safetensors"
                self._together(
                    final, lambda: save_weights(weights, model, contract, frozen=False, more=engine.task.own())
                )
            for name, note in notes.items():
                if note is not None:
                    self._together(final, partial(write_json, temporary / name, note))
            self._together(final, lambda: self._publish(temporary, final, progress, digest))
        except MmadferError:  # also a fold that was lost: writing may have made the folder anew
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
        found: list[int] = []
        self._together(self.folder, lambda: found.append(self._choose()))
        chosen = self.ranks.first(found[0] if found else 0)
        if chosen < 0:
            return None
        path = self.folder / f"step-{chosen:08d}"
        state = states.read(path)
        self.belonging.check(state.belonging, path)
        if state.belonging.world != self.belonging.world:
            self._warn(f"WARNING: {self.belonging.world} ranks, not {state.belonging.world}: equal but for rounding")
        engine.load(path / "deepspeed", path / "weights.safetensors")
        with engine.whole() as model:
            if weights_hash(model) != state.weights_hash:
                raise WeightsError(f"{path}: DeepSpeed's weights are not those of the checkpoint; delete it")
        self._loaded = path
        return state.progress

    def note(self, name: str) -> dict[str, Any]:
        """A file of `notes` of the checkpoint that was loaded last.

        Raises:
            RunError: there is none.
        """
        try:
            return read_object(self._loaded / name)
        except (OSError, FileError) as error:
            what = name.removesuffix(".json")
            raise RunError(f"{self._loaded} does not hold the {what}'s state ({error}): begin another run") from error

    def _choose(self) -> int:
        """Step of the newest whole checkpoint, -1 without any checkpoint."""
        paths = runs.published(self.folder)
        for path in paths:
            problem = states.damage(path)
            if problem is None:
                return int(path.name[5:])
            self._warn(f"WARNING: checkpoint {path} is damaged ({problem}): moved aside, the one before it is used")
            self._set_aside(path)
        if paths:
            raise RunError(f"no checkpoint in {self.folder} is whole: copy one back, or delete that folder")
        return -1

    def _publish(self, temporary: Path, final: Path, progress: Progress, digest: str) -> None:
        for script in (temporary / "deepspeed").glob("*.py"):  # DeepSpeed's copies of its own tools
            script.unlink()
        states.write_state(temporary, progress, self.belonging, digest)
        sync(temporary / "deepspeed")
        self.held.check()
        if final.exists():  # saved at the same step, before its epoch was tested
            os.rename(final, temporary / OLD)
        os.rename(temporary, final)
        sync(self.folder)
        shutil.rmtree(final / OLD, ignore_errors=True)
        for path in runs.published(self.folder)[self.keep :]:
            gone = self._take_away(path)
            os.rename(gone / OLD, gone / "deleted")  # so that nothing half-deleted is ever put back
            shutil.rmtree(gone)

    def _begin(self, temporary: Path) -> None:
        temporary.mkdir()
        self.held.check()

    def _clean(self) -> None:
        """Take from an earlier start, which may still live, the means to publish; finish or undo what it began."""
        own_folder(self.folder)
        for path in list(self.folder.glob("step-*.tmp")):
            gone, final = self._temporary(path), self.folder / path.name.partition(".")[0]
            with suppress(FileNotFoundError):  # it has just been published
                os.rename(path, gone)
            if gone.is_symlink():  # not ours
                gone.unlink()
            elif (gone / OLD).exists() and not final.exists():
                os.rename(gone / OLD, final)
            shutil.rmtree(gone, ignore_errors=True)  # ranks of the earlier start may still write into it
        for path in runs.published(self.folder):
            if not path.is_symlink():
                shutil.rmtree(path / OLD, ignore_errors=True)

    def _set_aside(self, path: Path) -> None:
        gone, damaged = self._take_away(path), path.with_suffix(".damaged")
        if damaged.exists():
            shutil.rmtree(damaged)
        os.rename(gone / OLD, damaged)
        gone.rmdir()

    def _take_away(self, path: Path) -> Path:
        """Move a published checkpoint to where nothing of its name counts, as OLD in a folder of this start."""
        gone = self._temporary(path)
        self._begin(gone)
        os.rename(path, gone / OLD)
        return gone

    def _temporary(self, path: Path) -> Path:
        return path.with_name(f"{path.name.removesuffix('.tmp')}.{self.held.token}.tmp")

    def _together(self, path: Path, work: Callable[[], object], everywhere: bool = False) -> None:
        on_all_ranks(self.ranks, self.held, path, work, everywhere)


def _raise(problem: OSError | None) -> None:
    if problem is not None:
        raise problem
