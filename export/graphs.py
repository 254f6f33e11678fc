"""Small things that every pass over an ONNX graph needs."""

from typing import Any

from mmadfer.optional import need


def weights(proto: Any) -> dict[str, Any]:
    """Constant tensors of the graph, by name."""
    return {tensor.name: tensor for tensor in proto.graph.initializer}


def floats(proto: Any) -> list[str]:
    """Names of the float32 tensors that the nodes compute, in order."""
    onnx = need("onnx", extra="export")
    typed = onnx.shape_inference.infer_shapes(proto)
    single = {
        value.name for value in typed.graph.value_info if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    return [name for node in proto.graph.node for name in node.output if name in single]
