"""What only an NVIDIA GPU can show: `pytest tests/gpu`. Without one, each test is skipped, with the reason.

The model is the tiny one of the export tests, on the GPU in every form that this machine has the packages for. What
lacks a package is skipped, too; MMADFER_NEED=1 makes that a failure.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "data"))  # what these make for their tests is this folder's, too
sys.path.append(str(Path(__file__).parents[1] / "export"))
sys.path.append(str(Path(__file__).parents[1] / "train"))

import gpu_setup
from export_setup import CONTRACT, awake
from gpu_setup import BATCH, Hog, built, needs_flavour, needs_provider
from make_media import moving_face, tone, write_video
from needs import missing

from mmadfer.errors import MissingDependencyError
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.model.weights.build import save_weights
from mmadfer.runtime import Recogniser
from mmadfer.runtime.backends import engines
from mmadfer.runtime.backends.ort import OrtBackend

HERE = Path(__file__).parent
FORMS = ("torch", "onnxruntime cuda", "onnxruntime tensorrt", *engines.FLAVOURS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@contextmanager
def _told() -> Iterator[None]:
    """What the product says to be missing, a test cannot be blamed for."""
    try:
        yield
    except MissingDependencyError as error:
        missing(str(error))


@pytest.hookimpl(wrapper=True, trylast=True)  # inside of pytest's own, which tidy up at the end what they have set up
def pytest_runtest_setup() -> Iterator[None]:
    if reason := gpu_setup.why_not():
        pytest.skip(reason)  # here, not by a mark, so that the summary has one line for all
    with _told():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    with _told():
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gpu") / "tiny.safetensors"
    save_weights(path, awake(1), CONTRACT, frozen=True)
    return path


@pytest.fixture(scope="session")
def onnx_file(checkpoint: Path) -> Path:
    return to_onnx(checkpoint, checkpoint.with_suffix(".onnx"), batch=BATCH)


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("gpu") / "face.mp4", moving_face(30), tone(1.2))


@pytest.fixture(scope="session")
def on_cpu(onnx_file: Path) -> OrtBackend:
    """What all forms are held against."""
    return OrtBackend(onnx_file)


@pytest.fixture(scope="session", params=FORMS)
def on_gpu(request: pytest.FixtureRequest, checkpoint: Path, onnx_file: Path) -> Recogniser:
    """The model in one of its forms."""
    if request.param == "torch":
        return Recogniser(checkpoint, device="cuda")
    if request.param in engines.FLAVOURS:
        return Recogniser(built(request.param, onnx_file, onnx_file.with_name(f"{request.param}.engine")))
    device = request.param.removeprefix("onnxruntime ")
    needs_provider(device)
    return Recogniser(onnx_file, device=device)


@pytest.fixture(scope="session", params=list(engines.FLAVOURS))
def flavour(request: pytest.FixtureRequest) -> str:
    """TensorRT and TensorRT-RTX, where they are."""
    name: str = request.param
    needs_flavour(name)
    return name


@pytest.fixture
def hog() -> Iterator[Hog]:
    made = Hog()
    yield made
    made.free()
