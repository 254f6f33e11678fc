"""A torch module as an ONNX graph with a dynamic batch, free of what is only true on this machine."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

OPSET = 18
"""What torch's exporter writes without a conversion; from 23 on there is an Attention op that TensorRT gets wrong."""


def trace(module: nn.Module, example: tuple[Tensor, ...], inputs: Sequence[str], output: str) -> Any:
    """The module as an `onnx.ModelProto` in float32, whose first axes are all one: `batch`.

    Args:
        module: with weights on any device.
        example: arguments for two clips, because a batch of 1 would be taken for a constant.
        inputs: names of the arguments.
        output: name of the one result.
    """
    with _quiet():
        program = torch.onnx.export(
            module.eval().cpu().float(),
            example,
            input_names=inputs,
            output_names=(output,),
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=tuple({0: "batch"} for _ in example),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    _forget_where_it_was_made(proto)
    return proto


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
