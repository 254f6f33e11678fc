"""The forms of one model that bench/inference.py compares: how each is made, and which cannot be had here, and why."""

import copy
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _model import SMALL, awake

from mmadfer.config.schema import ModelConfig, PrepareConfig
from mmadfer.contract import Contract
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.sets import toy
from mmadfer.errors import MmadferError
from mmadfer.export.engine.to_trt import to_engine
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.model.weights.build import save_weights
from mmadfer.runtime import Recogniser
from mmadfer.runtime.arrays import Inputs
from mmadfer.runtime.backends import cuda, engines
from mmadfer.utils.memory import first_line

REFERENCE = "torch eager fp32"
LARGE = 50_000_000
"""Bytes of a model's weights."""

Logits = Callable[..., np.ndarray]
Maker = Callable[[], "Form"]
Files = dict[str, Path]
Missing = dict[str, str]
"""Form -> why it cannot be had."""


@dataclass
class Form:
    """A form of the model that answers here."""

    logits: Logits
    """As `mmadfer.runtime.backends.choice.Backend.logits`."""
    recogniser: Recogniser | None = None
    """Where it is one from file to label."""
    seconds: float = 0.0
    """From its file to its first answers, of every size of batch."""

    @property
    def megabytes(self) -> str:
        """Of its file."""
        path = self.recogniser and self.recogniser.path
        return f"{path.stat().st_size / 1e6:.3g}" if path and path.is_file() else ""


# ---------------------------------------------------------------- a model, and clips


def made(folder: Path, small: bool) -> Path:
    """A new model with random weights, for toy videos."""
    settings, model = PrepareConfig(face_size=64) if small else PrepareConfig(), SMALL if small else ModelConfig()
    contract = Contract(labels=tuple(toy.TOY_CLASSES), model=model, prepare=settings, data_set=toy.TOY, fold=1)
    save_weights(folder / "model.safetensors", awake(model, len(contract.labels)), contract, frozen=True)
    return folder / "model.safetensors"


def toy_store(folder: Path, contract: Contract, clips: int) -> Path:
    """Toy videos, prepared for this model: half are of its fold, and the others calibrate."""
    toy.make(folder / "toy", clips_per_class=-(-2 * clips // len(toy.TOY_CLASSES)))
    listed = toy.table(folder / "toy")
    halves = [replace(clip, fold=(contract.fold or 1) + number % 2) for number, clip in enumerate(listed.clips)]
    prepare(replace(listed, clips=halves), folder / "toy.store", contract.prepare, jobs=1)
    return folder / "toy.store"


# ---------------------------------------------------------------- forms


def of_torch(model: Recogniser, seconds: float, device: str) -> dict[str, Maker]:
    """PyTorch as mmadfer runs it, loaded in so many seconds, and in two ways that are no exported forms."""
    return {
        REFERENCE: lambda: Form(model.backend.logits, model, seconds),
        "torch autocast bf16 *": lambda: Form(partial(_autocast, model.backend, device)),
        "torch.compile fp32 *": lambda: Form(_compiled(model.backend).logits),
    }


def _autocast(backend: Any, device: str, *arrays: np.ndarray) -> np.ndarray:
    with torch.autocast(device, torch.bfloat16):
        logits: np.ndarray = backend.logits(*arrays)
    return logits


def _compiled(backend: Any) -> Any:
    compiled = copy.copy(backend)
    compiled.model = torch.compile(backend.model, dynamic=False)
    return compiled


def given_files(paths: Sequence[Path]) -> Files:
    """Exported models by name; by their whole path where several have one name."""
    count = Counter(path.name for path in paths)
    return {str(path) if count[path.name] > 1 else path.name: path for path in paths}


def of_files(files: Files, device: str) -> dict[str, Maker]:
    """Exported models."""
    return {name: partial(_opened, file, device) for name, file in files.items()}


def _opened(file: Path, device: str) -> Form:
    recogniser = Recogniser(file, device="cuda" if file.suffix == engines.ENGINE_SUFFIX else device)
    return Form(recogniser.backend.logits, recogniser)


def exported(model: Recogniser, store: Path, folder: Path, kinds: Sequence[str], batch: int) -> tuple[Files, Missing]:
    """ONNX files of these precisions and, on a GPU, engines of them: those that can be made here, and why others not.

    Each of a large model is made in a process of its own, since that takes several times its size.
    """
    fold, missing = model.contract.fold, Missing()
    low: dict[str, Any] = {"batch": (1, batch, batch), "data": store if fold else None, "fold": fold}
    graphs = {kind: folder / f"{kind}.onnx" for kind in kinds}
    work = {f"ONNX Runtime {k}": partial(to_onnx, model.path, graphs[k], precision=k, **low) for k in kinds}
    try:
        cuda.gpu()
    except MmadferError as error:
        missing["TensorRT, TensorRT-RTX"] = str(error)
    else:
        for flavour, about in engines.FLAVOURS.items():
            outs = {k: folder / f"{k}-{flavour}{engines.ENGINE_SUFFIX}" for k in kinds}
            work |= {f"{about.name} {k}": partial(to_engine, graphs[k], outs[k], flavour=flavour) for k in kinds}
    weights = model.backend.model.state_dict().values()
    files = run(work, sum(weight.nbytes for weight in weights) >= LARGE, missing)
    return files, missing


def run(work: Mapping[str, Callable[[], Path]], apart: bool, missing: Missing) -> Files:
    """The files that could be made, each in a process of its own or all in this one; why others not: in `missing`."""
    files = Files()
    for name, make in work.items():
        begin = time.perf_counter()
        try:
            files[name] = _fresh(make) if apart else make()
            _say(f"{name}: made in {time.perf_counter() - begin:.0f} s")
        except Exception as error:  # also of those who quantise and build, and the sudden end of a process
            missing[name] = _reason(error)
    return files


def _reason(error: Exception) -> str:
    words = first_line(error)
    return words if isinstance(error, MmadferError) else f"{type(error).__name__}: {words}"


def _fresh(work: Callable[[], Path]) -> Path:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(work).result()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def ready(makers: Mapping[str, Maker], feeds: Sequence[Inputs], missing: Missing) -> dict[str, Form]:
    """The forms that have answered each of these inputs; why others have not is added to `missing`."""
    forms = dict[str, Form]()
    for name, make in makers.items():
        begin = time.perf_counter()
        try:
            form = make()
            for feed in feeds:
                form.logits(*feed)
        except Exception as error:  # of any engine; without the reference there is nothing to compare with
            if name == REFERENCE:
                raise
            missing[name] = _reason(error)
            continue
        form.seconds += time.perf_counter() - begin
        _say(f"{name}: ready after {form.seconds:.1f} s")
        forms[name] = form
    return forms
