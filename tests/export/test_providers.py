"""What ONNX Runtime's providers are told, and its words when they fail. Nothing here runs on a GPU: see tests/gpu."""

import os
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import onnxruntime
import pytest
from export_setup import CONTRACT

from mmadfer.errors import MissingDependencyError
from mmadfer.runtime.backends import providers
from mmadfer.runtime.backends.device import parse_device
from mmadfer.runtime.backends.ort import OrtBackend, _refusal

ROOT = Path(__file__).parents[2]
BATCH = CONTRACT.model_copy(update={"batch": (1, 2, 4)})


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")  # and put back what was there
    return tmp_path / "cache"


def test_tensorrt_is_told_its_profile_and_where_engines_are_kept(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"one")
    (name, settings), (cuda, exact), (cpu, nothing) = providers.providers(path, parse_device("tensorrt:1"), BATCH)
    assert (name, cuda, cpu) == providers.PROVIDERS["tensorrt"]
    assert settings == {
        "device_id": 1,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(next(home.glob("mmadfer/tensorrt/*"))),
        "trt_profile_min_shapes": "frames:1x4x3x32x32,fbank:1x1x512x128",
        "trt_profile_opt_shapes": "frames:2x4x3x32x32,fbank:2x1x512x128",
        "trt_profile_max_shapes": "frames:4x4x3x32x32,fbank:4x1x512x128",
    }
    assert (exact, nothing) == ({"device_id": 1, "use_tf32": "0"}, {})
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"  # TensorRT's provider has no setting of its own
    assert next(home.glob("mmadfer/tensorrt/*")).stat().st_mode & 0o77 == 0


def test_its_settings_are_those_that_onnx_runtime_knows(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.touch()
    folder = Path(onnxruntime.__file__).parent / "transformers/models"
    known = {
        word for file in folder.rglob("*.py") for word in re.findall(r"trt_\w+|use_\w+|device_id", file.read_text())
    }
    for _, settings in providers.providers(path, parse_device("tensorrt"), BATCH):
        assert known >= set(settings)


@pytest.mark.parametrize(("kind", "switch"), [("fp16", "fp16"), ("bf16", "bf16"), ("int8", "int8"), ("fp8", None)])
def test_tensorrt_is_allowed_the_types_of_the_graph(tmp_path: Path, kind: str, switch: str | None) -> None:
    (tmp_path / "a.onnx").touch()
    contract = CONTRACT.model_copy(update={"arithmetic": kind})
    _, settings = providers.providers(tmp_path / "a.onnx", parse_device("tensorrt"), contract)[0]
    switches = {name for name in settings if name.endswith("enable")} - {"trt_engine_cache_enable"}
    assert switches == ({f"trt_{switch}_enable"} if switch else set())
    assert not any("profile" in name for name in settings)  # any number of clips will do


def test_engines_of_other_weights_lie_elsewhere(tmp_path: Path) -> None:
    folders = set()
    for content in (b"one", b"two", b"one"):
        (tmp_path / "a.onnx").write_bytes(content)
        folders.add(
            providers.providers(tmp_path / "a.onnx", parse_device("tensorrt"), BATCH)[0][1]["trt_engine_cache_path"]
        )
    assert len(folders) == 2


def test_no_place_for_engines_is_told(tmp_path: Path, home: Path) -> None:
    (tmp_path / "a.onnx").touch()
    home.touch()  # a file
    with pytest.raises(MissingDependencyError, match=r"cannot be made \(Not a directory\): set XDG_CACHE_HOME"):
        providers.providers(tmp_path / "a.onnx", parse_device("tensorrt"), BATCH)


def test_missing_libraries_are_told_in_the_error_alone(capfd: pytest.CaptureFixture[str]) -> None:
    library = "Failed to load libcudnn.so.9: no such file"
    ort = SimpleNamespace(preload_dlls=lambda: print(library, "Please install CUDA", sep="\n"))
    missing = providers.preload(ort, parse_device("cuda"))
    assert capfd.readouterr().out == ""
    told = providers.advice(parse_device("cuda:1"), missing)
    assert told.startswith(f"device cuda:1: ONNX Runtime has no working CUDAExecutionProvider here ({library}); use")
    assert "[gpu]" in told
    assert providers.preload(None, parse_device("cpu")) == ""
    assert "[tensorrt]" in providers.advice(parse_device("tensorrt"))


@pytest.mark.parametrize(
    ("device", "words", "told"),
    [
        (
            "cuda",
            "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from a.onnx failed:x",
            "not a whole ONNX model",
        ),
        (
            "cuda",
            "[ONNXRuntimeError] : 11 : EP_FAIL : CUDNN failure 1001",
            "cannot be loaded on the device cuda: .*1001",
        ),
        ("cpu", "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Gelu(20)", "no kernels for it on device cpu"),
        ("cpu", "[ONNXRuntimeError] : 1 : FAIL : anything", "not a whole ONNX model"),
    ],
)
def test_what_fails_is_not_always_the_files_fault(device: str, words: str, told: str) -> None:
    assert re.search(told, _refusal(Path("a.onnx"), parse_device(device), RuntimeError(words)))


@pytest.mark.parametrize(("value", "threads"), [("1", 1), ("2,1", 2), ("", 0), ("many", 0)])
def test_the_number_of_threads_is_openmps(
    onnx_file: Path, value: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert OrtBackend(onnx_file).session.get_session_options().intra_op_num_threads == threads


def test_the_extra_for_gpus_brings_cuda() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (package,) = extras["gpu"]
    assert re.match(r"onnxruntime-gpu\[cuda,cudnn\]", package)  # without them, its own wheel has no CUDA
