"""From a few measured steps to whole folds: only arithmetic, and the words for it."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, lcm

from mmadfer.config.schema import Config, TrainConfig
from mmadfer.launch.plan import EARLY, RETRIES_HERE
from mmadfer.launch.resources import Resources
from mmadfer.launch.slurm.parameters import RETRIES, SIGNAL_DELAY
from mmadfer.run.measurement import EpochSize, Measured
from mmadfer.utils.durations import duration

FULL = 0.9
"""Share of a memory above which it is called full."""


@dataclass(frozen=True)
class Cost:
    """What a launch would take."""

    seconds: dict[int, float]
    """Of each fold, over all its starts."""
    starts: dict[int, int]
    """How often each fold is started, for the time limit; 0 where no number of starts is enough."""
    wall: float
    """Seconds from the start of the first fold to the end of the last."""
    hours: float
    """Hours of GPUs, or of CPU cores where there are none."""
    checkpoints: int
    """Bytes of all checkpoints at their most: those that are kept, and the one that is being written."""
    exports: int
    """Bytes of the exported models."""


def cost(measured: Measured, config: Config, resources: Resources, export: bool, places: float) -> Cost:
    """What all folds take that were counted in `measured.sizes`; `places` is `plan.places`."""
    once = {size.fold: fold_seconds(measured, size, config) for size in measured.sizes}
    begun = {fold: starts(measured, seconds, resources) for fold, seconds in once.items()}
    again = measured.start + measured.save
    seconds = {fold: seconds + max(0, begun[fold] - 1) * again for fold, seconds in once.items()}
    per_fold = (config.train.keep + 1) * measured.checkpoint
    return Cost(
        seconds=seconds,
        starts=begun,
        wall=wall(list(seconds.values()), resources.parallel, places),
        hours=sum(seconds.values()) * (resources.gpus or resources.cpus) / 3600,
        checkpoints=per_fold * len(seconds),
        exports=measured.weights * len(seconds) if export else 0,
    )


def fold_seconds(measured: Measured, size: EpochSize, config: Config) -> float:
    """A fold from its start to its result in one go: start, steps, a test after each epoch, checkpoints.

    With clips for validation, these are tested after each epoch, and the test fold once.
    """
    often, once = (size.validation, size.clips) if size.validation else (size.clips, 0)
    often, once = (tested_clips_per_rank(clips, measured.ranks, config.train.batch_size) for clips in (often, once))
    clips = (config.train.epochs * often + once) * config.data.test_clips * (1 + config.data.test_flips)
    work = config.train.epochs * size.steps * measured.step + clips * measured.clip
    return measured.start + work + saves(config.train, size.steps) * measured.save


def tested_clips_per_rank(clips: int, ranks: int, batch: int) -> int:
    """Clips that each rank tests once: its share, filled up to whole batches where it is more than one."""
    share = -(-clips // ranks)
    return share if share <= batch else -(-share // batch) * batch


def saves(train: TrainConfig, steps: int) -> int:
    """Checkpoints of a whole training: one after each epoch, and one each `save_every` steps that end none."""
    total = train.epochs * steps
    return train.epochs + total // train.save_every - total // lcm(steps, train.save_every)


def own(measured: Measured, resources: Resources) -> float:
    """Seconds for steps in each start of a fold: from its first step to the signal before its time limit."""
    early = EARLY if resources.cluster == "slurm" else 0
    return resources.minutes * 60 - SIGNAL_DELAY - early - measured.start


def tries(resources: Resources) -> int:
    """How often a fold is started at most."""
    return 1 + (RETRIES if resources.cluster == "slurm" else RETRIES_HERE)


def starts(measured: Measured, seconds: float, resources: Resources) -> int:
    """How often a fold is started that takes so long in one go; 0 where no number of starts is enough."""
    each = own(measured, resources)
    count = ceil((seconds - measured.start) / each) if each > 0 else 0
    return count if count <= tries(resources) else 0


def wall(seconds: Sequence[float], parallel: int, places: float) -> float:
    """Until the last fold ends, of which `parallel` run at a time and `places` at full speed."""
    ends = [0.0] * parallel  # each takes the next fold as soon as it is free
    for one in seconds:
        heapq.heapreplace(ends, ends[0] + one)
    return max(*ends, sum(seconds) / places)


def describe_estimate(
    measured: Measured, config: Config, resources: Resources, export: bool, free: int, places: float
) -> str:
    """The whole estimate in words; `free` are bytes on the disk where runs lie, `places` is `plan.places`."""
    found = cost(measured, config, resources, export, places)
    warned = [*memories(measured, resources, places), *limits(measured, found, resources)]
    if (disk := found.checkpoints + found.exports) > free:
        warned.append(f"the disk has only {amount(free)} of {amount(disk)}: make room, or lower train.keep")
    parts = [_heading(measured, config, resources), _measured(measured, config, resources, places)]
    parts += [_folds(measured, found), _total(found, config, resources, free, places)]
    return "\n\n".join(
        [*parts, *(["\n".join(f"WARNING: {text}" for text in warned)] if warned else []), _note(resources)]
    )


def memories(measured: Measured, resources: Resources, places: float) -> list[str]:
    """Which memory is full, and what to do about it."""
    told = []
    if (gpu := gpu_memory(measured, resources, places)) > FULL * measured.gpu_total:
        fewer = "lower --array-parallelism, " if gpu > measured.gpu else ""
        told.append(
            f"the GPU's memory is {gpu / measured.gpu_total:.0%} full: {fewer}raise train.accumulate, or set "
            "train.checkpoint_activations=true"
        )
    if (host := host_memory(measured, resources)) > FULL * measured.host_total:
        more = "have more of it (where SLURM counts it by core, with --cpus-per-fold)"
        cure = "lower --array-parallelism" if _at_a_time(resources) else more
        told.append(
            f"training takes {amount(host)} of {amount(measured.host_total)} of main memory: {cure}, or lower "
            "train.batch_size or data.read_ahead"
        )
    return told


def limits(measured: Measured, found: Cost, resources: Resources) -> list[str]:
    """What the time limit does to the folds, and what to do about it."""
    limit, each, told = resources.minutes * 60, own(measured, resources), []
    never = [fold for fold, count in found.starts.items() if not count]
    later = {fold: count for fold, count in found.starts.items() if count > 1}
    if never:
        work = max(found.seconds[fold] for fold in never) - measured.start
        enough = limit - each + work / tries(resources)
        left = duration(each) if each > 0 else "no time"
        told.append(
            f"fold {_listed(never)}: --time {duration(limit)} leaves each start {left} for steps, and "
            f"{tries(resources)} starts are not enough: give at least {duration(60 * ceil(enough / 60))}"
        )
    if later:
        told.append(
            f"fold {_listed(later)}: --time {duration(limit)} takes {max(later.values())} starts; training saves "
            f"{SIGNAL_DELAY} s before the limit, is started again and goes on from there"
        )
    if (last := measured.step + measured.save) > SIGNAL_DELAY and (never or later):
        told.append(
            f"a step and a checkpoint take {duration(last)}, and before its time limit a fold has {SIGNAL_DELAY} s for "
            "them: give a --time that takes one start, or lower train.save_every"
        )
    return told


def _listed(folds: Iterable[int]) -> str:
    return ", ".join(map(str, folds))


def gpu_memory(measured: Measured, resources: Resources, places: float) -> int:
    """Bytes on one GPU, of all folds that share it."""
    return measured.gpu * max(1, ceil(resources.parallel / places))


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


def hours(number: float) -> str:
    """Hours as people read them: 0.0123, 12.3, 1,234."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _heading(measured: Measured, config: Config, resources: Resources) -> str:
    train, again = config.train, "" if measured.rounds == 1 else f" ({measured.rounds} rounds of its few clips)"
    return (
        f"{config.name}: measured at {measured.at} over {measured.steps} steps of fold {measured.fold}{again}\n"
        f"  {measured.ranks} rank(s) with {resources.threads} CPU thread(s) each, {measured.processor}\n"
        f"  precision {train.precision}, {'compiled' if measured.compiled else 'not compiled'}, batch "
        f"{train.batch_size} in {train.accumulate} micro-batch(es), ZeRO {train.zero_stage}"
    )


