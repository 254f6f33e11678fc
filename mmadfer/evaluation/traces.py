"""Tests per step: the values of every frame of each clip beside the true ones (`mmadfer.data.traces`).

Shapes: L frames of a clip, T frames shown, C values.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from torch import Tensor

from mmadfer.config.schema import Config, TaskConfig
from mmadfer.data.draws import test_indexes
from mmadfer.data.frame_windows import window_indexes
from mmadfer.data.loading.samplers import Pick
from mmadfer.data.store.store import Store
from mmadfer.data.store.targets import at_frames
from mmadfer.data.traces import Part, Trace, over_time
from mmadfer.evaluation.clip_windows import looks


def traces_of(config: Config, store: Store, rows: Sequence[Pick], outputs: Tensor) -> list[Trace]:
    """The traces of the clips of a test, in their order.

    Args:
        config: `data.window`, `data.test_clips`, `data.test_flips`, `model.frames`, `task.target`.
        store: holds the clips; the truth is their target of kind `steps`.
        rows: clips or windows, those of a clip next to each other.
        outputs: float (rows, looks, T, C): what the model says of each row, in each way of looking at it.
    """
    found, numbered = list[Trace](), enumerate(rows)
    for clip, same in groupby(numbered, key=lambda row: row[1].clip):
        frames = store.clips[clip].frames
        parts = (part for k, row in same for part in _parts(config, row, frames, outputs[k].numpy()))
        found.append(_trace(store, clip, config.task, over_time(frames, parts)))
    return found


def _parts(config: Config, row: Pick, frames: int, outputs: np.ndarray) -> Iterator[Part]:
    """What the looks (looks, T, C) at a row say."""
    window, span = config.data.window, row.window or (0, frames)
    for (index_set, _), values in zip(looks(config.data), outputs, strict=True):
        if window is None:
            shown = test_indexes(frames, config.model.frames, config.data.test_clips)[index_set]
        else:
            shown = window_indexes(span, config.model.frames, window.stride)
        yield Part(*span, shown, values)


def _trace(store: Store, clip: str, task: TaskConfig, output: np.ndarray) -> Trace:
    """A clip of which `output` (L, C) is said."""
    record, target = store.read(clip, [], [task.compared]), store.targets[task.compared]
    assert record.times is not None
    truth = at_frames(record.tensors.get(task.compared), len(target.names), np.arange(len(output)), len(output))
    return Trace(record.times, truth[:, target.places(task.values)], output.astype(np.float32))
