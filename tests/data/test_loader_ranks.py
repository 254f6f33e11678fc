"""The clips of an epoch over 1 to 8 ranks, evaluation over more ranks than clips, and going on at any step."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import LABELS, config, records, same
from torch import Tensor

from mmadfer.config.schema import Config
from mmadfer.data.fold_clips import steps_per_epoch
from mmadfer.data.loading.batch import Batch
from mmadfer.data.loading.loader import Loader, batches
from mmadfer.data.store.store import ClipRecord, Header, Store, write_store
from mmadfer.distributed.ranks import Ranks
from mmadfer.evaluation.evaluate import run_test
from mmadfer.evaluation.predictions import Predictions

EPOCH, FOLD = 2, 3
WIDE = config(train={"batch_size": 24})  # what 1, 2, 3, 4 and 8 divide


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    path = tmp_path_factory.mktemp("store") / "wide.store"
    write_store(path, Header("wide", LABELS, WIDE.prepare), records(64))
    with Store(path) as store:
        yield store


def epoch(store: Store, settings: Config, rank: int, world: int, start_step: int = 0) -> list[Batch]:
    ids = batches(settings, store, FOLD, EPOCH, rank=rank, world=world, start_step=start_step)
    with closing(Loader(store, settings, LABELS)) as loader:
        return list(loader.train(EPOCH, ids))


def content(parts: Sequence[Batch]) -> dict[str, tuple[bytes, ...]]:
    """Clip -> the bytes of all that the model gets of it."""
    found = {}
    for part in parts:
        assert part.drop_path is not None
        fields = (part.frames, part.fbank, part.targets["label"], part.brightness, part.drop_path)
        for k, clip in enumerate(part.ids):
            found[clip] = tuple(tensor[k].numpy().tobytes() for tensor in fields)
    return found


@pytest.fixture(scope="module")
def alone(wide: Store) -> list[Batch]:
    return epoch(wide, WIDE, 0, 1)


@pytest.mark.parametrize(
    ("world", "accumulate"), [(1, 3), (2, 1), (3, 1), (4, 1), (8, 1), (2, 3), (3, 2), (4, 3), (8, 3)]
)
def test_any_number_of_ranks_sees_the_same_clips_in_each_step(
    wide: Store, alone: list[Batch], world: int, accumulate: int
) -> None:
    settings = config(train={"batch_size": 24, "accumulate": accumulate})
    ranks = [epoch(wide, settings, rank, world) for rank in range(world)]
    assert {len(rank) for rank in ranks} == {2 * accumulate}
    for step, whole in enumerate(alone):
        mine = [rank[step * accumulate : (step + 1) * accumulate] for rank in ranks]
        shares = [[clip for part in parts for clip in part.ids] for parts in mine]
        assert {len(share) for share in shares} == {24 // world}
        assert sorted(clip for share in shares for clip in share) == sorted(whole.ids)
        assert content([part for parts in mine for part in parts]) == content([whole])


@pytest.mark.parametrize(("rank", "world"), [(0, 1), (1, 2)])
def test_going_on_at_any_step_gives_the_same_batches(store: Store, rank: int, world: int) -> None:
    whole, steps = epoch(store, config(), rank, world), steps_per_epoch(config(), store, FOLD)
    assert len(whole) == steps == 4
    for start in range(steps + 1):
        rest = epoch(store, config(), rank, world, start)
        assert len(rest) == steps - start
        assert all(map(same, rest, whole[start:]))


@pytest.mark.parametrize("clips", [1, 7, 8, 9, 20])
def test_evaluation_drops_and_repeats_no_clip(loader: Loader, store: Store, clips: int) -> None:
    ids = sorted(store.clips)[-clips:]
    tested = list(loader.test(ids, 8))
    assert [clip for batch in tested for clip in batch.ids] == ids
    assert [len(batch.frames) for batch in tested] == [8] * (clips // 8) + [clips % 8] * (clips % 8 > 0)
    one_by_one = [batch for clip in ids for batch in loader.test([clip], 1)]
    assert torch.equal(torch.cat([b.frames for b in tested]), torch.cat([b.frames for b in one_by_one]))


@dataclass(frozen=True)
class Gathering(Ranks):
    """Ranks that are threads of this process, so that many of them are cheap: they meet at a barrier."""

    table: list[Tensor | None] = field(default_factory=list)
    meeting: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))

    def gather_tensor(self, mine: Tensor) -> Tensor:
        self.table[self.rank] = mine
        self.meeting.wait(60)
        everyone = [tensor for tensor in self.table if tensor is not None]
        self.meeting.wait(60)
        return torch.stack(everyone)


def predict(store: Store, ids: list[str], world: int, settings: Config) -> tuple[list[Predictions], Counter[str]]:
    """What every rank gets, and how often each clip was run."""
    table: list[Tensor | None] = [None] * world
    meeting, seen = threading.Barrier(world), list[str]()

    def forward(batch: Batch) -> Tensor:
        seen.extend(batch.ids)
        return torch.stack([batch.frames[:, k].float().mean((1, 2, 3)) for k in (0, 7, 15)], 1)

    def rank(number: int) -> Predictions:
        ranks = Gathering(number, world, torch.device("cpu"), table, meeting)
        with closing(Loader(store, settings, LABELS)) as loader:
            result = run_test(forward, loader, ids, ranks, lambda: False)
        assert result is not None
        return result

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(rank, range(world))), Counter(seen)


@pytest.mark.parametrize("test_clips", [1, 2])
@pytest.mark.parametrize("world", [2, 3, 5, 9])
def test_evaluation_counts_each_clip_once_at_any_number_of_ranks(store: Store, world: int, test_clips: int) -> None:
    settings, ids = config(data={"test_clips": test_clips}), sorted(store.clips)[3:10]
    (alone,), _ = predict(store, ids, 1, settings)
    everyone, seen = predict(store, ids, world, settings)
    for result in everyone:
        assert result.ids == ids
        np.testing.assert_array_equal(result.logits, alone.logits)
        np.testing.assert_array_equal(result.labels, [LABELS.index(store.clips[clip].label) for clip in ids])
        assert result.confusion.sum() == len(ids)
    fill = -len(ids) % world  # the last clip keeps idle ranks in step; these extra runs are not counted
    assert seen == {clip: test_clips * (1 + fill * (clip == ids[-1])) for clip in ids}


def test_two_index_sets_give_the_logarithm_of_their_mean_probabilities(store: Store) -> None:
    settings, ids = config(data={"test_clips": 2}), sorted(store.clips)[:4]
    (result,), _ = predict(store, ids, 1, settings)
    with closing(Loader(store, settings, LABELS)) as loader:
        sets = [
            torch.cat([b.frames[:, (0, 7, 15)].float().mean((2, 3, 4)) for b in loader.test(ids, 4, k)]) for k in (0, 1)
        ]
    expected = (sets[0].softmax(1) + sets[1].softmax(1)) / 2
    np.testing.assert_allclose(result.probabilities, expected.numpy(), rtol=1e-4)
    assert not torch.equal(sets[0], sets[1])


@pytest.mark.parametrize(("read_ahead", "threads"), [(1, 1), (1, 4), (2, 3), (4, 2)])
def test_no_more_is_read_than_was_allowed(path: Path, read_ahead: int, threads: int) -> None:
    class Counting(Store):
        def read(self, clip: str, *what: Any, **rows: Any) -> ClipRecord:
            begun.append(clip)
            return super().read(clip, *what, **rows)

    begun: list[str] = []
    with Counting(path) as store:
        settings = config(data={"read_ahead": read_ahead, "threads": threads})
        before = threading.active_count()
        with closing(Loader(store, settings, LABELS)) as loader:
            for done, batch in enumerate(loader.test(sorted(store.clips), 2)):
                allowed = min(len(store.clips), 2 * (done + 2 + read_ahead))  # in use, in the decoder, read ahead
                deadline = time.monotonic() + 10
                while len(begun) < allowed and time.monotonic() < deadline:
                    time.sleep(0.002)
                time.sleep(0.02)
                assert len(begun) == allowed, batch.ids
                assert threading.active_count() - before <= 2 * threads + 1
    assert sorted(begun) == sorted(store.clips)  # two threads read two batches, in any order
