"""Make mmadfer/data/mtcnn from the weights in facenet-pytorch 2.6.0 (MIT): how the files in the tree were made.

    pip install --no-deps facenet-pytorch==2.6.0
    python tests/data/make_mtcnn.py mmadfer/data/mtcnn

The dense layers become convolutions over all that is left of the picture, the two class scores one: their difference.
The landmarks are left out. The ONNX graphs hold no weights: they point into weights.safetensors, beside them.
"""

import json
import struct
import sys
from importlib.util import find_spec
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file

from mmadfer.data.faces.mtcnn_networks import POOLS, WEIGHTS_FILE

NAMES = {
    "pnet": ("conv1", "conv2", "conv3", "conv4_1", "conv4_2"),
    "rnet": ("conv1", "conv2", "conv3", "dense4", "dense5_1", "dense5_2"),
    "onet": ("conv1", "conv2", "conv3", "conv4", "dense5", "dense6_1", "dense6_2"),
}
"""Their layers; the last two are the class scores and the offsets."""


def tensors() -> dict[str, torch.Tensor]:
    """All weights by our names: NETWORK.LAYER.{weight,bias,slope}."""
    made = dict[str, torch.Tensor]()
    for network, (*layers, score, offsets) in NAMES.items():
        theirs = _read(network)
        for number, layer in enumerate(layers):
            made[f"{network}.{number}.weight"] = _convolution(theirs[f"{layer}.weight"])
            made[f"{network}.{number}.bias"] = theirs[f"{layer}.bias"]
            made[f"{network}.{number}.slope"] = theirs[f"prelu{number + 1}.weight"]
        for kind in ("weight", "bias"):
            no, yes = theirs[f"{score}.{kind}"]
            both = torch.cat([(yes - no)[None], theirs[f"{offsets}.{kind}"]])
            made[f"{network}.{len(layers)}.{kind}"] = _convolution(both) if kind == "weight" else both
    return {name: tensor.contiguous() for name, tensor in made.items()}


def _read(network: str) -> dict[str, torch.Tensor]:
    found = find_spec("facenet_pytorch")
    folder = Path(str(found and found.origin)).parent / "data"
    read: dict[str, torch.Tensor] = torch.load(folder / f"{network}.pt", weights_only=True)
    return read


def _convolution(weight: torch.Tensor) -> torch.Tensor:
    """A dense layer over (width, height, channels), flattened in this order, as a convolution."""
    if weight.ndim == 4:
        return weight
    side = {576: 3, 1152: 3}.get(weight.shape[1], 1)
    return weight.view(len(weight), side, side, -1).permute(0, 3, 2, 1)


def graph(network: str, weights: Path) -> onnx.ModelProto:
    """Pictures (N, H, W, 3) to scores and offsets (N, 5, h, w)."""
    nodes, now = [helper.make_node("Transpose", ["pictures"], ["x"], perm=[0, 3, 1, 2])], "x"
    for number, pool in enumerate(POOLS[network]):
        name = f"{network}.{number}"
        nodes.append(helper.make_node("Conv", [now, f"{name}.weight", f"{name}.bias"], [f"{name}.sums"]))
        nodes.append(helper.make_node("PRelu", [f"{name}.sums", f"{name}.slope"], [f"{name}.active"]))
        now = f"{name}.active"
        if pool:
            settings = {"kernel_shape": [pool] * 2, "strides": [2, 2], "ceil_mode": 1}
            nodes.append(helper.make_node("MaxPool", [now], [f"{name}.pooled"], **settings))
            now = f"{name}.pooled"
    last = f"{network}.{len(POOLS[network])}"
    nodes.append(helper.make_node("Conv", [now, f"{last}.weight", f"{last}.bias"], ["found"]))
    return _model(network, nodes, weights)


def _model(network: str, nodes: list[onnx.NodeProto], weights: Path) -> onnx.ModelProto:
    pictures = helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["N", "H", "W", 3])
    found = helper.make_tensor_value_info("found", TensorProto.FLOAT, ["N", 5, "h", "w"])
    body = helper.make_graph(nodes, network, [pictures], [found], _initialisers(network, weights))
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _initialisers(network: str, weights: Path) -> list[TensorProto]:
    """The network's tensors, by their places in the safetensors file."""
    data = weights.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    made = list[TensorProto]()
    for name, facts in header.items():
        if name.startswith(network):
            start, end = facts["data_offsets"]
            shape = [*facts["shape"], 1, 1] if name.endswith(".slope") else facts["shape"]
            tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
            set_place(tensor, weights.name, 8 + length + start, end - start)
            made.append(tensor)
    return made


def set_place(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    """Let a tensor's data be a part of another file."""
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def write(folder: Path) -> None:
    """Write the weights and the three graphs."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors(), folder / WEIGHTS_FILE)
    (folder / WEIGHTS_FILE).chmod(0o644)
    for network in NAMES:
        path = folder / f"{network}.onnx"
        path.write_bytes(graph(network, folder / WEIGHTS_FILE).SerializeToString(deterministic=True))
        onnx.checker.check_model(str(path), full_check=True)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
