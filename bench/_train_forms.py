"""Ways to train one model side by side: the published recipe run plainly, and mmadfer's engine in each arithmetic."""

import gc
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from _model import awake
from common import turns
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from mmadfer.config.schema import ModelConfig, Precision, TrainConfig
from mmadfer.data.loading.batch import Batch, preprocess
from mmadfer.distributed.ranks import Ranks
from mmadfer.errors import MmadferError
from mmadfer.model.mma_dfer import MMADFER, empty_model
from mmadfer.model.precision import PRODUCT_DTYPES
from mmadfer.train.deepspeed_engine import Engine
from mmadfer.train.finite_checks import StepOutcome, StepReport
from mmadfer.utils.memory import first_line

SIDE = {"cpu": 2048, "cuda": 8192}
"""Of the square matrices whose product is the peak."""
BEST_OF = 5
WARM = {"cpu": 0, "cuda": 2}
"""Steps after the first that do not count: a GPU's memory finds its places in them."""
CLASSES = 2


@dataclass(frozen=True)
class Way:
    """How to train; without a precision plainly."""

    precision: Precision | None = None
    compiled: bool = False
    joint: str | None = None
    """In place of the model's own."""

    @property
    def name(self) -> str:
        """In the table."""
        parts = [
            self.precision or "plain",
            *["compiled"] * self.compiled,
            *([f"joint {self.joint}"] if self.joint else []),
        ]
        return ", ".join(parts)

    @property
    def kind(self) -> str:
        """The type that most of its products are computed in: a key of the peaks."""
        if self.precision == "fp8":
            return "float8"
        return str(PRODUCT_DTYPES[self.precision or "reference"]).removeprefix("torch.")


def ways(device: str) -> list[Way]:
    """Those that make sense on it, the plain one first."""
    found = [Way(), Way("reference"), Way("fp32"), Way("bf16"), Way("bf16", True)]
    return found if device == "cpu" else [*found, Way("fp16", True), Way("fp8", True)]


# ---------------------------------------------------------------- one way each


class Plain:
    """As the published program: float32, timm's blocks with attention written out, the loss read in every step.

    AdamW has no options, so it is PyTorch's own choice: not the fused one.
    """

    def __init__(self, model: MMADFER, config: TrainConfig, device: torch.device) -> None:
        for encoder in (model.vision, model.audio):
            for block in encoder.blocks:
                block.attn.fused_attn = False
        self.model, self.loss = model.to(device), 0.0
        trainable = list(model.trainable().values())
        self._optimizer = torch.optim.AdamW(trainable, lr=config.lr, weight_decay=config.weight_decay)

    def step(self, batch: Batch) -> None:
        """One step of the optimizer."""
        ours = torch.are_deterministic_algorithms_enabled()  # on a GPU the engines ask for it, for the whole process
        torch.use_deterministic_algorithms(False)
        logits = self.model(preprocess(batch), batch.fbank, batch.drop_path)
        loss = functional.cross_entropy(logits, batch.targets["label"])
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self.loss = loss.item()
        torch.use_deterministic_algorithms(ours, warn_only=True)

    def finish(self) -> StepOutcome:
        """What the last step saw."""
        gradients = [weight.grad for weight in self.model.trainable().values() if weight.grad is not None]
        return StepOutcome((self.loss,), (torch.nn.utils.get_total_norm(gradients).item(),), False)


class Ours:
    """An engine, whose reports are read as the training loop does."""

    def __init__(self, model: MMADFER, config: TrainConfig, ranks: Ranks) -> None:
        self.engine = Engine(model, config, ranks)
        self.model, self._lr = model, config.lr
        self._reports: list[StepReport] = []

    def step(self, batch: Batch) -> None:
        """One step of the optimizer; on a GPU, the report of the one before is read meanwhile."""
        self._reports.append(self.engine.step([batch], self._lr, lambda: False))
        if len(self._reports) > self.engine.lag:
            self._last = self._reports.pop(0).read()

    def finish(self) -> StepOutcome:
        """Wait for the last step; what it saw."""
        while self._reports:
            self._last = self._reports.pop(0).read()
        return self._last


@dataclass
class Form:
    """A way that runs here."""

    way: Way
    trainer: Plain | Ours
    ready: float
    """Seconds until the first step is done, compiling included; without drawing the weights."""
    first: StepOutcome | None = None
    memory: int = 0
    """Bytes: on a GPU the most that a step allocates, on a CPU the activations that it keeps for the way back."""
    seconds: list[float] = field(default_factory=list)
    """A step, in each round."""
    processor: list[float] = field(default_factory=list)
    """Seconds of all cores for a step, in each round: what else the machine does costs less of them."""

    def close(self) -> None:
        """Free the model."""
        if isinstance(self.trainer, Ours):
            self.trainer.engine.close()
        del self.trainer
        gc.collect()


Missing = dict[str, str]
"""Way -> why it cannot be had."""
Peaks = dict[str, list[float]]
"""FLOP/s of a product by type: before each round, and after the last."""


