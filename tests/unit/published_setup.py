"""Files in the layouts of the published program, MAE-Face and AudioMAE, and hostile ones."""

import argparse
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights.published import published_name


class RecorderMeter:
    """As the published program pickles it beside its weights: an object of `__main__` that holds numpy arrays."""

    def __init__(self) -> None:
        self.total_epoch = 25
        self.epoch_losses = np.zeros((25, 2), dtype=np.float32)
        self.current_epoch: dict[str, Any] = {"best": np.float64(0.5), "list": [1, (2, 3)]}


def state_dict(model: MMADFER) -> dict[str, Tensor]:
    """Published names with `module.`, the dead tensors included."""
    width, temporal = model.config.vision.width, model.config.width
    layer = "temporal_net.temporal_transformer.layers.0"
    tensors = OrderedDict((published_name(name) or "", value) for name, value in model.state_dict().items())
    for name in (f"{layer}.0.fn.norm2.weight", f"{layer}.1.fn.norm2.bias"):
        tensors[name] = torch.ones(temporal)
    tensors["image_encoder.head.weight"], tensors["audio_model.head.bias"] = torch.ones(12, width), torch.ones(1000)
    prefixed = OrderedDict((f"module.{name}", value) for name, value in tensors.items())
    prefixed._metadata = OrderedDict(version=1)  # type: ignore[attr-defined]
    return prefixed


def save_fold(path: Path, state: dict[str, Tensor], legacy: bool = False, **more: Any) -> Path:
    """A fold checkpoint as the published program saves it."""
    RecorderMeter.__module__ = "__main__"
    vars(sys.modules["__main__"])["RecorderMeter"] = RecorderMeter
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    tree = {
        "epoch": 25,
        "state_dict": state,
        "best_acc": torch.tensor(77.5),
        "optimizer": optimizer.state_dict(),
        "recorder": RecorderMeter(),
        "args": argparse.Namespace(lr=1e-4),
        **more,
    }
    torch.save(tree, path, _use_new_zipfile_serialization=not legacy)
    return path


def encoder_state(model: MMADFER, name: str, grid: tuple[int, int]) -> dict[str, Tensor]:
    """Tensors of a MAE-Face or AudioMAE file: another position grid, and a decoder that is not used."""
    prefix = "image_encoder." if name == "vision" else "audio_model."
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for key, value in model.state_dict().items():
        theirs = published_name(key) or ""
        if theirs.startswith(prefix) and key.startswith(f"{name}.") and ".prompts." not in key:
            tensors[theirs.removeprefix(prefix)] = torch.randn(value.shape, generator=generator)
    width = model.config.vision.width
    tensors["pos_embed"] = torch.randn(1, 1 + grid[0] * grid[1], width, generator=generator)
    for key in ("mask_token", "decoder_pos_embed", "decoder_blocks.0.norm1.weight"):
        tensors[key] = torch.ones(1, 1, width)
    return tensors


def zip_of(path: Path, data: bytes, **records: bytes) -> Path:
    """A file in torch's zip format with this pickle inside."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", "little")
        for name, record in records.items():
            archive.writestr(f"archive/data/{name}", record)
    return path


def stream_of(path: Path, data: bytes) -> Path:
    """A file in torch's older format with this pickle inside."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1001, "type_sizes": {}}]
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in head) + data + pickle.dumps([], 2))
    return path
