"""One ONNX graph with its whole contract inside: `python export/to_onnx.py CHECKPOINT --out model.onnx`.

    frames  uint8    (batch, T, 3, S, S)       RGB face crops; /255 happens inside
    fbank   float32  (batch, 1, frames, mels)  normalised log-mel filter bank
    logits  float32  (batch, classes)          in the order of the contract's labels

This writes the graph as it is; `mmadfer export onnx` (mmadfer.export.parity.export) also proves it on real clips first.
"""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

import mmadfer
from mmadfer import contract as contracts
from mmadfer.config import EncoderConfig
from mmadfer.contract import Contract
from mmadfer.errors import WeightsError
from mmadfer.files import atomic
from mmadfer.model.build import encoder_hash, weights_hash
from mmadfer.model.load import load
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.optional import need
from mmadfer.runtime.backends import INPUTS, OUTPUT, promised

OPSET = 18
"""What torch's exporter writes without a conversion; from 23 on there is an Attention op that TensorRT gets wrong."""

ONE_FILE = 2**31
"""Bytes that a protobuf message, so one ONNX file, can hold."""


def to_onnx(path: Path | str, out: Path | str, fold: int | None = None) -> Path:
    """Export a trained model; `out` is replaced in one step or left as it was.

    Args:
        path: run or fold directory, checkpoint, .safetensors, or published .pth.
        out: the file to write.
        fold: which fold of a run directory.

    Returns:
        `out`.

    Raises:
        WeightsError: no such model, one that has epochs left to train, or that does not fit into one ONNX file.
        MissingDependencyError: the packages of `mmadfer[export]` are not installed.
    """
    onnx, _ = need("onnx", extra="export"), need("onnxscript", extra="export")
    model, out = finished(path, fold), Path(out)
    _check_size(model, path)
    proto = graph(model, carried(model, promised(model.contract, path)))
    with atomic(out) as temporary:
        temporary.write_bytes(proto.SerializeToString(deterministic=True))
        onnx.checker.check_model(str(temporary), full_check=True)
    return out


def finished(path: Path | str, fold: int | None) -> MMADFER:
    """Load a model to be delivered.

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
    return model


def graph(model: MMADFER, contract: Contract) -> Any:
    """The model as an `onnx.ModelProto` with dynamic batch and the contract in its metadata."""
    with _quiet():
        program = torch.onnx.export(
            model.eval().cpu().float(),
            _example(contract),
            input_names=INPUTS,
            output_names=(OUTPUT,),
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=({0: "batch"}, {0: "batch"}),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    _forget_where_it_was_made(proto)
    proto.doc_string = _description(contract)
    proto.producer_name, proto.producer_version = "mmadfer", mmadfer.__version__
    for key, value in {contracts.KEY: contract.dumps(), "weights_hash": contract.weights_hash}.items():
        proto.metadata_props.add(key=key, value=value)
    return proto


def _example(contract: Contract) -> tuple[Tensor, Tensor]:
    """Frames and sound of two clips, because a batch of 1 would be taken for a constant."""
    model = contract.model
    frames = torch.zeros(2, model.frames, 3, model.image_size, model.image_size, dtype=torch.uint8)
    return frames, torch.zeros(2, 1, *model.fbank)


def carried(model: MMADFER, contract: Contract) -> Contract:
    """The contract for a product: with both hashes, and without the folders in which encoder files lay."""
    sizes = contract.model
    sizes = sizes.model_copy(update={"vision": _named(sizes.vision), "audio": _named(sizes.audio)})
    hashes = {"encoder_hash": encoder_hash(model), "weights_hash": weights_hash(model)}
    return contract.model_copy(update={"model": sizes, "version": mmadfer.__version__, **hashes})


def _named(encoder: EncoderConfig) -> EncoderConfig:
    return encoder.model_copy(update={"weights": encoder.weights and Path(encoder.weights.name)})


def _description(contract: Contract) -> str:
    facts = "\n".join(f"{name}: {value}" for name, value in contracts.describe(contract).items())
    return f"MMA-DFER: audio-visual emotion recognition.\n{facts}\nThe whole contract is in metadata {contracts.KEY!r}."


def _check_size(model: MMADFER, path: Path | str) -> None:
    size = sum(tensor.numel() * 4 for tensor in model.state_dict().values())
    if size > ONE_FILE * 0.98:  # the graph itself needs some room
        raise WeightsError(
            f"{path} has {size / 2**30:.1f} GiB of weights; one ONNX file holds 2 GiB: use smaller encoders"
        )


def _forget_where_it_was_made(proto: Any) -> None:
    """Drop the stack traces that the exporter leaves on every node: they name folders of this machine."""
    graphs = [proto.graph, *proto.functions]
    for node in (node for part in graphs for node in part.node):
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and its notes about its own parts from the terminal; errors are exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def main(
    checkpoint: Annotated[Path, typer.Argument(help="Run or fold directory, .safetensors, or a published .pth.")],
    out: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    fold: Annotated[int | None, typer.Option(min=1, help="Fold of a run directory.")] = None,
) -> None:
    """Write a trained model as one ONNX graph with its contract inside."""
    written = to_onnx(checkpoint, out, fold)
    print(f"{written}: {written.stat().st_size / 2**20:.1f} MiB; not proven yet (python export/parity.py)")


if __name__ == "__main__":
    from mmadfer.cli import run

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    sys.exit(run(app))
