"""A float32 graph that computes in float16 or bfloat16; its inputs and outputs stay what they are.

ModelOpt's AutoCast puts the casts in; which operations stay in float32 is decided here: all but products, as in
training with mixed precision, and products of numbers too large for float16. bfloat16 has the range of float32, but 8
bits: the rounded weights alone move the logits of a trained model by 7e-2.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from mmadfer.export.graph import calibration, protos
from mmadfer.utils.optional import need
from mmadfer.utils.temporary_folders import scratch

HALVES = ("fp16", "bf16")
_MAX_FLOAT16_VALUE = 512.0
"""Values above stay in float32: float16 would round them to a half or worse, long before it overflows at 65504."""
LOW_PRECISION_OPS = {"Conv", "Gemm", "MatMul"}
"""Operations in fewer bits; all others stay in float32, among them the sum that runs through all blocks, whose
roundings add up: on a trained model with 16 frames float16 is then 9e-3 from float32, and else 3e-2."""


def lower(proto: Any, kind: str, clips: Iterable[dict[str, Any]] | None, noise: list[Any]) -> Any:
    """The graph in fewer bits.

    Args:
        proto: an `onnx.ModelProto` in float32; left as it is.
        kind: `fp16` or `bf16`.
        clips: real clips for the range check, arrays by input name; None if there are none.
        noise: the same of noise, taken in their place.

    Returns:
        A graph without shapes of inner tensors, doc string or metadata.

    Raises:
        MissingDependencyError: ModelOpt is not installed.
    """
    need("modelopt", extra="quantize")
    kept = [node.name for node in proto.graph.node if node.op_type not in LOW_PRECISION_OPS]
    if kind == "fp16":
        kept += too_large(proto, calibration.peaks(proto, noise if clips is None else clips, protos.floats(proto)))
    return _cast(proto, kind, kept)


def too_large(proto: Any, peaks: Mapping[str, float]) -> list[str]:
    """Names of the nodes with an input or output that float16 cannot hold well.

    Args:
        proto: an `onnx.ModelProto`.
        peaks: tensor -> its largest absolute value.
    """
    return [node.name for node in proto.graph.node if _exceeds(node, peaks)]


def _exceeds(node: Any, peaks: Mapping[str, float]) -> bool:
    # written so that a value that is not a number exceeds, too
    return not all(peaks.get(name, 0.0) <= _MAX_FLOAT16_VALUE for name in (*node.input, *node.output))


def _cast(proto: Any, kind: str, kept: list[str]) -> Any:
    onnx = need("onnx", extra="export")
    with scratch("autocast") as folder, protos.quiet():
        from modelopt.onnx.autocast import convert_to_mixed_precision

        path = folder / "model.onnx"
        onnx.save(proto, path)
        cast = convert_to_mixed_precision(
            str(path),
            kind,
            nodes_to_exclude=[f"{re.escape(name)}$" for name in kept],
            data_max=np.inf,  # checked above
            keep_io_types=True,
        )
    del cast.graph.value_info[:]  # AutoCast gives tensors wrong sizes, and ONNX Runtime reuses memory by them
    return cast


def widened(proto: Any) -> Any:
    """A graph that gives a bfloat16 graph's numbers on engines without kernels for it, such as ONNX Runtime on a CPU.

    Every operation is done in float32 on bfloat16 values, and its result is rounded to bfloat16: what a GPU does.

    Args:
        proto: an `onnx.ModelProto`; left as it is.
    """
    onnx = need("onnx", extra="export")
    wide = type(proto)()
    wide.CopyFrom(proto)
    halves = _halves(wide)
    nodes = [part for node in proto.graph.node for part in _widened(onnx, node, halves)]
    del wide.graph.node[:], wide.graph.value_info[:]
    wide.graph.node.extend(nodes)
    return wide


def _halves(proto: Any) -> set[str]:
    """Names of the tensors in bfloat16."""
    onnx = need("onnx", extra="export")
    typed = onnx.shape_inference.infer_shapes(proto).graph
    found = {value.name for value in typed.value_info if value.type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16}
    return found | {
        name for name, tensor in protos.weights(proto).items() if tensor.data_type == onnx.TensorProto.BFLOAT16
    }


def _widened(onnx: Any, node: Any, halves: set[str]) -> Iterator[Any]:
    if node.op_type == "Cast":
        yield node
        return
    wide, after = type(node)(), []
    wide.CopyFrom(node)
    for k, name in enumerate(node.input):
        if name in halves:
            wide.input[k] = f"{node.name}:{k}:wide"
            yield onnx.helper.make_node("Cast", [name], [wide.input[k]], to=onnx.TensorProto.FLOAT)
    for k, name in enumerate(node.output):
        if name in halves:
            wide.output[k] = f"{name}:wide"
            after.append(onnx.helper.make_node("Cast", [wide.output[k]], [name], to=onnx.TensorProto.BFLOAT16))
    yield wide
    yield from after
