"""Small things that every pass over an ONNX graph needs."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmadfer.contract import Contract
from mmadfer.errors import WeightsError
from mmadfer.runtime.backends import ports
from mmadfer.runtime.backends.ort import contract_of
from mmadfer.utils import onnx_file
from mmadfer.utils.optional import need


def read(path: Path, weights: bool = False) -> Any:
    """An ONNX file as an `onnx.ModelProto`; weights that lie in a file beside it only if they are asked for.

    Raises:
        WeightsError: as `mmadfer.utils.onnx_file.facts`.
    """
    onnx = need("onnx", extra="export")
    onnx_file.facts(path)
    try:
        return onnx.load(path, load_external_data=weights)
    except Exception as error:  # protobuf has several, in private modules
        raise WeightsError(f"{path} is not a whole ONNX model: export it anew") from error


def read_contract(path: Path) -> Contract:
    """What an ONNX file promises, and its inputs and output hold.

    Raises:
        WeightsError: as `read`; or it is no model of mmadfer.
    """
    proto = read(path)
    contract = contract_of(path, {entry.key: entry.value for entry in proto.metadata_props})
    ports.check_ports(path, contract, {port.name: _port(port) for port in (*proto.graph.input, *proto.graph.output)})
    return contract


def _port(port: Any) -> tuple[str, ports.Shape]:
    onnx = need("onnx", extra="export")
    tensor = port.type.tensor_type
    sizes = tuple(size.dim_value if size.HasField("dim_value") else -1 for size in tensor.shape.dim)
    known = {onnx.TensorProto.UINT8: "uint8", onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT64: "int64"}
    return known.get(tensor.elem_type, "of another type"), sizes[1:]


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


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what other makers' passes tell of themselves from the terminal; errors are exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
