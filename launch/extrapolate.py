"""From a few measured steps to whole folds: only arithmetic, and the words for it."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import lcm

from mmadfer.config import Config, TrainConfig
from mmadfer.launch.plan import RETRIES, Resources
from mmadfer.train.measured import Measured, Size

FULL = 0.9
"""Share of a memory above which it is called full."""


@dataclass(frozen=True)
class Cost:
    """What a launch would take."""

    seconds: dict[int, float]
    """Of each fold."""
    wall: float
    """Seconds from the start of the first fold to the end of the last."""
    hours: float
    """Hours of GPUs, or of CPU cores where there are none."""
    checkpoints: int
    """Bytes of all checkpoints at their most: those that are kept, and the one that is being written."""
    exports: int
    """Bytes of the exported models."""


def cost(measured: Measured, config: Config, resources: Resources, export: bool) -> Cost:
    """What all folds take that were counted in `measured.sizes`."""
    seconds = {size.fold: fold_seconds(measured, size, config) for size in measured.sizes}
    per_fold = (config.train.keep + 1) * measured.checkpoint
    return Cost(
        seconds=seconds,
        wall=wall(list(seconds.values()), resources.parallel),
        hours=sum(seconds.values()) * (resources.gpus or resources.cpus) / 3600,
        checkpoints=per_fold * len(seconds),
        exports=measured.weights * len(seconds) if export else 0,
    )


def fold_seconds(measured: Measured, size: Size, config: Config) -> float:
    """A fold from its start to its result: start, steps, a test after each epoch, checkpoints."""
    clips = tested(size.clips, measured.ranks, config.train.batch_size) * config.data.test_clips
    work = config.train.epochs * (size.steps * measured.step + clips * measured.clip)
    return measured.start + work + saves(config.train, size.steps) * measured.save


def tested(clips: int, ranks: int, batch: int) -> int:
    """Clips that each rank tests once: its share, filled up to whole batches where it is more than one."""
    share = -(-clips // ranks)
    return share if share <= batch else -(-share // batch) * batch


def saves(train: TrainConfig, steps: int) -> int:
    """Checkpoints of a whole training: one after each epoch, and one each `save_every` steps that end none."""
    total = train.epochs * steps
    return train.epochs + total // train.save_every - total // lcm(steps, train.save_every)


def wall(seconds: Sequence[float], parallel: int) -> float:
    """Until the last fold ends, where each of so many places takes the next fold as soon as it is free."""
    places = [0.0] * parallel
    for one in seconds:
        heapq.heapreplace(places, places[0] + one)
    return max(places)


def describe(measured: Measured, config: Config, resources: Resources, export: bool, free: int) -> str:
    """The whole estimate in words; `free` are bytes on the disk where runs lie."""
    found = cost(measured, config, resources, export)
    warned = warnings(measured, found, resources, free)
    parts = [_heading(measured, config, resources), _measured(measured, config, resources)]
    parts += [_folds(measured, found), _total(measured, found, config, resources, free)]
    return "\n\n".join(
        [*parts, *(["\n".join(f"WARNING: {text}" for text in warned)] if warned else []), _note(resources)]
    )


def warnings(measured: Measured, found: Cost, resources: Resources, free: int) -> list[str]:
    """What would go wrong, and what to do about it."""
    limit, longest = resources.minutes * 60, max(found.seconds.values())
    late = [str(fold) for fold, seconds in found.seconds.items() if seconds > limit]
    told = []
    if measured.gpu > FULL * measured.gpu_total:
        told.append(
            f"the GPU's memory is {measured.gpu / measured.gpu_total:.0%} full: raise train.accumulate, or set "
            "train.checkpoint_activations=true"
        )
    if (host := host_memory(measured, resources)) > FULL * measured.host_total:
        told.append(
            f"training takes {amount(host)} of {amount(measured.host_total)} of main memory: have more of it, or lower "
            "train.batch_size or data.read_ahead"
        )
    if longest > (RETRIES + 1) * limit:
        told.append(f"fold {', '.join(late)}: {RETRIES} more starts are not enough with --time {span(limit)}: raise it")
    elif late:
        told.append(
            f"fold {', '.join(late)}: longer than --time {span(limit)}; training saves before the limit, is started "
            "again and goes on from there"
        )
    if (disk := found.checkpoints + found.exports) > free:
        told.append(f"the disk has only {amount(free)} of {amount(disk)}: make room, or lower train.keep")
    return told


def host_memory(measured: Measured, resources: Resources) -> int:
    """Bytes of main memory on one node: of all ranks of a fold there, and on this machine of all folds at a time."""
    folds = resources.parallel if resources.cluster == "local" else 1
    return measured.host * resources.ranks_per_node * folds


def amount(number: float) -> str:
    """Bytes as people read them, in powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if number >= 100 or unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def span(seconds: float) -> str:
    """Time as people read it: 12 ms, 1.25 s, 0:04:10, 1 day, 2:00:00."""
    if seconds < 0.1:
        return f"{1000 * seconds:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 100 else str(timedelta(seconds=round(seconds)))


