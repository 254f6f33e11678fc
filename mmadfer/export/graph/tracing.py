"""A torch module as an ONNX graph with a dynamic batch, free of what is only true on this machine."""

from collections import Counter
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn

from mmadfer.export.graph import protos
from mmadfer.utils.optional import need

_OPSET = 18
"""What torch's exporter writes without a conversion; from 23 on there is an Attention op that TensorRT gets wrong."""


def trace(module: nn.Module, example: dict[str, Tensor], output: str) -> Any:
    """The module as an `onnx.ModelProto` in float32, whose first axes are all one: `batch`.

    Args:
        module: with weights on any device.
        example: arguments by name for two clips, because a batch of 1 would be taken for a constant.
        output: name of the one result.
    """
    with protos.quiet():
        program = torch.onnx.export(
            module.eval().cpu().float(),
            kwargs=dict(example),
            input_names=list(example),
            output_names=(output,),
            opset_version=_OPSET,
            dynamo=True,
            dynamic_shapes={name: {0: "batch"} for name in example},
            external_data=False,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    _forget_where_it_was_made(proto)
    half_last(proto)
    return proto


def _forget_where_it_was_made(proto: Any) -> None:
    """Drop the stack traces that the exporter leaves on every node: they name folders of this machine."""
    protos = [proto.graph, *proto.functions]
    for node in (node for part in protos for node in part.node):
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]


def half_last(proto: Any) -> None:
    """Write GELU as (x * (1 + erf(x / sqrt 2))) * 0.5, in place.

    The exporter halves the sum before it multiplies with x. To halve is exact, so the numbers are the same, but ONNX
    Runtime knows only this order as one operation; otherwise each GELU is five, each of which moves the whole tensor.
    """
    makers = {name: node for node in proto.graph.node for name in node.output}
    uses = Counter(name for node in proto.graph.node for name in node.input)
    uses.update(port.name for port in proto.graph.output)
    tensors = protos.weights(proto)
    for last in proto.graph.node:
        for x, name in permutations(last.input) if last.op_type == "Mul" else ():
            halving = makers.get(name)
            parts = _halved_sum(halving, makers, tensors, x) if uses[name] == 1 else None
            if halving is not None and parts is not None:
                half, total = parts
                halving.input[:], last.input[:] = [x, total], [name, half]
                break


def _halved_sum(node: Any, makers: dict[str, Any], tensors: dict[str, Any], x: str) -> tuple[str, str] | None:
    """Names of 0.5 and of the sum in 0.5 * (1 + erf(f(x))); None for any other node."""
    if node is None or node.op_type != "Mul":
        return None
    for half, total in permutations(node.input):
        if half in tensors and _is_half(tensors[half]) and _sums_erf_of(makers.get(total), makers, x):
            return half, total
    return None


def _sums_erf_of(node: Any, makers: dict[str, Any], x: str) -> bool:
    erfs = (makers.get(name) for name in node.input) if node is not None and node.op_type == "Add" else ()
    scaled = (makers.get(erf.input[0]) for erf in erfs if erf is not None and erf.op_type == "Erf")
    return any(node is not None and x in node.input for node in scaled)


def _is_half(tensor: Any) -> bool:
    return not tensor.dims and need("onnx", extra="export").numpy_helper.to_array(tensor) == 0.5
