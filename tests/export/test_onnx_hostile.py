"""What a stranger's ONNX file may not do: take weights from elsewhere, bring programs, hide parts, or swell."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from export_setup import CONTRACT
from onnx.helper import make_function, make_graph, make_node

from mmadfer.errors import WeightsError
from mmadfer.export.graph import protos
from mmadfer.runtime.backends.ort import OrtBackend
from mmadfer.utils import onnx_file as files

READERS = [OrtBackend, protos.read]


def test_every_way_to_a_tensor_is_known() -> None:
    """What ONNX's own schema has: a field that a later one adds would be overlooked."""
    messages = {"model": onnx.ModelProto, "training": onnx.TrainingInfoProto, "graph": onnx.GraphProto}
    messages |= {"function": onnx.FunctionProto, "node": onnx.NodeProto, "attribute": onnx.AttributeProto}
    messages |= {"sparse": onnx.SparseTensorProto, "tensor": onnx.TensorProto}
    names = {message.DESCRIPTOR.full_name: name for name, message in messages.items()}
    for name, message in messages.items():
        inner = {
            one.number: names[one.message_type.full_name]
            for one in message.DESCRIPTOR.fields
            if one.message_type is not None and one.message_type.full_name in names
        }
        assert inner == {number: part for number, part in files.PARTS[name].items() if part in files.PARTS}
    assert onnx.TensorProto.DESCRIPTOR.fields_by_name["external_data"].number == 13
    assert onnx.NodeProto.DESCRIPTOR.fields_by_name["op_type"].number == 4
    assert onnx.ModelProto.DESCRIPTOR.fields_by_name["metadata_props"].number == 14


def test_metadata_is_read_past_the_graph(onnx_file: Path) -> None:
    wanted = {entry.key: entry.value for entry in onnx.load(onnx_file).metadata_props}
    assert len(wanted) > 1
    found = files.facts(onnx_file)
    assert found.metadata == wanted
    assert found.places == set()
    assert "MatMul" in found.operators


def _outside(location: str) -> Any:
    tensor = onnx.numpy_helper.from_array(np.zeros(4, np.float32), "hidden")
    onnx.external_data_helper.set_external_data(tensor, location)
    return tensor


def _constant(location: str) -> Any:
    return make_node("Constant", [], ["hidden"], value=_outside(location))


def _initializer(model: Any, location: str) -> None:
    model.graph.initializer.append(_outside(location))


def _sparse(model: Any, location: str) -> None:
    model.graph.sparse_initializer.add().indices.CopyFrom(_outside(location))


def _node(model: Any, location: str) -> None:
    model.graph.node.append(_constant(location))


def _tensors(model: Any, location: str) -> None:
    model.graph.node.add(op_type="X").attribute.add(name="a").tensors.append(_outside(location))


def _sparse_attribute(model: Any, location: str) -> None:
    model.graph.node.add(op_type="X").attribute.add(name="a").sparse_tensor.values.CopyFrom(_outside(location))


def _inner_graph(model: Any, location: str) -> None:
    inner = make_graph([_constant(location)], "inner", [], [])
    node = make_node("X", [], ["y"], then_branch=make_graph([make_node("X", [], ["y"], g=inner)], "outer", [], []))
    model.graph.node.append(node)


def _function(model: Any, location: str) -> None:
    model.functions.append(make_function("a", "f", [], ["hidden"], [_constant(location)], []))


def _function_default(model: Any, location: str) -> None:
    model.functions.add(name="f").attribute_proto.add(name="a").t.CopyFrom(_outside(location))


def _training(model: Any, location: str) -> None:
    model.training_info.add().algorithm.initializer.append(_outside(location))


WAYS = [
    _initializer,
    _sparse,
    _node,
    _tensors,
    _sparse_attribute,
    _inner_graph,
    _function,
    _function_default,
    _training,
]


@pytest.mark.parametrize("way", WAYS)
def test_weights_from_elsewhere_are_found_wherever_they_hide(
    onnx_file: Path, tmp_path: Path, way: Callable[[Any, str], None]
) -> None:
    model, path = onnx.load(onnx_file), tmp_path / "inner" / "model.onnx"
    path.parent.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    way(model, "../secret.bin")
    path.write_bytes(model.SerializeToString())
    for reader in READERS:
        with pytest.raises(WeightsError, match=r"from '../secret.bin'; they must lie in a file beside it"):
            reader(path)


PLACES = ["../secret.bin", "/secret.bin", "sub/../../secret.bin", "sub/secret.bin", "./beside.bin", "link.bin"]
PLACES += ["..", ".", "", "gone.bin", "..\\secret.bin", "sub", "*/_ORT_MEM_ADDR_/*", "a\0b"]