def _heading(measured: Measured, config: Config, resources: Resources) -> str:
    train, again = config.train, "" if measured.rounds == 1 else f" ({measured.rounds} rounds of its few clips)"
    return (
        f"{config.name}: measured at {measured.at} over {measured.steps} steps of fold {measured.fold}{again}\n"
        f"  {measured.ranks} rank(s) with {resources.threads} CPU thread(s) each, {measured.processor}\n"
        f"  precision {train.precision}, {'compiled' if measured.compiled else 'not compiled'}, batch "
        f"{train.batch_size} in {train.accumulate} micro-batch(es), ZeRO {train.zero_stage}"
    )


def _measured(measured: Measured, config: Config, resources: Resources) -> str:
    here = host_memory(measured, resources)
    lines = {
        "step": f"{span(measured.step)} (10th to 90th percentile {span(measured.low)} to {span(measured.high)}), "
        f"{config.train.batch_size / measured.step:.1f} clips/s, {measured.waiting:.0%} of it waiting for data",
        "test": f"{span(measured.clip)} a clip on each rank",
        "checkpoint": f"{span(measured.save)}, {amount(measured.checkpoint)}",
        "start": f"{span(measured.start)} to the end of the first step",
        "GPU memory": f"{amount(measured.gpu)} of {amount(measured.gpu_total)} on each GPU"
        if measured.gpu_total
        else "",
        "memory": f"{amount(here)} of {amount(measured.host_total)} on each node" + _at_a_time(resources),
    }
    return "\n".join(f"  {name:<11} {text}" for name, text in lines.items() if text)


def _at_a_time(resources: Resources) -> str:
    return f", {resources.parallel} folds at a time" if resources.cluster == "local" and resources.parallel > 1 else ""


def _folds(measured: Measured, found: Cost) -> str:
    rows = [("fold", "steps an epoch", "test clips", "time")]
    rows += [(str(one.fold), str(one.steps), str(one.clips), span(found.seconds[one.fold])) for one in measured.sizes]
    return "\n".join(f"  {fold:>4}  {steps:>14}  {clips:>10}  {time:>14}" for fold, steps, clips, time in rows)


def _total(measured: Measured, found: Cost, config: Config, resources: Resources, free: int) -> str:
    kind = "GPU hours" if resources.gpus else "CPU core hours"
    disk = f"{amount(found.checkpoints)} for {config.train.keep + 1} checkpoints of each fold"
    if found.exports:
        disk += f", {amount(found.exports)} for exported models"
    return (
        f"  {config.train.epochs} epochs of {len(found.seconds)} fold(s): {found.hours:.3g} {kind}\n"
        f"  {span(found.wall)} from first to last with {resources.parallel} fold(s) at a time\n"
        f"  disk: {disk}; {amount(free)} are free"
    )


def _note(resources: Resources) -> str:
    queue = "time in the queue, " if resources.cluster == "slurm" else ""
    together = "what folds that train at the same time take from each other, " if _at_a_time(resources) else ""
    return f"An estimate from a few steps. Not in it: {queue}{together}the report, the export's time, logs."
