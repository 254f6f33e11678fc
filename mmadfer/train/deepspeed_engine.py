"""DeepSpeed around the model: one optimizer step at a time, the same on CPU and GPU, at any ZeRO stage."""

import importlib
import logging
import os
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.profiler import record_function

from mmadfer.config.adaptation import AdaptConfig
from mmadfer.config.task import TaskConfig
from mmadfer.config.training import OPTIMIZERS, Precision, TrainConfig
from mmadfer.data.loading.batch import Batch, preprocess
from mmadfer.distributed.ranks import Ranks, is_lost_peer
from mmadfer.errors import ConfigError, MmadferError, TrainingError, WeightsError
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.precision import apply, autocast, compiles, loss_scale, products
from mmadfer.run.disk import read_pickle, write_pickle
from mmadfer.run.records import Event
from mmadfer.tasks.adaptation import AdaptationLoss
from mmadfer.tasks.base import Run, Task
from mmadfer.tasks.output import Output
from mmadfer.tasks.tables import of_events
from mmadfer.train.ema import Average
from mmadfer.train.finite_checks import GradientNorm, StepReport
from mmadfer.train.optimizers import grouped
from mmadfer.utils import compat
from mmadfer.utils.optional import need


class Engine:
    """Moves the trainable weights of `model`; all ranks call the same methods in the same order.

    At ZeRO stage 0 no step waits for the device, except with `precision: reference` and where `task.distill` is pkdot:
    whether it is finite is decided there, and the fused optimizer leaves the weights alone if not. DeepSpeed's ZeRO
    itself waits in every step.

    Args:
        model: on the CPU in float32; it is moved to the rank's device, and its frozen part to `train.precision`.
        config: the recipe.
        ranks: this process and its peers.
        task: what a step computes; by default, classification as published.
        teacher: what the task may ask; in eval mode and in float32 on the CPU, it is moved and rounded as the model.
        adapt: how the loss of clips without labels is made, and whether the temporal part and the head learn alone.
            Steps then wait for the device, too.
    """

    def __init__(
        self,
        model: MMADFER,
        config: TrainConfig,
        ranks: Ranks,
        task: TaskConfig | None = None,
        teacher: MMADFER | None = None,
        adapt: AdaptConfig | None = None,
    ) -> None:
        task = TaskConfig() if task is None else task
        self.model, self.config, self.ranks = model, config, ranks
        self.compiled = model.config.layered and not ranks.any(not compiles(config, ranks.device))
        self.each: list[Tensor] | None = None
        """Where a list, it gets a number of each clip (clips,) of this rank's micro-batches in the last step."""
        self.observed: Literal["loss", "score"] = "loss"
        """Which number: as of a sampler."""
        self.lag = int(ranks.device.type == "cuda")
        """Steps that may be under way when the report of one is read."""
        apply(model, config.precision, ranks.device, self.compiled, config.checkpoint_activations)
        if ranks.device.type == "cuda":
            _deterministic()
        if teacher is not None:
            apply(teacher, config.precision, ranks.device)
        self._run = _Run(config.precision, ranks.device)
        self.task = _task(model, self._run, task, config.seed, teacher).to(ranks.device)
        if adapt is not None:
            self.task.adaptation = AdaptationLoss(adapt, task.compared)
        self._taken = {*Event.model_fields, *(name for name, _, _ in of_events(task.spec))}
        learning = {**model.trainable(), **self.task.own_trainable()}
        kept = {*model.before_temporal(learning)} if adapt is not None and adapt.trains == "temporal" else set[str]()
        self.trainable: dict[str, nn.Parameter] = {name: one for name, one in learning.items() if name not in kept}
        """All that learns, by the names of weights.safetensors."""
        trainable = list(self.trainable.values())
        self._scale = loss_scale(config.precision)
        if self._scale != 1:
            for parameter in trainable:
                parameter.register_hook(lambda gradient: gradient / self._scale)
        self._norm = GradientNorm(trainable, ranks.device)
        groups, fused = grouped(self.trainable, config), config.precision != "reference"
        self._shares = [group["lr"] / config.scaled_lr for group in groups]
        self._optimizer = OPTIMIZERS.load(config.optimizer)(groups, config, fused)
        self._skips = config.zero_stage == 0 and bool(self._optimizer.defaults.get("fused"))
        self._engine = _initialize(self.task, self._optimizer, config, ranks)
        self._average = Average(self.trainable, config.ema) if config.ema else None
        held = {**model.learned(), **self.task.own()}
        self._buffers = [value for name, value in held.items() if name not in learning]

    def step(self, batches: Sequence[Batch], lr: float, stop: Callable[[], bool]) -> StepReport:
        """One optimizer step over the micro-batches, skipped by all ranks if any rank's part is not finite.

        `lr` is for weights of no group; those of `train.groups` move by as many times it as in the first epoch.
        """
        for group, share in zip(self._engine.optimizer.param_groups, self._shares, strict=True):
            group["lr"] = lr * share
        parts, before = [], [buffer.clone() for buffer in self._buffers]
        if self.each is not None:
            self.each.clear()
        for index, batch in enumerate(batches):
            if index:
                self._engine.step()  # counts the micro-batch; the optimizer only moves after the last one
            parts.append(self._backward(batch))
        asked = torch.full((), float(stop()), device=self.ranks.device)
        loss, *others = [torch.stack([one[name] for one in parts]).mean() for name in parts[0]]
        rows = self.ranks.gather_tensor(torch.stack([loss, self._norm.take(), asked, *others]))
        with record_function("optimizer"):
            self._move(rows)
        self._keep_buffers(before, rows)
        return StepReport(rows, list(parts[0])[1:])

    def _move(self, rows: Tensor) -> None:
        """Step or skip, by what the ranks (ranks, 3 and more) say."""
        if self._skips:
            lost = (~rows[:, :2].isfinite().all()).float()
            self._optimizer.found_inf = lost
            self._engine.step()
            self._follow(1 - lost)
        elif bool(rows[:, :2].isfinite().all()):
            self._engine.step()
            self._follow(torch.ones((), device=rows.device))
        else:
            self._skip()

    def _keep_buffers(self, before: list[Tensor], rows: Tensor) -> None:
        """As before a step that was skipped; else every rank goes on with the first one's, which a checkpoint holds."""
        finite = rows[:, :2].isfinite().all()
        for buffer, old in zip(self._buffers, before, strict=True):
            buffer.copy_(torch.where(finite, buffer, old))
            dist.broadcast(buffer, 0)

    def _follow(self, moved: Tensor) -> None:
        if self._average is not None:
            self._average.follow(moved)

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """Logits (B, classes) in float32, of `whole`; at ZeRO stage 3 all ranks must ask together."""
        with nullcontext() if self._average is None else self._average.instead(), self.model.evaluating():
            return self._engine(replace(batch, targets={}, drop_path=None))["output"]

    @torch.no_grad()
    def encode(self, batch: Batch) -> Tensor:
        """What the model makes of a batch before its temporal part, (B, T, W), as for `logits`; not at ZeRO stage 3."""
        with nullcontext() if self._average is None else self._average.instead(), self.model.evaluating():
            return self._run.encode(self.model, replace(batch, drop_path=None))

    @torch.no_grad()
    def pooled(self, batch: Batch) -> Tensor:
        """The features (B, W) in float32 that the head turns into the logits, as for `logits`; not at ZeRO stage 3."""
        with nullcontext() if self._average is None else self._average.instead(), self.model.evaluating():
            return self._run.detailed(self.model, replace(batch, drop_path=None), ()).pooled

    @contextmanager
    def whole(self) -> Iterator[MMADFER]:
        """The model as it is tested and published: with `train.ema`, the trained weights are their average.

        All weights are in place, which ZeRO stage 3 otherwise spreads over the ranks.
        """
        if self.config.zero_stage < 3:
            with nullcontext() if self._average is None else self._average.instead():
                yield self.model
            return
        with need("deepspeed", "train").zero.GatheredParameters(list(self.trainable.values())):
            yield self.model

    def save(self, folder: Path) -> OSError | None:
        """Write DeepSpeed's state of all ranks into `folder`, without frozen weights.

        Returns:
            What went wrong on this rank, so that the ranks can agree on it instead of waiting for each other.
        """
        files = self._engine.checkpoint_engine
        files.problem = None
        self._engine.save_checkpoint(
            str(folder.parent), tag=folder.name, save_latest=False, exclude_frozen_parameters=True
        )
        return files.problem

    def load(self, folder: Path, weights: Path) -> None:
        """Read what `save` wrote, and the average from the safetensors file of `whole`.

        Raises:
            WeightsError: a file holds anything but tensors and plain values, or not what `save` wrote; nothing in it is
                executed.
        """
        groups = self._optimizer.param_groups
        own = [{key: value for key, value in group.items() if key != "params"} for group in groups]
        with _refusing(folder):
            self._engine.load_checkpoint(str(folder.parent), tag=folder.name, load_module_strict=False)
            if self._average is not None:
                self._average.load(weights)
        for group, settings in zip(self._optimizer.param_groups, own, strict=True):
            group.update(settings)  # the configuration's, not the file's

    def close(self) -> None:
        """Give DeepSpeed's memory back; the process group must still be there."""
        self._engine.destroy()

    def _backward(self, batch: Batch) -> dict[str, Tensor]:
        """The task's numbers, `loss` first.

        Raises:
            ConfigError: one has a name that metrics.jsonl uses itself.
        """
        with record_function("forward"):
            found = self._engine(batch)
        loss = found["loss"]
        if self.each is not None:
            each = self.task.each if self.observed == "loss" else self.task.scores
            self.each.append(each(found["output"], batch))
        # An infinite loss can have finite gradients; DeepSpeed judges by these alone.
        scale = torch.where(loss.detach().isfinite(), self._scale, torch.nan)
        with record_function("backward"), products(self.config.precision, self.ranks.device):
            self._engine.backward(loss * scale)
        parts = {name: part for name, part in found.items() if name not in ("loss", "output")}
        if taken := sorted(parts.keys() & self._taken):
            raise ConfigError(
                f"task.name: the task gives a part {taken[0]!r}, which metrics.jsonl has for a number of its own: give "
                "it another name in `parts`"
            )
        return {"loss": loss.detach(), **dict(sorted(parts.items()))}

    def _skip(self) -> None:
        if self.config.zero_stage == 0:
            compat.count_skipped_micro_batch(self._engine)
            return
        self._engine.step()  # ZeRO keeps gradients in buffers of its own, and drops them where their norm is not finite
        if self._engine.was_step_applied():
            raise TrainingError(
                "DeepSpeed has moved the weights by a gradient that is not finite, so they are lost; checkpoints are "
                "whole. Start a new run with train.zero_stage=0, where mmadfer itself skips such a step"
            )


