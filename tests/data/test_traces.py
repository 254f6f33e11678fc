"""Traces of whole clips from windows that overlap: the same on any ranks, and all annotated frames counted."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from test_loader_ranks import Gathering
from tiny import LABELS, config, records
from torch import Tensor

from mmadfer.config.schema import Config, parse
from mmadfer.data.frame_windows import covering_windows, window_indexes
from mmadfer.data.loading.loader import Loader
from mmadfer.data.loading.samplers import Pick
from mmadfer.data.store.record import LATER
from mmadfer.data.store.store import Clip, ClipRecord, Header, Store, write_store
from mmadfer.data.store.targets import Target
from mmadfer.evaluation.evaluate import run_test
from mmadfer.evaluation.predictions import Traces
from mmadfer.tasks.regression import REGRESSION

SECONDS = 700
"""Filter-bank frames of each clip."""
CLIPS = 12
VALUES = {"valence": [-1, 1], "arousal": [-1, 1]}
STRIDE, HOP, FRAMES = 2, 5, 8


def annotated() -> Iterator[tuple[Clip, ClipRecord]]:
    """Clips with a number for each frame, of which some are missing."""
    for number, (clip, record) in enumerate(records(CLIPS)):
        rng = np.random.default_rng([3, number])
        trace = rng.uniform(-1, 1, (clip.frames, 2)).astype(np.float32)
        trace[rng.random(trace.shape) < 0.2] = np.nan
        tensors = {LATER: np.zeros((SECONDS - 512, 128), np.float32), "feeling": trace}
        yield (
            replace(clip, sound_frames=SECONDS, tensors={"feeling": ""}),
            replace(record, times=np.arange(clip.frames) / 10, tensors=tensors),
        )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    path = tmp_path_factory.mktemp("store") / "annotated.store"
    targets = {"feeling": Target("steps", ("valence", "arousal"))}
    write_store(path, Header("tiny", LABELS, config().prepare, targets=targets), annotated())
    with Store(path) as opened:
        yield opened


def settings(batch: int = 4, **data: Any) -> Config:
    tree = config().model_dump()
    model = {**tree["model"], "frames": FRAMES, "head": {"name": "values", "range": [-1, 1], "per": "step"}}
    task = {"name": "regression", "target": "feeling", "values": VALUES}
    data = {**tree["data"], "window": {"stride": STRIDE, "hop": HOP}, **data}
    return parse({**tree, "model": model, "task": task, "data": data, "train": {"batch_size": batch}}, "the test")


def values(frames: Tensor) -> Tensor:
    """(B, T, 2): what a model might say of frames (B, T, 3, S, S), which differs with the place in the window."""
    bright = frames.float().mean((2, 3, 4)) / 255
    return torch.stack([bright - 0.5, bright * torch.linspace(0, 1, frames.shape[1])], -1)


def traced(store: Store, way: Config, world: int) -> list[Traces]:
    """What every rank gets of all clips."""
    table: list[Tensor | None] = [None] * world
    meeting = threading.Barrier(world)

    def rank(number: int) -> Traces:
        with closing(Loader(store, way, LABELS)) as loader:
            gathering = Gathering(number, world, torch.device("cpu"), table, meeting)
            found = run_test(lambda batch: values(batch.frames), loader, sorted(store.clips), gathering, lambda: False)
        assert isinstance(found, Traces)
        return found

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(rank, range(world)))


@pytest.mark.parametrize(("world", "batch"), [(2, 4), (3, 12), (5, 60)])
def test_any_ranks_and_batches_give_the_same_traces(store: Store, world: int, batch: int) -> None:
    (alone,) = traced(store, settings(7), 1)
    for found in traced(store, settings(batch), world):
        assert found.ids == alone.ids == sorted(store.clips)
        assert all(
            one.output.tobytes() == other.output.tobytes()
            for one, other in zip(found.traces, alone.traces, strict=True)
        )
        assert found.scores() == alone.scores()


def test_a_frame_has_the_mean_of_the_windows_that_hold_it(store: Store) -> None:
    (found,) = traced(store, settings(), 1)
    n, span = 40, (FRAMES - 1) * STRIDE + 1
    seen = dict[int, list[float]]()
    with closing(Loader(store, settings(), LABELS)) as loader:
        for window in covering_windows(n, span, HOP):
            (batch,) = loader.test([Pick("c/00", window=window)], 1)
            shown, said = window_indexes(window, FRAMES, STRIDE), values(batch.frames)[0, :, 0].numpy()
            for k in range(window[0], window[0] + window[1]):
                seen.setdefault(k, []).append(float(np.interp(k, shown, said)))
    assert max(map(len, seen.values())) >= 3
    expected = [np.mean(seen[k]) for k in range(n)]
    np.testing.assert_allclose(found.traces[0].output[:, 0], expected, atol=1e-6)


def test_all_annotated_frames_count_and_no_other(store: Store) -> None:
    (found,) = traced(store, settings(), 1)
    truth = [np.asarray(store.read(clip, [], ["feeling"]).tensors["feeling"]) for clip in found.ids]
    assert [len(one.output) for one in found.traces] == [len(one) for one in truth]
    assert all(np.array_equal(one.truth, own, equal_nan=True) for one, own in zip(found.traces, truth, strict=True))
    x, y = np.concatenate(truth), np.concatenate([one.output for one in found.traces])
    assert found.scores() == pytest.approx(REGRESSION.score(x[None], y[None], 2), abs=1e-12)
    kept = ~np.isnan(x[:, 0])
    a, b = x[kept, 0].astype(np.float64), y[kept, 0].astype(np.float64)
    lin = 2 * np.cov(a, b, ddof=0)[0, 1] / (a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    assert found.by_value()["valence"]["ccc"] == pytest.approx(lin, abs=1e-9)
    assert found.details()["steps"]["valence"] == kept.sum()