@pytest.mark.parametrize("location", PLACES)
def test_weights_lie_in_a_file_beside_the_model(onnx_file: Path, tmp_path: Path, location: str) -> None:
    path, model = tmp_path / "inner" / "model.onnx", onnx.load(onnx_file)
    (path.parent / "sub").mkdir(parents=True)
    for place in (tmp_path, path.parent / "sub"):
        (place / "secret.bin").write_bytes(bytes(16))
    (path.parent / "beside.bin").write_bytes(bytes(16))
    (path.parent / "link.bin").symlink_to("beside.bin")
    _initializer(model, str(tmp_path / "secret.bin") if location == "/secret.bin" else location)
    path.write_bytes(model.SerializeToString())
    for reader in READERS:
        with pytest.raises(WeightsError, match="takes weights from"):
            reader(path)


def test_weights_beside_it_are_right(onnx_file: Path, tmp_path: Path) -> None:
    path, model = tmp_path / "model.onnx", onnx.load(onnx_file)
    (tmp_path / "beside.bin").write_bytes(bytes(16))
    _initializer(model, "beside.bin")
    path.write_bytes(model.SerializeToString())
    assert files.facts(path).places == {"beside.bin"}
    assert OrtBackend(path).contract.labels


def test_programs_for_a_gpu_are_refused(onnx_file: Path, tmp_path: Path) -> None:
    model = onnx.load(onnx_file)
    model.graph.node.add(op_type="EPContext", domain="com.microsoft")
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match="holds EPContext, a program for a GPU"):
        OrtBackend(tmp_path / "model.onnx")


def test_it_needs_no_other_package(onnx_file: Path) -> None:
    code = (
        "import sys; sys.modules['onnx'] = sys.modules['torch'] = None; from pathlib import Path\n"
        f"from mmadfer.runtime.backends.ort import OrtBackend\n"
        f"print(*OrtBackend(Path({str(onnx_file)!r})).contract.labels)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*CONTRACT.labels]


def test_a_cut_file_is_refused(onnx_file: Path, tmp_path: Path) -> None:
    data = onnx_file.read_bytes()
    for count in (0, 1, 7, len(data) // 2, len(data) - 3):
        (tmp_path / "cut.onnx").write_bytes(data[:count])
        with pytest.raises(WeightsError, match=r"not a whole ONNX model|carries no mmadfer contract"):
            OrtBackend(tmp_path / "cut.onnx")


HIDDEN = b"\x3a\x0d\x2a\x0b\x6a\x09\x0a\x08location"  # a graph with a tensor whose place has this key
DAMAGED = {
    "a group before the graph": b"\x0b\x0c" + HIDDEN,
    "the end of a group": b"\x0c",
    "a number of a field of more than 32 bits": b"\xba\x80\x80\x80\x10" + HIDDEN[1:],
    "field 0": b"\x02\x00",
    "longer than the file": b"\x3a\xff\xff\xff\xff\x07",
    "longer than what it is in": b"\x3a\x02\x2a\x05" + bytes(9),
    "2^64 - 1 bytes": b"\x0a" + b"\xff" * 9 + b"\x01",
    "a number of more than 64 bits": b"\x3a" + b"\xff" * 12 + b"\x01",
    "no value": b"\x08",
    "a short value": b"\x09\x00",
    "an unknown kind": b"\x0f",
    "ones": b"\xff" * 3_000_000,
    "noise": b"\x72\xff\xff\xff\xff\xff\xff\x7f" + bytes(range(256)),
    "too many parts": b"\x3a\x00" * (files.MAX_FIELDS + 1),
    "a text of 17 MiB": b"\x72\x80\x80\x80\x09" + bytes(9 << 21),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_what_others_may_read_otherwise_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "noise.onnx"
    path.write_bytes(data)
    start = time.process_time()
    with pytest.raises(WeightsError, match="not a whole ONNX model"):
        files.facts(path)
    assert time.process_time() - start < 20


def test_graphs_in_graphs_have_an_end(tmp_path: Path) -> None:
    data = b""
    for _ in range(300):  # a graph's node's attribute's graph
        for field in (6, 5, 1):
            data = bytes([field << 3 | 2]) + _size(len(data)) + data
    (tmp_path / "deep.onnx").write_bytes(b"\x3a" + _size(len(data)) + data)
    with pytest.raises(WeightsError, match="more parts than any model"):
        files.facts(tmp_path / "deep.onnx")


def _size(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + _size(number >> 7)
