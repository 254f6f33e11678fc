"""What is done to a graph that has just been traced."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.export.graph.tracing import half_last

pytestmark = pytest.mark.usefixtures("traced_anew")

FUSED = {"Gelu", "BiasGelu", "FastGelu", "QuickGelu"}


def gelu(sum: str = "one, e", halving: str = "half, s", last: str = "x, h", half: str = "0.5", shown: str = "") -> Any:
    more = f", float[n] {shown}" if shown else ""
    return onnx.parser.parse_model(f"""
        <ir_version: 9, opset_import: ["" : 18]>
        gelu (float[n] x) => (float[n] y{more})
        <float one = {{1.0}}, float half = {{{half}}}, float root = {{1.4142135}}>
        {{
            d = Div(x, root)
            e = Erf(d)
            s = Add({sum})
            h = Mul({halving})
            y = Mul({last})
        }}
    """)


def optimised(proto: Any, path: Path) -> set[str]:
    """Operations of the graph that ONNX Runtime makes of it for any CPU."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath, options.log_severity_level = str(path), 4
    ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return {node.op_type for node in onnx.load(path).graph.node}


def answer(proto: Any, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    y: np.ndarray = ort.InferenceSession(proto.SerializeToString(), options).run(["y"], {"x": x})[0]
    return y


@pytest.mark.parametrize(
    ("sum", "halving", "last"), list(product(("one, e", "e, one"), ("half, s", "s, half"), ("x, h", "h, x")))
)
def test_gelu_becomes_one_operation_with_the_same_numbers(sum: str, halving: str, last: str, tmp_path: Path) -> None:
    before, after = gelu(sum, halving, last), gelu(sum, halving, last)
    half_last(after)
    onnx.checker.check_model(after, full_check=True)
    assert "Erf" in optimised(before, tmp_path / "before.onnx")  # were this not so any more, nothing would be needed
    assert optimised(after, tmp_path / "after.onnx") <= FUSED
    x = np.linspace(-9, 9, 100001, dtype=np.float32)
    np.testing.assert_array_equal(answer(after, x), answer(before, x))


@pytest.mark.parametrize(
    "other",
    [
        {"half": "0.25"},
        {"last": "d, h"},
        {"shown": "h"},
        {"halving": "half, e"},
        {"halving": "s, s"},
        {"halving": "one, s"},
        {"last": "h, h"},
    ],
)
def test_what_only_looks_alike_stays(other: dict[str, str]) -> None:
    before, after = gelu(**other), gelu(**other)
    half_last(after)
    assert after == before


def test_no_gelu_of_the_model_stays_apart(onnx_file: Path, checkpoint: Path, tmp_path: Path) -> None:
    waveform = to_onnx(checkpoint, tmp_path / "waveform.onnx", input="waveform", rate=44100)
    for path in (onnx_file, waveform):
        found = optimised(onnx.load(path), tmp_path / "optimised.onnx")
        assert "Erf" not in found
        assert found & FUSED
