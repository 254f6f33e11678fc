"""One ONNX graph with its whole contract inside: `python export/to_onnx.py CHECKPOINT --out model.onnx`.

    frames  uint8    (batch, T, 3, S, S)       RGB face crops; /255 happens inside
    fbank   float32  (batch, 1, frames, mels)  normalised log-mel filter bank
    tokens  int64    (batch, L)                of a sentence; of a model that reads one (`model.text`)
    logits  float32  (batch, classes)          in the order of the contract's labels

A model of one modality has the input of that one alone. One that gives values of each step (`model.head.per: step`) has
`logits` (batch, T, values).

With `--windows K`, K windows of a clip enter together, (batch, K, T, 3, S, S) and (batch, K, 1, frames, mels), and the
logits are the clip's (`data.window.pool`).
With `--input waveform`, `waveform` and `lengths` take the place of `fbank` (mmadfer.export.graph.waveform).
`--precision` says what is computed in; inputs and outputs stay as they are.

The command (also `mmadfer export onnx`) is mmadfer.export.parity.parity.export_onnx: it delivers what it has proven on
real clips. `to_onnx` here writes the graph as it is.
"""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from mmadfer import contract as contracts
from mmadfer.config.schema import EncoderConfig
from mmadfer.contract import BATCH_RANGE, BatchRange, Contract, refuse_text
from mmadfer.contract.description import describe_contract
from mmadfer.data.tokens import check_tokenizer, deliver_tokenizer
from mmadfer.errors import ConfigError, WeightsError
from mmadfer.export.graph import calibration as calibrations
from mmadfer.export.graph import external
from mmadfer.export.graph.merging import merged
from mmadfer.export.graph.over_windows import OverWindows
from mmadfer.export.graph.precision import HALVES, lower
from mmadfer.export.graph.quantisation import EIGHTS, quantise_graph
from mmadfer.export.graph.tracing import trace
from mmadfer.export.graph.waveform import choose_rate, with_waveform
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights.build import encoder_hash, weights_hash
from mmadfer.model.weights.load import load
from mmadfer.runtime.backends import ports
from mmadfer.runtime.backends.torch_backend import promised
from mmadfer.utils.optional import need
from mmadfer.version import VERSION

Input = Literal["fbank", "waveform"]
ExportPrecision = Literal["fp32", "fp16", "bf16", "int8", "fp8"]
_MOST_WINDOWS = 1024
CALIBRATED = ("fp16", *EIGHTS)
"""Precisions for which clips are looked at."""


def to_onnx(
    path: Path | str,
    out: Path | str,
    fold: int | None = None,
    *,
    input: Input = "fbank",
    rate: int | None = None,
    precision: ExportPrecision = "fp32",
    batch: BatchRange = BATCH_RANGE,
    data: Path | str | None = None,
    calibration: int = calibrations.CALIBRATION_CLIPS,
    windows: int | None = None,
) -> Path:
    """Export a trained model; `out` is replaced in one step or left as it was.

    Args:
        path: run or fold directory, checkpoint, .safetensors, or published .pth.
        out: the file to write. Weights of more than 2 GiB go to a file beside it (mmadfer.export.graph.external).
        fold: which fold of a run directory.
        input: what the graph hears.
        rate: of the waveform in Hz, for a model that was trained on sound of several rates.
        precision: what the graph computes in.
        batch: fewest, usual and most clips at once: a promise to those who build engines, kept in the contract.
        data: prepared store, of which clips of the training folds are looked at: for int8 and fp8 needed; with it, fp16
            keeps only what needs it in float32.
        calibration: how many clips.
        windows: how many windows of a clip enter together, of a model that was trained with `data.window`.

    Returns:
        `out`.

    Raises:
        ConfigError: options that are not there, or do not go together.
        WeightsError: no such model, one that has epochs left to train, whose sound or fold is not known where it must
            be, or that is too large for another precision.
        DataError: a store that has no clips to calibrate with.
        MissingDependencyError: the packages of extra `export` are missing; for fp16 and bf16 extra `quantize`.
    """
    need("onnx", extra="export"), need("onnxscript", extra="export")
    _check_options(input, rate, precision, batch, data)
    model = load_finished(path, fold)
    trained = promised(model.contract, path)
    own = carried(model, trained)
    _check_windows(own, windows, input)
    if own.model.text is not None and (precision, input, windows) != ("fp32", "fbank", None):
        refuse_text(own, "export onnx with --precision, --input or --windows")
    told = {"input": input, "arithmetic": precision, "batch": batch, "pooled_windows": windows}
    contract = own.model_copy(update=told)
    if input == "waveform":
        _check_hears(contract)
        contract = contract.model_copy(update={"waveform_rate": choose_rate(contract, rate)})
    looked_at = precision in CALIBRATED and data is not None
    clips = calibrations.calibration_clips(data, contract, calibration) if looked_at and data is not None else None
    check_tokenizer(Path(path), trained)  # before the work, and before a file is replaced
    written = external.save(build_graph(model, contract, clips), Path(out))
    deliver_tokenizer(Path(path), trained, written)
    return written


