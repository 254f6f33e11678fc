"""What the model makes of clips before its temporal part, computed once where that part and the head learn alone.

FOLD/features.safetensors holds `joint` (N, T, W), as the model computes it in `train.precision`, and in its metadata a
mark (which views of which clips, by which weights, of which store, in which arithmetic and on which device) and the
SHA-256 of the numbers. A file with another mark, or damaged, is not used: the features are computed anew.

They lie in memory on every rank: 4 T W bytes for each view, which is 32 kB with 16 frames and a width of 512.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mmadfer.config.schema import Config
from mmadfer.data.loading.batch import Batch
from mmadfer.data.loading.loader import Loader
from mmadfer.data.loading.samplers import WITHHELD, Pick
from mmadfer.distributed.ranks import Ranks, on_all_ranks
from mmadfer.evaluation.evaluate import of_all, share_of
from mmadfer.model.weights.build import tensors_hash
from mmadfer.run.lease import Held
from mmadfer.train.deepspeed_engine import Engine
from mmadfer.utils.files import atomic

FILE = "features.safetensors"
_KEY = "mmadfer.features"
"""Of the metadata; a single one, for the library writes several in any order."""


class View(NamedTuple):
    """A way in which a clip is looked at, as in a test: as it is, or mirrored."""

    flip: bool
    clip: str


class Features:
    """The features of clips, by view.

    Args:
        views: those that there are, in the order of the rows.
        joint: (N, T, W).
    """

    def __init__(self, views: Sequence[View], joint: Tensor) -> None:
        self._rows, self._joint = {view: row for row, view in enumerate(views)}, joint

    def of(self, views: Iterable[View]) -> Tensor:
        """(n, T, W)."""
        return self._joint[[self._rows[view] for view in views]]


class FeatureLoader(Loader):
    """Batches of features in the place of frames and sound; all clips are seen as in tests, whatever the epoch."""

    features: Features | None = None
    """None: they are not there yet, and batches have frames and sound, seen as in tests."""

    def train(self, epoch: int, picked: Iterable[list[Pick]]) -> Iterator[Batch]:
        """As a loader's."""
        for picks in picked:
            yield from self.test(picks, len(picks))

    def test(self, rows: Sequence[str | Pick], batch_size: int, clip: int = 0, flip: bool = False) -> Iterator[Batch]:
        """As a loader's."""
        if self.features is None:
            yield from super().test(rows, batch_size, clip, flip)
            return
        picks = [row if isinstance(row, Pick) else Pick(row) for row in rows]
        for start in range(0, len(picks), batch_size):
            yield self._finish(self._featured(self.features, picks[start : start + batch_size], flip))

    def _featured(self, features: Features, picks: list[Pick], flip: bool) -> Batch:
        """Of clips that are looked at in this way; without targets that are not labels."""
        return Batch(
            frames=torch.empty(0, dtype=torch.uint8),
            fbank=torch.empty(0),
            targets=self._labels(picks),
            ids=[pick.clip for pick in picks],
            brightness=torch.ones(len(picks)),
            drop_path=None,
            adapted=torch.tensor([pick.given is not None for pick in picks]),
            joint=features.of(View(flip, pick.clip) for pick in picks),
        )


class FeatureFile:
    """The file of a fold; every rank calls the same methods, and rank 0 writes.

    Args:
        folder: of the fold.
        held: its lease.
        ranks: this process and its peers.
        origin: of the data, as checkpoints know it.
    """

    def __init__(self, folder: Path, held: Held, ranks: Ranks, origin: str) -> None:
        self._path, self._held, self._ranks, self._origin = folder / FILE, held, ranks, origin

    def features(
        self, views: Sequence[View], engine: Engine, loader: FeatureLoader, stop: Callable[[], bool]
    ) -> Features | None:
        """Those of the file, or computed and written; None where any rank was asked to stop before.

        Args:
            views: sorted.
            engine: with the weights that compute them, which do not learn.
            loader: without features.
            stop: asked after each batch.

        Raises:
            TrainingError: the file cannot be written.
            LostError: the fold has been taken over.
        """
        mark = _mark(views, engine, self._origin, loader.config)
        found = self._read(mark)
        if self._ranks.any(found is None):
            found = encoded(views, engine, loader, stop)
            if found is None:
                return None
            on_all_ranks(self._ranks, self._held, self._path, partial(self._write, found, mark))
        assert found is not None
        return Features(views, found)

    def _read(self, mark: str) -> Tensor | None:
        try:
            with safe_open(self._path, framework="pt") as file:
                told = (file.metadata() or {}).get(_KEY, "")
                joint: Tensor | None = file.get_tensor("joint") if told.startswith(mark) else None
        except (OSError, SafetensorError):
            return None
        return joint if joint is not None and told == _told(mark, joint) else None

    def _write(self, joint: Tensor, mark: str) -> None:
        with atomic(self._path) as temporary:
            save_file({"joint": joint}, temporary, {_KEY: _told(mark, joint)})
            self._held.check()


def encoded(views: Sequence[View], engine: Engine, loader: Loader, stop: Callable[[], bool]) -> Tensor | None:
    """The features (N, T, W) of all views, sorted, on every rank; None where any rank was asked to stop."""
    parts = []
    for flip, same in groupby(views, key=lambda view: view.flip):
        rows = [Pick(view.clip, given=WITHHELD) for view in same]
        part = computed(engine.encode, loader, rows, engine.ranks, stop, flip)
        if part is None:
            return None
        parts.append(part)
    return torch.cat(parts)


def computed(
    forward: Callable[[Batch], Tensor],
    loader: Loader,
    rows: Sequence[Pick],
    ranks: Ranks,
    stop: Callable[[], bool],
    flip: bool = False,
) -> Tensor | None:
    """What `forward` gives (N, ...) of clips as tests see them, on the CPU of every rank, each of which has computed a
    share; None where any rank was asked to stop.

    """
    size = loader.config.train.batch_size
    share, rounds = share_of(rows, size, ranks)
    found = []
    for batch in loader.test(share, size, flip=flip):
        found.append(forward(batch).cpu())
        if ranks.any(stop()):
            return None
    return of_all(ranks, torch.cat(found)[:rounds].to(ranks.device), len(rows)).contiguous()


def _told(mark: str, joint: Tensor) -> str:
    return f"{mark} {tensors_hash({'joint': joint})}"


def _mark(views: Sequence[View], engine: Engine, origin: str, config: Config) -> str:
    """What the features depend on."""
    tensors = engine.model.state_dict()
    weights = tensors_hash({name: tensors[name] for name in engine.model.before_temporal(tensors)})
    ways = [config.model.model_dump(mode="json"), config.data.modalities, config.train.precision]
    told = [views, weights, origin, ways, engine.ranks.hardware]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
