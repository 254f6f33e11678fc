"""Small things that every pass over an ONNX graph needs."""

from pathlib import Path
from typing import Any

from mmadfer.contract import Contract
from mmadfer.errors import WeightsError
from mmadfer.optional import need
from mmadfer.runtime.ort import contract_of


def read(path: Path, weights: bool = False) -> Any:
    """An ONNX file as an `onnx.ModelProto`; weights that lie in a file beside it only if they are asked for.

    Raises:
        WeightsError: no such file, or no whole ONNX model.
    """
    onnx = need("onnx", extra="export")
    try:
        return onnx.load(path, load_external_data=weights)
    except OSError as error:
        raise WeightsError(f"no model at {path} ({error.strerror}); `mmadfer export onnx` writes one") from error
    except Exception as error:  # protobuf has several, in private modules
        raise WeightsError(f"{path} is not a whole ONNX model: export it anew") from error


def read_contract(path: Path) -> Contract:
    """What an ONNX file promises.

    Raises:
        WeightsError: as `read`; or it is no model of mmadfer.
    """
    return contract_of(path, {entry.key: entry.value for entry in read(path).metadata_props})


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
