"""A tiny exported model, real videos, and one server of them for tests that leave it as it is."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "data"))  # what these make for their tests is this folder's, too
sys.path.append(str(Path(__file__).parents[1] / "export"))

from export_setup import CONTRACT, awake, write_two_faces
from serve_setup import Served, served

from mmadfer.data.sets import toy
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.model.weights.build import save_weights


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "tiny.safetensors"
    save_weights(path, awake(1), CONTRACT, frozen=True)
    return to_onnx(path, path.with_suffix(".onnx"))


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "clip.mp4"
    toy.write_clip(path, *toy.content("sad", 0, seed=1))
    return path


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_two_faces(tmp_path_factory.mktemp("pair") / "pair.mp4")


@pytest.fixture(scope="session")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a minute of the toy face."""
    frames, sound = toy.content("sad", 0, seed=1)
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    toy.write_clip(path, np.concatenate([frames] * 10), np.concatenate([sound] * 10))
    return path


@pytest.fixture(scope="session")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(model, tmp_path_factory.mktemp("temporary"), "--jobs", 2) as found:
        yield found