def _measured(measured: Measured, config: Config, resources: Resources, places: float) -> str:
    here, gpu = host_memory(measured, resources), gpu_memory(measured, resources, places)
    lines = {
        "step": f"{duration(measured.step)} (10th to 90th percentile {duration(measured.low)} to "
        f"{duration(measured.high)}), {config.train.batch_size / measured.step:.1f} clips/s, "
        f"{measured.waiting:.0%} of it waiting for data",
        "test": f"{duration(measured.clip)} a clip on each rank",
        "checkpoint": f"{duration(measured.save)}, {amount(measured.checkpoint)}",
        "start": f"{duration(measured.start)} to the end of the first step",
        "GPU memory": f"{amount(gpu)} of {amount(measured.gpu_total)} on each GPU" if measured.gpu_total else "",
        "memory": f"{amount(here)} of {amount(measured.host_total)} on each node" + _at_a_time(resources),
    }
    return "\n".join(f"  {name:<11} {text}" for name, text in lines.items() if text)


def _at_a_time(resources: Resources) -> str:
    return f", {resources.parallel} folds at a time" if resources.cluster == "local" and resources.parallel > 1 else ""


def _folds(measured: Measured, found: Cost) -> str:
    rows = [("fold", "steps an epoch", "test clips", "time")]
    rows += [
        (str(one.fold), str(one.steps), str(one.clips), duration(found.seconds[one.fold])) for one in measured.sizes
    ]
    table = "\n".join(f"  {fold:>4}  {steps:>14}  {clips:>10}  {time:>14}" for fold, steps, clips, time in rows)
    kept = ", ".join(str(one.validation) for one in measured.sizes if one.validation)
    return table + (f"\n  after each epoch, {kept} clips for validation; the test fold once" if kept else "")


def _total(found: Cost, config: Config, resources: Resources, free: int, places: float) -> str:
    kind = "GPU hours" if resources.gpus else "CPU core hours"
    disk = f"{amount(found.checkpoints)} for {config.train.keep + 1} checkpoints of each fold"
    if found.exports:
        disk += f", {amount(found.exports)} for exported models"
    shared = f", on {'GPUs' if resources.gpus else 'CPU cores'} for {places:.3g}"
    return (
        f"  {config.train.epochs} epochs of {len(found.seconds)} fold(s): {hours(found.hours)} {kind}\n"
        f"  {duration(found.wall)} from first to last with {resources.parallel} fold(s) at a time"
        f"{shared if resources.parallel > places else ''}\n"
        f"  disk: {disk}; {amount(free)} are free, as far as no quota says less"
    )


def _note(resources: Resources) -> str:
    queue = "time in the queue, " if resources.cluster == "slurm" else ""
    together = "what else folds that train at the same time take from each other, " if _at_a_time(resources) else ""
    return f"An estimate from a few steps. Not in it: {queue}{together}the report, the export's time, logs."