def _task(model: MMADFER, run: Run, settings: TaskConfig, seed: int, teacher: MMADFER | None) -> Task:
    """The task around the model; its own modules draw their weights from `seed`, beside the global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: Task = settings.spec.step()(model, run, settings)
        made.complete(settings.terms, teacher)
    return made


@dataclass(frozen=True)
class _Run:
    """What a model says of a batch, in this arithmetic."""

    precision: Precision
    device: torch.device

    def __call__(self, model: Any, batch: Batch) -> Tensor:
        if batch.joint is not None:
            return self._of_joint(model, batch.joint).logits
        frames = preprocess(batch)
        with autocast(self.precision, self.device):
            logits: Tensor = model(frames, batch.fbank, batch.drop_path, batch.tokens)
        return logits

    def _of_joint(self, model: Any, joint: Tensor) -> Output:
        with autocast(self.precision, self.device):
            found: Output = model.of_joint(joint)
        return found

    def encode(self, model: Any, batch: Batch) -> Tensor:
        """What a model makes of it before its temporal part."""
        frames = preprocess(batch)
        with autocast(self.precision, self.device):
            joint: Tensor = model.encode(frames, batch.fbank, batch.drop_path, tokens=batch.tokens)
        return joint

    def detailed(self, model: Any, batch: Batch, layers: Container[int]) -> Output:
        """The same in detail; logits, sequence and pooled in float32."""
        if batch.joint is not None:
            return self._of_joint(model, batch.joint).float()
        frames = preprocess(batch)
        with autocast(self.precision, self.device):
            found: Output = model.detailed(frames, batch.fbank, batch.drop_path, layers, batch.tokens)
        return found.float()

    @torch.no_grad()
    def taught(self, teacher: nn.Module, layers: Container[int], batch: Batch) -> Output:
        """What a teacher says, of all its blocks."""
        return self.detailed(teacher, replace(batch, drop_path=None), layers)


@contextmanager
def _refusing(folder: Path) -> Iterator[None]:
    """A file that is no checkpoint's can end in any error of DeepSpeed's; ranks that were lost are told elsewhere."""
    try:
        yield
    except MmadferError:
        raise
    except Exception as error:
        if isinstance(error, RuntimeError) and is_lost_peer(error):
            raise
        raise WeightsError(
            f"{folder} was refused: it holds no state of this training ({type(error).__name__}: {str(error)[:200]}). "
            "Use a checkpoint of your own"
        ) from error


def _deterministic() -> None:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)  # with warn_only, fused attention's gradients are not
    deterministic: Any = importlib.import_module("torch.utils.deterministic")
    deterministic.fill_uninitialized_memory = False  # nothing reads it, and filling it takes time


def _initialize(task: Task, optimizer: torch.optim.Optimizer, config: TrainConfig, ranks: Ranks) -> Any:
    deepspeed = _deepspeed(ranks.device)
    engine, *_ = deepspeed.initialize(model=task, optimizer=optimizer, config=_settings(config, ranks.world))
    compat.checkpoint_files(engine, write_pickle, read_pickle)
    return engine


def _settings(config: TrainConfig, world: int) -> dict[str, Any]:
    return {
        "train_batch_size": config.batch_size,
        "train_micro_batch_size_per_gpu": config.batch_size // world // config.accumulate,
        "gradient_accumulation_steps": config.accumulate,
        "zero_optimization": {
            "stage": config.zero_stage,
            "memory_efficient_linear": False,
        },  # it patches torch for good
        "gradient_clipping": config.clip_norm or 0.0,  # DeepSpeed clips at 1 by default
        "zero_allow_untested_optimizer": True,
        "steps_per_print": None,
    }


def _deepspeed(device: torch.device) -> Any:
    """Import DeepSpeed for this device, without its compiling, its search for MPI and most of its talk."""
    os.environ["DS_ACCELERATOR"] = device.type
    deepspeed = need("deepspeed", "train")
    logging.getLogger("DeepSpeed").setLevel(os.environ.get("MMADFER_DEEPSPEED_LOG", "ERROR"))
    compat.without_compiled_communication()
    compat.forget_process_groups()
    deepspeed.init_distributed("nccl" if device.type == "cuda" else "gloo", auto_mpi_discovery=False, verbose=False)
    return deepspeed
