"""One size of training in processes of its own, fed by the real loader: its speed, and where a step's time goes."""

import multiprocessing
import os
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from statistics import median

import torch
from _model import awake
from _train_forms import CLASSES, WARM, now

from mmadfer.config.schema import Config, ModelConfig, TrainConfig, parse
from mmadfer.data.loading.batch import Batch
from mmadfer.data.loading.loader import Loader
from mmadfer.data.loading.samplers import Pick
from mmadfer.data.store.store import Store
from mmadfer.distributed.ranks import connected
from mmadfer.train import deepspeed_engine as engines
from mmadfer.train.deepspeed_engine import Engine
from mmadfer.train.measure import peak

PARTS = ("waiting for data", "forward", "backward", "all-reduce", "optimizer")
WHOLE = "a step"


@dataclass(frozen=True)
class Job:
    """What one process measures."""

    store: Path
    model: ModelConfig
    train: TrainConfig
    rounds: int
    steps: int
    threads: int
    """Of torch, in each process."""
    parts: bool
    """Whether to time the parts of a step, too."""
    tests: bool
    """Whether to time the test of an epoch, too."""
    ranks: int = 1
    rank: int = 0
    port: int = 0


@dataclass(frozen=True)
class Point:
    """What rank 0 found; seconds and bytes."""

    step: float
    ready: float
    """From the weights to the end of the first step."""
    memory: int
    """The most that torch had on the GPU; without one, the most that the process had."""
    test: float
    """A clip of a test; 0 where it was not asked for."""
    test_ready: float
    """What the first test takes longer than the second: compiling."""
    parts: dict[str, float]
    """Of a step whose parts are waited for one by one, by `PARTS` and `WHOLE`; empty where not asked for."""


def apart(job: Job, measure: Callable[[Job], Point] | None = None) -> Point:
    """Measure in new processes, as many as there are ranks; where one fails, the others are ended.

    Args:
        job: what to measure.
        measure: as one of the ranks, by default `point`; a function of a module.

    Raises:
        torch.multiprocessing.ProcessRaisedException: one has failed; it holds what that one said.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answers = multiprocessing.get_context("spawn").SimpleQueue()
    torch.multiprocessing.spawn(_answer, (replace(job, port=port), measure or point, answers), job.ranks)
    return answers.get()


def _answer(rank: int, job: Job, measure: Callable[[Job], Point], answers: SimpleQueue[Point]) -> None:
    found = measure(replace(job, rank=rank))
    if rank == 0:
        answers.put(found)


def point(job: Job) -> Point:
    """Measure as one of the ranks."""
    where = {"RANK": job.rank, "LOCAL_RANK": job.rank, "WORLD_SIZE": job.ranks, "MASTER_PORT": job.port}
    os.environ.update({name: str(value) for name, value in where.items()}, MASTER_ADDR="127.0.0.1")
    torch.set_num_threads(job.threads)
    config = configured(job.model, job.train)
    with connected() as ranks, Store(job.store) as store, closing(loader(store, config, ranks.device)) as ours:
        model, begun = awake(job.model, CLASSES), time.perf_counter()
        with closing(Engine(model, job.train, ranks)) as engine:
            count = 1 + WARM[ranks.device.type] + 2 * job.rounds * job.steps
            stream = feed(ours, job.train.batch_size // job.ranks, count, job.rank)
            _steps(engine, stream, 1)
            ready = time.perf_counter() - begun
            _steps(engine, stream, WARM[ranks.device.type])
            spent = [_steps(engine, stream, job.steps) / job.steps for _ in range(job.rounds)]
            memory = _memory(ranks.device)
            parts = _parts(engine, stream, job.steps * job.rounds) if job.parts else {}
            tests = _tests(engine, ours, job) if job.tests else (0.0, 0.0)
            ranks.barrier()
            return Point(median(spent), ready, memory, *tests, parts)


def configured(model: ModelConfig, train: TrainConfig) -> Config:
    """A whole configuration."""
    threads = min(4, max(1, len(os.sched_getaffinity(0)) // 4))
    config = parse({"name": "bench", "data": {"threads": threads}}, where="bench/train.py")
    return config.model_copy(update={"model": model, "train": train})


def loader(store: Store, config: Config, device: torch.device) -> Loader:
    """Of a rank."""
    return Loader(store, config, store.labels, "cpu" if device.type == "cpu" else device.index)


def feed(ours: Loader, clips: int, count: int, rank: int = 0) -> Iterator[Batch]:
    """So many batches of so many clips; each rank begins with another clip."""
    ids = list(ours.store.clips)
    parts = [[Pick(ids[(clips * (number + rank) + k) % len(ids)]) for k in range(clips)] for number in range(count)]
    return ours.train(0, parts)


def _steps(engine: Engine, stream: Iterator[Batch], count: int) -> float:
    """Seconds of so many steps with their data, one report behind the device as the training loop."""
    begun, reports = time.perf_counter(), []
    for _ in range(count):
        reports.append(engine.step([next(stream)], engine.config.lr, lambda: False))
        if len(reports) > engine.lag:
            reports.pop(0).read()
    for report in reports:
        report.read()
    return time.perf_counter() - begun


def _tests(engine: Engine, ours: Loader, job: Job) -> tuple[float, float]:
    """Seconds for a clip, loading included, in the second of two equal passes; how much longer the first took."""
    size, ids, seconds = job.train.batch_size // job.ranks, list(ours.store.clips), list[float]()
    several = (size * job.steps // len(ids) + 1) * ids
    for _ in range(2):
        begun = time.perf_counter()
        for batch in ours.test(several[: size * job.steps], size):
            engine.logits(batch).cpu()
        seconds.append(time.perf_counter() - begun)
    return seconds[1] / (size * job.steps), max(0.0, seconds[0] - seconds[1])


# ---------------------------------------------------------------- where the time goes


class Clock:
    """Seconds in each part, each begun and ended when the device is done."""

    def __init__(self, device: torch.device) -> None:
        self._device, self.spent = device, defaultdict[str, float](float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begun = now(self._device)
        yield
        self.spent[name] += now(self._device) - begun


@contextmanager
def clocked(engine: Engine) -> Iterator[Clock]:
    """In the block, the ranges that the engine names for a profiler are told to the clock, and so is DeepSpeed's
    exchange of gradients."""
    clock, inner = Clock(engine.ranks.device), engine._engine
    ranges, exchange = engines.record_function, inner.allreduce_gradients

    def timed(*arguments: object, **others: object) -> None:
        with clock("all-reduce"):
            exchange(*arguments, **others)

    engines.record_function, inner.allreduce_gradients = clock, timed  # type: ignore[assignment]
    try:
        yield clock
    finally:
        engines.record_function = ranges
        del inner.allreduce_gradients


def _parts(engine: Engine, stream: Iterator[Batch], steps: int) -> dict[str, float]:
    with clocked(engine) as clock:
        for _ in range(steps):
            with clock(WHOLE):
                with clock("waiting for data"):
                    batch = next(stream)
                engine.step([batch], engine.config.lr, lambda: False).read()
    spent = {name: clock.spent[name] / steps for name in (*PARTS, WHOLE)}
    return spent | {"backward": spent["backward"] - spent["all-reduce"]}  # which is inside of it


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak()
