"""A float32 graph whose products with weights are of 8-bit numbers, as QuantizeLinear/DequantizeLinear pairs say.

Symmetric, zero points 0, as TensorRT wants them. int8: each output channel of a weight has its own scale, and each
activation the one that loses least on the calibration clips. fp8 (E4M3): one scale a tensor, its largest value becomes
448. Products of two activations (attention), LayerNorm, softmax, patch convolutions and the classifier stay float32.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from mmadfer.export.graph import calibration, protos
from mmadfer.utils.optional import need

EIGHTS = ("int8", "fp8")
_OPSET = {"int8": 18, "fp8": 19}
"""The first opset in which the pairs know the type, or the one of all graphs."""
TOP = {"int8": 127.0, "fp8": 448.0}
"""The largest value of a type."""
SHARES = np.linspace(0.1, 1.0, 181)
"""Of the largest value: where int8 may be cut off."""


def quantise_graph(proto: Any, kind: str, clips: Iterable[dict[str, np.ndarray]]) -> Any:
    """The graph with 8-bit products.

    Args:
        proto: an `onnx.ModelProto` in float32; left as it is.
        kind: `int8` or `fp8`.
        clips: calibration clips, arrays by input name; iterated twice.

    Returns:
        A graph without shapes of inner tensors.
    """
    onnx = need("onnx", extra="export")
    graph = onnx.version_converter.convert_version(proto, _OPSET[kind])
    products = _products(graph)
    tops = calibration.peaks(proto, clips, sorted({node.input[0] for node in products}))
    limits = tops if kind == "fp8" else _cut_off(calibration.histograms(proto, clips, tops), tops)
    _insert(graph, products, kind, {name: _scale(limit, kind) for name, limit in limits.items()})
    del graph.graph.value_info[:]
    return graph


def _products(proto: Any) -> list[Any]:
    """The nodes that multiply an activation with a constant matrix."""
    constant = {name for name, tensor in protos.weights(proto).items() if len(tensor.dims) == 2}
    return [node for node in proto.graph.node if node.op_type == "MatMul" and node.input[1] in constant]


def _cut_off(histograms: dict[str, np.ndarray], tops: dict[str, float]) -> dict[str, float]:
    return {name: float(best_share(counts) * tops[name]) for name, counts in histograms.items()}


def best_share(counts: np.ndarray) -> float:
    """Where to cut a histogram of absolute values so that int8 loses least (mean square), as a share of its top.

    counts (bins,): how often each value occurs, from 0 to the top.
    """
    values = (np.arange(len(counts)) + 0.5) / len(counts)
    step = SHARES / TOP["int8"]
    beyond = np.maximum(values - SHARES[:, None], 0.0)
    losses = np.where(beyond > 0, beyond**2, step[:, None] ** 2 / 12) @ counts
    return float(SHARES[losses.argmin()])


def _scale(limit: float, kind: str) -> np.ndarray:
    return np.asarray(limit / TOP[kind] or 1.0, np.float32)


def _insert(proto: Any, products: list[Any], kind: str, scales: dict[str, np.ndarray]) -> None:
    onnx, nodes, done = need("onnx", extra="export"), dict[str, list[Any]](), set[str]()
    tensors, graph = protos.weights(proto), proto.graph
    used = {name: sum(name in node.input for node in graph.node) for name in tensors}
    for node in products:
        source, weight = node.input[0], node.input[1]
        pairs = nodes.setdefault(node.name, [])
        if source not in done:
            done.add(source)
            graph.initializer.extend(_constants(source, scales[source], kind))
            pairs += _pair(onnx, source)
        if weight not in done:
            done.add(weight)
            used[weight] -= 1
            pairs.append(_weight(onnx, graph, tensors[weight], kind))
        node.input[0], node.input[1] = f"{source}:8bit:real", f"{weight}:8bit:real"
    ordered = [part for node in graph.node for part in (*nodes.get(node.name, ()), node)]
    kept = [type(part).FromString(part.SerializeToString()) for part in ordered]
    del graph.node[:]
    graph.node.extend(kept)
    _drop_unused(proto)


def _pair(onnx: Any, source: str) -> list[Any]:
    parameters, small, real = [f"{source}:scale", f"{source}:zero"], f"{source}:8bit", f"{source}:8bit:real"
    return [
        onnx.helper.make_node("QuantizeLinear", [source, *parameters], [small], f"{source}:quantize"),
        onnx.helper.make_node("DequantizeLinear", [small, *parameters], [real], f"{source}:dequantize"),
    ]


def _weight(onnx: Any, graph: Any, tensor: Any, kind: str) -> Any:
    """Put the weight into the graph in 8 bits, and return the node that makes it real."""
    values, name = onnx.numpy_helper.to_array(tensor), tensor.name
    limits = np.abs(values).max(axis=0 if kind == "int8" else None)
    scale = np.where(limits > 0, limits / TOP[kind], 1.0).astype(np.float32)
    graph.initializer.append(_small(values / scale, f"{name}:8bit", kind))
    graph.initializer.extend(_constants(name, scale, kind))
    axis = {"axis": 1} if scale.ndim else {}
    inputs = [f"{name}:8bit", f"{name}:scale", f"{name}:zero"]
    return onnx.helper.make_node("DequantizeLinear", inputs, [f"{name}:8bit:real"], f"{name}:dequantize", **axis)


def _constants(name: str, scale: np.ndarray, kind: str) -> list[Any]:
    onnx = need("onnx", extra="export")
    return [onnx.numpy_helper.from_array(scale, f"{name}:scale"), _small(np.zeros_like(scale), f"{name}:zero", kind)]


def _small(values: np.ndarray, name: str, kind: str) -> Any:
    """Real values, in units of the scale, as a tensor of 8-bit numbers, rounded to nearest even."""
    onnx, dtypes = need("onnx", extra="export"), need("ml_dtypes", extra="export")
    clipped = np.clip(values, -TOP[kind], TOP[kind])
    exact = np.rint(clipped).astype(np.int8) if kind == "int8" else clipped.astype(dtypes.float8_e4m3fn)
    return onnx.numpy_helper.from_array(exact, name)


def _drop_unused(proto: Any) -> None:
    read = {name for node in proto.graph.node for name in node.input}
    kept = [tensor for tensor in proto.graph.initializer if tensor.name in read]
    copies = [type(tensor).FromString(tensor.SerializeToString()) for tensor in kept]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(copies)