def forms(
    model: ModelConfig, config: TrainConfig, ranks: Ranks, batch: Batch, given: Sequence[Way]
) -> tuple[list[Form], Missing]:
    """The ways that can be had here, each with the same weights, after their first step with the same batch.

    All engines are there before the first one compiles: each forgets what was compiled before it.
    """
    made, missing = list[Form](), Missing()
    for way in given:
        try:
            made.append(_made(way, model, config, ranks))
        except MmadferError as error:
            missing[way.name] = first_line(error)
    for form in made:
        _begin(form, batch, ranks.device)
        print(f"{form.way.name}: ready after {form.ready:.1f} s", file=sys.stderr, flush=True)
    return made, missing


def _begin(form: Form, batch: Batch, device: torch.device) -> None:
    begun = now(device)
    form.memory = _kept(form, batch)
    form.first = form.trainer.finish()
    form.ready += now(device) - begun
    if device.type == "cuda":
        for _ in range(WARM["cuda"]):
            form.trainer.step(batch)
        form.memory = _most(form, batch)


def joined(model: ModelConfig, joint: str) -> ModelConfig:
    """With this joint, of the same width."""
    return ModelConfig.model_validate(model.model_dump() | {"joint": {"name": joint, "width": model.width}})


def _made(way: Way, model: ModelConfig, config: TrainConfig, ranks: Ranks) -> Form:
    model = joined(model, way.joint) if way.joint else model
    drawn, begun = awake(model, CLASSES), time.perf_counter()
    if way.precision is None:
        return Form(way, Plain(drawn, config, ranks.device), time.perf_counter() - begun)
    own = config.model_copy(update={"precision": way.precision, "compile": way.compiled})
    return Form(way, Ours(drawn, own, ranks), time.perf_counter() - begun)


def _kept(form: Form, batch: Batch) -> int:
    """Bytes that a step keeps from its forward pass, without the weights."""
    model, sizes = form.trainer.model, dict[int, int]()
    weights = {tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        form.trainer.step(batch)
    return sum(sizes.values())


def _most(form: Form, batch: Batch) -> int:
    form.trainer.finish()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    form.trainer.step(batch)
    form.trainer.finish()
    return torch.cuda.max_memory_allocated() - before


# ---------------------------------------------------------------- measuring


def measure(made: Sequence[Form], batch: Batch, rounds: int, steps: int, device: torch.device, side: int) -> Peaks:
    """In each round the peaks, then `steps` steps of every form, whose order goes round.

    The peaks are those of square matrices with `side` rows.
    """
    peaks = Peaks({form.way.kind: [] for form in made})
    by_name = {form.way.name: form for form in made}
    for _, names in turns(list(by_name), rounds):
        _add(peaks, device, side)
        for name in names:
            form, begun, used = by_name[name], now(device), time.process_time()
            for _ in range(steps):
                form.trainer.step(batch)
            if isinstance(form.trainer, Ours):
                form.trainer.finish()
            form.seconds.append((now(device) - begun) / steps)
            form.processor.append((time.process_time() - used) / steps)
    _add(peaks, device, side)
    return peaks


def _add(peaks: Peaks, device: torch.device, side: int) -> None:
    for kind, found in peaks.items():
        multiply, seconds = product(kind, device, side), list[float]()
        for _ in range(1 + BEST_OF):
            begun = now(device)
            multiply()
            seconds.append(now(device) - begun)
        found.append(2 * side**3 / min(seconds))


def product(kind: str, device: torch.device, side: int) -> Callable[[], Any]:
    """What multiplies two square matrices of this type."""
    first, second = (torch.rand(side, side, device=device) for _ in range(2))
    if kind != "float8":
        first, second = first.to(getattr(torch, kind)), second.to(getattr(torch, kind))
        return lambda: first @ second
    eight, turned = first.to(torch.float8_e4m3fn), second.to(torch.float8_e4m3fn).t()
    scales = torch.ones(side, 1, device=device)
    return lambda: torch._scaled_mm(eight, turned, scales, scales.view(1, -1), out_dtype=torch.bfloat16)


def now(device: torch.device) -> float:
    """The time when the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@dataclass(frozen=True)
class Work:
    """Floating-point operations of the products of a step, as torch counts them."""

    forward: int
    whole: int
    """Forward and back."""
    attention: int
    """Those of the whole in which no factor is a weight: attention's two, and what they are on the way back."""

    @property
    def back(self) -> int:
        """On the way back."""
        return self.whole - self.forward


def flops(config: ModelConfig, clips: int) -> Work:
    """Of the plain way."""
    model = empty_model(config, CLASSES)
    for encoder in (model.vision, model.audio):
        for block in encoder.blocks:
            block.attn.fused_attn = False
    side, frames, depth = config.image_size, config.frames, config.vision.depth
    shapes = ((clips, frames, 3, side, side), (clips, 1, *config.fbank), (clips, frames + 1, depth, 2))
    counter = FlopCounterMode(display=False)
    with counter:
        found = model(*(torch.rand(shape, device="meta") for shape in shapes))
        forward = counter.get_total_flops()
        found.sum().backward()
    attention = counter.get_flop_counts()["Global"][torch.ops.aten.bmm]
    return Work(forward, counter.get_total_flops(), attention)