def _check_options(kind: str, rate: int | None, precision: str, batch: BatchRange, data: object) -> None:
    for name, value, known in (("input", kind, get_args(Input)), ("precision", precision, get_args(ExportPrecision))):
        if value not in known:
            raise ConfigError(f"--{name} {value}: give one of {', '.join(known)}")
    if rate is not None and kind != "waveform":
        raise ConfigError(f"--rate {rate} says how fast samples come: it needs --input waveform")
    contracts.check_batch(batch)
    if precision in EIGHTS and data is None:
        raise ConfigError(f"--precision {precision} needs --data STORE: clips of the training folds set its scales")


def _check_windows(contract: Contract, windows: int | None, kind: str) -> None:
    if windows is not None and (contract.window is None or not 1 <= windows <= _MOST_WINDOWS):
        raise ConfigError(
            f"--windows {windows}: give 1 to {_MOST_WINDOWS}, for a model that was trained with data.window"
        )
    if windows is not None and contract.per_step:
        raise ConfigError(
            "--windows puts windows together into one answer for the clip, and this model answers for each step: leave "
            "it out; `mmadfer predict` averages the windows over time"
        )
    if contract.window is not None and kind == "waveform":
        raise ConfigError("the sound of a window is cut out of the clip's filter bank: export with --input fbank")


def _check_hears(contract: Contract) -> None:
    if "audio" not in contract.model.modalities:
        raise ConfigError("--input waveform is for models that hear, and this one sees frames alone: leave it out")


def load_finished(path: Path | str, fold: int | None) -> MMADFER:
    """Load a model to be delivered, with its low-rank updates merged into its weights.

    Raises:
        WeightsError: no such model, or one that has epochs left to train.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what `load` warns of is an error here
        model = load(path, fold)
    contract = model.contract
    if contract is not None and contract.unfinished:
        raise WeightsError(
            f"{path} is not fully trained: {contract.epoch} of {contract.epochs} epochs of fold {contract.fold} are "
            "done. Finish it first (`mmadfer train` or `launch` with --resume); only the last epoch is the result"
        )
    return merged(model)


def build_graph(model: MMADFER, contract: Contract, clips: Iterable[dict[str, Any]] | None = None) -> Any:
    """The model as an `onnx.ModelProto` with dynamic batch, as the contract says, which is in its metadata.

    Args:
        model: with its weights.
        contract: says what the graph hears and computes in.
        clips: calibration clips, arrays by input name: for int8 and fp8 needed, for fp16 of use.

    Raises:
        WeightsError: more than 2 GiB of weights, and another precision than fp32.
    """
    whole = model if contract.pooled_windows is None else OverWindows(model, contract)
    proto = trace(whole, _example(contract), ports.OUTPUT)
    if contract.arithmetic != "fp32":
        _check_size(proto, contract)
    if contract.arithmetic in HALVES:
        proto = lower(proto, contract.arithmetic, clips, calibrations.made_up(contract))
    if contract.arithmetic in EIGHTS:
        assert clips is not None
        proto = quantise_graph(proto, contract.arithmetic, clips)
    if contract.input == "waveform":
        proto = with_waveform(proto, contract)
    _label(proto, contract)
    return proto


def _check_size(proto: Any, contract: Contract) -> None:
    if (found := external.size(proto)) > external.ONE_FILE:
        raise WeightsError(
            f"the model has {found / 2**30:.1f} GiB of weights, and graphs in {contract.arithmetic} can be made of "
            "2 GiB at most: export it with --precision fp32"
        )


def _label(proto: Any, contract: Contract) -> None:
    proto.doc_string = _description(contract)
    proto.producer_name, proto.producer_version = "mmadfer", VERSION
    del proto.metadata_props[:]
    for key, value in {contracts.KEY: contract.dumps(), "weights_hash": contract.weights_hash}.items():
        proto.metadata_props.add(key=key, value=value)


def _example(contract: Contract) -> dict[str, Tensor]:
    """Frames and sound of two clips, because a batch of 1 would be taken for a constant."""
    plain = contract.model_copy(update={"input": "fbank", "waveform_rate": None})
    return {name: torch.from_numpy(np.zeros((2, *shape), kind)) for name, (kind, shape) in ports.inputs(plain).items()}


def carried(model: MMADFER, contract: Contract) -> Contract:
    """The contract for a product: with both hashes, and without the folders in which encoder files lay."""
    sizes = contract.model
    text = sizes.text and sizes.text.model_copy(update={"folder": sizes.text.folder and Path(sizes.text.folder.name)})
    sizes = sizes.model_copy(update={"vision": _named(sizes.vision), "audio": _named(sizes.audio), "text": text})
    hashes = {"encoder_hash": encoder_hash(model), "weights_hash": weights_hash(model)}
    return contract.model_copy(update={"model": sizes, "version": VERSION, **hashes})


def _named(encoder: EncoderConfig) -> EncoderConfig:
    return encoder.model_copy(update={"weights": encoder.weights and Path(encoder.weights.name)})


def _description(contract: Contract) -> str:
    facts = "\n".join(f"{name}: {value}" for name, value in describe_contract(contract).items())
    return f"MMA-DFER: audio-visual emotion recognition.\n{facts}\nThe whole contract is in metadata {contracts.KEY!r}."
