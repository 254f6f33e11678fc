"""The three networks of MTCNN (Zhang et al. 2016), computed by PyTorch where it is installed, else by ONNX Runtime.

Their weights are facenet-pytorch's, of `mmadfer/data/mtcnn` (MIT, see the licence there), one file for both.
"""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mmadfer.errors import MissingDependencyError
from mmadfer.utils.float32 import exact
from mmadfer.utils.optional import install, need

WEIGHTS_FOLDER = Path(__file__).parent / "mtcnn_weights"
WEIGHTS_FILE = "weights.safetensors"
WITHOUT_TORCH = "onnxruntime"
"""The device of an install without PyTorch: a CPU, by ONNX Runtime."""
POOLS = {"pnet": (2, 0, 0), "rnet": (3, 3, 0, 0), "onet": (3, 3, 2, 0, 0)}
"""Network -> side of the largest-of pooling after each layer, in steps of 2; 0: none. A linear layer follows."""

Network = Callable[[np.ndarray], np.ndarray]
"""Pictures float32 (N, H, W, 3) in [-1, 1] to float32 (N, 5, h, w): the score (log-odds of a face) and four offsets."""


def networks(device: str = "cpu") -> Mapping[str, Network]:
    """The networks pnet, rnet and onet; each may be called by several threads at once.

    Args:
        device: `cpu`, `cuda`, or WITHOUT_TORCH, which `cpu` also means where PyTorch is not installed.

    Raises:
        MissingDependencyError: neither PyTorch nor ONNX Runtime is installed, or there is no such device.
    """
    if device == WITHOUT_TORCH or (device == "cpu" and find_spec("torch") is None):
        return {name: _by_onnxruntime(name) for name in POOLS}
    torch = need("torch", extra="torch")
    if device != "cpu" and not torch.cuda.is_available():
        raise MissingDependencyError(f"PyTorch finds no GPU to look for faces on ({device}): use the device cpu")
    from safetensors.torch import load_file

    tensors = load_file(WEIGHTS_FOLDER / WEIGHTS_FILE, device)
    layers = {name: [_layer(torch, tensors, f"{name}.{k}") for k in range(len(POOLS[name]) + 1)] for name in POOLS}
    return {name: partial(_by_torch, torch, layers[name], POOLS[name]) for name in POOLS}


def _layer(torch: Any, tensors: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    weight = tensors[f"{name}.weight"].contiguous(memory_format=torch.channels_last)  # the pictures' own order
    return weight, tensors[f"{name}.bias"], tensors.get(f"{name}.slope")


def _by_torch(torch: Any, layers: list[tuple[Any, ...]], pools: tuple[int, ...], pictures: np.ndarray) -> np.ndarray:
    functional = torch.nn.functional
    device = layers[0][0].device
    with torch.inference_mode(), exact(device.type):
        x = torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2)
        for (weight, bias, slope), pool in zip(layers, pools, strict=False):
            x = functional.prelu(functional.conv2d(x, weight, bias), slope)
            if pool:
                x = functional.max_pool2d(x, pool, 2, ceil_mode=True)
        found: np.ndarray = functional.conv2d(x, *layers[-1][:2]).cpu().numpy()
    return found


def _by_onnxruntime(name: str) -> Network:
    ort = need("onnxruntime", None, hint=f"{install('serve')} (or torch)")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # the order of sums stays the same; clips are what runs side by side; and mmadfer.runtime.subprocess_call
    # relies on it: of a pool of threads, a copy of the process would have none
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(WEIGHTS_FOLDER / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])

    def run(pictures: np.ndarray) -> np.ndarray:
        found: np.ndarray = session.run(["found"], {"pictures": pictures})[0]
        return found

    return run
