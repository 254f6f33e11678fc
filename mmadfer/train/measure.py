"""A few steps, a test and a checkpoint of one fold, with a clock: for `mmadfer launch --estimate`."""

import os
import re
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from mmadfer.config.schema import Config
from mmadfer.data.fold_clips import steps_per_epoch, test_clips, validation_clips
from mmadfer.data.loading.batch import Batch
from mmadfer.data.loading.loader import batches
from mmadfer.data.store.store import Store
from mmadfer.distributed.ranks import Ranks, connected
from mmadfer.evaluation.clip_windows import looks, rows_of
from mmadfer.evaluation.evaluate import run_test
from mmadfer.model.mma_dfer import empty_model
from mmadfer.run import directory as runs
from mmadfer.run.lease import Held
from mmadfer.run.measurement import EpochSize, Measured
from mmadfer.train.finite_checks import StepReport
from mmadfer.train.loop import Trainer
from mmadfer.train.profiler import SKIPPED
from mmadfer.train.schedules import learning_rate
from mmadfer.utils import memory
from mmadfer.utils.optional import need

WARM = SKIPPED
"""Steps that do not count."""
_MEASURED_STEPS = 20
TESTS = 10
"""Batches of each rank in the test that counts: enough for the loader's start to be little of it."""


def measure(config: Config, fold: int, folds: Sequence[int], folder: Path) -> None:
    """Measure a fold, as one of the ranks that the environment tells of; rank 0 writes a `Measured`.

    Args:
        config: all of it; `data.store` must be set.
        fold: it is trained for a few steps, once more from its beginning where an epoch has too few.
        folds: those whose sizes are told.
        folder: where the checkpoints and the result are written.

    Raises:
        Whatever training would: ConfigError, DataError, WeightsError, TrainingError.
    """
    with (
        connected() as ranks,
        closing(Trainer(config, fold, folder, ranks, Held(token="estimate"), lambda: False)) as trainer,
    ):
        found = _measure(trainer, folds)
        if ranks.main:
            found.write(folder)
        ranks.barrier()


