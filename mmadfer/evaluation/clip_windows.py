"""Tests in windows (`data.window`): which windows of each clip are run, and one output of the clip out of theirs."""

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from mmadfer.config.schema import Config, DataConfig, WindowConfig
from mmadfer.data.frame_windows import covering_windows
from mmadfer.data.loading.samplers import Pick
from mmadfer.data.store.store import Store
from mmadfer.tasks.pooling import clip_logits
from mmadfer.tasks.spec import TaskSpec


def rows_of(config: Config, store: Store, ids: Sequence[str]) -> list[Pick]:
    """What a test runs: each clip, or under `data.window` each window of each clip, those of a clip one by one."""
    window = config.data.window
    if window is None:
        return [Pick(clip) for clip in ids]
    span, hop = window.span(config.model.frames), window.hop_of(config.model.frames)
    return [Pick(clip, window=one) for clip in ids for one in covering_windows(store.clips[clip].frames, span, hop)]


def looks(data: DataConfig) -> list[tuple[int, bool]]:
    """The ways in which each clip is looked at in a test: an index set, and whether its frames are mirrored."""
    flips = (False, True) if data.test_flips else (False,)
    return [(clip, flip) for flip in flips for clip in range(data.test_clips)]


def by_clip(
    rows: Sequence[Pick], outputs: Tensor, targets: Tensor, window: WindowConfig, spec: TaskSpec
) -> tuple[Tensor, Tensor]:
    """Output and target of each clip, (N, C) and (N, ...), out of those of its windows.

    Args:
        rows: the windows, those of a clip next to each other.
        outputs: on the CPU, (rows, looks, C): each look at a window counts as a window.
        targets: (rows, ...); all windows of a clip have one.
        window: says how windows become a clip.
        spec: of the task.
    """
    counts = [len(list(same)) for _, same in groupby(rows, key=lambda row: row.clip)]
    whole = [_whole(one.flatten(0, 1), window, spec) for one in outputs.split(counts)]
    return torch.stack(whole), torch.stack([one[0] for one in targets.split(counts)])


def _whole(outputs: Tensor, window: WindowConfig, spec: TaskSpec) -> Tensor:
    """(C,) of a clip, of (K, C) of its windows; NaN where one has no finite number."""
    if not outputs.isfinite().all():
        return torch.full_like(outputs[0], torch.nan)
    if spec.output == "values":
        return outputs.mean(0)
    return torch.from_numpy(clip_logits(outputs.numpy(), window)).float()
