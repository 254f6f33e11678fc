"""A tiny model as checkpoint and ONNX file, four real videos, and the store prepared from them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from export_setup import CONTRACT, SETTINGS, awake, write_two_faces
from traced_once import patched, traced_once

from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.sets import toy
from mmadfer.data.store.store import Store, write_store
from mmadfer.export.graph import tracing
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.model.weights.build import save_weights


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _traced_once() -> Iterator[None]:
    with traced_once():
        yield


@pytest.fixture
def traced_anew() -> Iterator[None]:
    """For tests of tracing itself."""
    with patched(tracing.trace):
        yield


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("media") / "toy"
    toy.make(root, clips_per_class=1, jobs=1)
    return root


@pytest.fixture(scope="session")
def video(media: Path) -> Path:
    return media / "sad" / "sad-000.mp4"


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_two_faces(tmp_path_factory.mktemp("pair") / "pair.mp4")


@pytest.fixture(scope="session")
def store(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "toy.store"
    prepare(toy.table(media), path, SETTINGS, jobs=1)
    with Store(path) as written:
        assert len(written.clips) == 4
    return path


@pytest.fixture(scope="session")
def calibration_store(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same four clips, each in a fold of its own."""
    path = tmp_path_factory.mktemp("folds") / "toy.store"
    with Store(store) as whole:
        clips = enumerate(whole.clips.items(), start=1)
        write_store(path, whole.header, [(replace(clip, fold=k), whole.read(name)) for k, (name, clip) in clips])
    return path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_weights(path, awake(1), CONTRACT, frozen=True)
    return path


@pytest.fixture(scope="session")
def onnx_file(checkpoint: Path) -> Path:
    return to_onnx(checkpoint, checkpoint.with_suffix(".onnx"))