def _measure(trainer: Trainer, folds: Sequence[int]) -> Measured:
    config, store, ranks = trainer.config, trainer.store, trainer.ranks
    steps = _steps(trainer)
    clip, more = _test(trainer)
    save = _save(trainer)
    mine = [steps.waiting, float(peak()), *map(float, _gpu(ranks.device))]
    waiting, host, gpu, gpu_total = map(max, zip(*ranks.gather(mine), strict=True))
    low, high = np.percentile(steps.seconds, [10, 90]).tolist()
    return Measured(
        at=runs.now(),
        processor=ranks.hardware,
        compiled=trainer.engine.compiled,
        fold=trainer.fold,
        ranks=ranks.world,
        sizes=[_sizes(config, store, one) for one in folds],
        steps=_MEASURED_STEPS,
        rounds=-(-(WARM + _MEASURED_STEPS) // trainer.steps),
        start=steps.start + more,
        step=float(np.mean(steps.seconds)),  # not their median: what comes once an epoch, or in bursts, takes time too
        low=low,
        high=high,
        waiting=waiting,
        clip=clip,
        save=save,
        checkpoint=_size(runs.latest_checkpoint(trainer.folder)) if ranks.main else 0,
        weights=4 * _numbers(trainer),
        gpu=int(gpu),
        gpu_total=int(gpu_total),
        host=int(host),
        host_total=room(),
    )


def _sizes(config: Config, store: Store, fold: int) -> EpochSize:
    steps, validation = steps_per_epoch(config, store, fold), validation_clips(config, store, fold)
    tested, validated = (rows_of(config, store, ids) for ids in (test_clips(config, store, fold), validation))
    return EpochSize(fold, steps, len(tested), len(validated))


@dataclass(frozen=True)
class _Steps:
    seconds: list[float]
    """Of each step that counts."""
    waiting: float
    start: float


def _steps(trainer: Trainer) -> _Steps:
    """Train; a step ends where the loop reads its report, which on a GPU is while the next one runs."""
    engine, under_way = trainer.engine, deque[StepReport]()
    lr, start = learning_rate(trainer.config.train, 0), 0.0
    waits, ends = list[float](), list[float]()
    with closing(_micro_batches(trainer)) as stream:
        for number in range(WARM + _MEASURED_STEPS):
            begun = time.perf_counter()
            micro = next(stream)
            waits.append(time.perf_counter() - begun)
            under_way.append(engine.step(micro, lr, lambda: False))
            while len(under_way) > (engine.lag if number else 0):
                trainer.strikes.see(under_way.popleft().read(), number + 1)
            ends.append(time.perf_counter())
            start = start or time.time() - _process().create_time()
    seconds = np.diff(ends)[WARM - 1 :].tolist()
    return _Steps(seconds, sum(waits[WARM:]) / sum(seconds), start)


def _micro_batches(trainer: Trainer) -> Generator[list[Batch]]:
    """What each step of this rank takes, epoch after epoch."""
    config, ranks = trainer.config, trainer.ranks
    for epoch in count():
        ids = batches(config, trainer.store, trainer.fold, epoch, rank=ranks.rank, world=ranks.world)
        with closing(cast(Generator[Batch], trainer.loader.train(epoch, ids))) as stream:
            while micro := list(islice(stream, config.train.accumulate)):
                yield micro


def _test(trainer: Trainer) -> tuple[float, float]:
    """Seconds for one clip of a rank, and how many more the first batch took."""
    config, ranks = trainer.config, trainer.ranks
    clips, batch = test_clips(config, trainer.store, trainer.fold), config.train.batch_size * ranks.world

    def timed(ids: Sequence[str]) -> tuple[float, int]:
        begun = _now(ranks)
        run_test(trainer.engine.logits, trainer.loader, ids, ranks)
        rows = len(rows_of(config, trainer.store, ids))
        return _now(ranks) - begun, -(-rows // ranks.world) * len(looks(config.data))

    whole = max(1, min(TESTS, len(clips) // batch))  # batches, as `run_test` fills up others
    (first, of_first), (usual, of_usual) = timed(clips[:batch]), timed(clips[: whole * batch])
    each = usual / of_usual
    return each, max(0.0, first - of_first * each)


def _save(trainer: Trainer) -> float:
    """Seconds of a checkpoint; the second of two, for the first imports what it needs."""
    begun = 0.0
    for total in (1, 2):
        trainer.at.total = total
        begun = _now(trainer.ranks)
        trainer.save()
    return _now(trainer.ranks) - begun


def _now(ranks: Ranks) -> float:
    """The time when all ranks and their devices are done."""
    if ranks.device.type == "cuda":
        torch.cuda.synchronize(ranks.device)
    ranks.barrier()
    return time.perf_counter()


def _numbers(trainer: Trainer) -> int:
    """Of a whole model, of which the trained one may have shared some out over ranks, or turned them into 8 bits."""
    return sum(
        weight.numel()
        for weight in empty_model(trainer.config.model, len(trainer.config.task.values or trainer.labels)).parameters()
    )


def _size(checkpoint: Path | None) -> int:
    return sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file()) if checkpoint else 0


def _gpu(device: torch.device) -> tuple[int, int]:
    """Most bytes in use on the GPU, and what it has. DALI, NCCL and CUDA itself lie beside what torch knows of."""
    if device.type != "cuda":
        return 0, 0
    free, total = torch.cuda.mem_get_info(device)
    beside = total - free - torch.cuda.memory_reserved(device)
    return torch.cuda.max_memory_reserved(device) + beside, total


def peak() -> int:
    """Most bytes of memory that this process has had (getrusage would count its parent's)."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else int(_process().memory_info().rss)


def room() -> int:
    """Bytes of memory that this job may have on this node: the least of what is said anywhere."""
    per_node, per_cpu = (int(os.environ.get(f"SLURM_MEM_PER_{unit}") or 0) for unit in ("NODE", "CPU"))
    megabytes = per_node or per_cpu * int(os.environ.get("SLURM_CPUS_ON_NODE") or 1)
    machine = int(need("psutil", "train").virtual_memory().total)
    return min(bound for bound in (megabytes * 2**20, memory.limit(), machine) if bound)


def _process() -> Any:
    return need("psutil", "train").Process()
