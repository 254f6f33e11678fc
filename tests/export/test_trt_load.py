"""What is checked before an engine is loaded, and what runs it, on a simulated GPU. No engine computes here."""

import gc
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_setup import clips
from needs import needed
from trt_simulation import Cuda, api

from mmadfer.cli.main import app, run
from mmadfer.errors import DataError, MissingDependencyError, MmadferError, WeightsError
from mmadfer.export.engine.to_trt import to_engine
from mmadfer.runtime import Recogniser
from mmadfer.runtime.backends import cuda, engines
from mmadfer.runtime.backends.engines import Gpu, Sidecar, read_sidecar, sidecar_path
from mmadfer.runtime.backends.ort import OrtBackend
from mmadfer.runtime.backends.tensorrt_backend import TensorRTBackend, engine_batches
from mmadfer.utils.files import sha256

trt = needed("tensorrt_rtx")
H200, A100 = Gpu("NVIDIA H200", (9, 0)), Gpu("NVIDIA A100-SXM4-80GB", (8, 0))


@pytest.fixture(scope="module")
def built(onnx_file: Path) -> Path:
    return to_engine(onnx_file, onnx_file.with_name("loaded.engine"), batch=(2, 2, 4), flavour="rtx")


@pytest.fixture
def engine(built: Path, onnx_file: Path, tmp_path: Path) -> Path:
    """An engine of one's own, with the ONNX file beside it."""
    for path in (built, sidecar_path(built), onnx_file):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path / built.name


def change(engine: Path, **facts: Any) -> Sidecar:
    sidecar = read_sidecar(engine).model_copy(update=facts)
    sidecar_path(engine).write_text(sidecar.dumps())
    return sidecar


def test_the_sidecar_comes_back(engine: Path) -> None:
    sidecar = change(engine, gpu=H200, options={"--workspace": 64})
    assert read_sidecar(engine) == sidecar
    assert str(sidecar.gpu) == "NVIDIA H200 (compute capability 9.0)"


def gpu_here() -> bool:
    try:
        cuda.gpu()
    except MissingDependencyError:
        return False
    return True


@pytest.mark.skipif(gpu_here(), reason="a GPU is here")
def test_without_a_gpu_it_says_so(engine: Path, capsys: pytest.CaptureFixture[str], video: Path) -> None:
    with pytest.raises(MissingDependencyError, match=r"cuda:0: no GPU that CUDA can use: .*cudaError"):
        Recogniser(engine)
    assert run(app, ["predict", str(video), "--model", str(engine)]) == 2
    assert "no GPU" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("no engine", r"no engine at .*loaded\.engine"),
        ("no sidecar", r"no readable loaded\.engine\.json beside it"),
        ("cut sidecar", "not what this version of mmadfer writes.*no valid JSON"),
        ("other sidecar", "(?s)not what this version of mmadfer writes.*engine_sha256"),
        ("cut engine", "damaged, or of another build"),
        ("new onnx", r"is older than .*tiny\.onnx"),
        ("version", r"built by TensorRT-RTX 1\.0\.0; here is"),
        ("later version", r"built by TensorRT-RTX 99\.0\.0; here is"),
        ("code", "MMADFER_TRUST_ENGINES=1"),
        ("flavour", "no flavour 'lite'"),
    ],
)
def test_what_does_not_fit_is_refused(engine: Path, what: str, words: str) -> None:
    spoil(engine, what)
    with pytest.raises(WeightsError, match=words) as caught:
        Recogniser(engine)
    if what not in ("flavour",):
        assert "mmadfer export engine" in str(caught.value)
    if what in ("cut engine", "new onnx", "version", "later version", "code"):
        source = engine.with_name("tiny.onnx")
        command = f"mmadfer export engine {source} --out {engine} --batch 2 2 4 --flavour rtx"
        assert command in str(caught.value)


def spoil(engine: Path, what: str) -> None:
    text = sidecar_path(engine).read_text()
    if what == "no engine":
        engine.unlink()
    elif what == "no sidecar":
        sidecar_path(engine).unlink()
    elif what == "cut sidecar":
        sidecar_path(engine).write_text(text[: len(text) // 2])
    elif what == "other sidecar":
        sidecar_path(engine).write_text(text.replace("engine_sha256", "hash"))
    elif what == "cut engine":
        engine.write_bytes(engine.read_bytes()[:1000])
    elif what == "new onnx":
        with open(engine.with_name("tiny.onnx"), "ab") as file:
            file.write(b"\0")
    else:
        facts = {
            "version": {"version": "1.0.0"},
            "later version": {"version": "99.0.0", "version_compatible": True},
            "code": {"version": "1.0.0", "version_compatible": True},
            "flavour": {"flavour": "lite"},
        }
        change(engine, **facts[what])


@pytest.mark.parametrize(
    ("gpu", "hardware_compatible", "here", "passes"),
    [
        (H200, False, H200, True),
        (H200, False, A100, False),
        (A100, False, H200, False),
        (A100, True, H200, True),
        (A100, True, Gpu("Tesla T4", (7, 5)), False),
        (A100, False, Gpu("NVIDIA A100-PCIE-40GB", (8, 0)), False),
        (None, False, A100, True),
    ],
)
def test_engines_belong_to_their_gpu(
    engine: Path, gpu: Gpu | None, hardware_compatible: bool, here: Gpu, passes: bool
) -> None:
    sidecar = change(engine, gpu=gpu, hardware_compatible=hardware_compatible)
    if passes:
        return engines.check_gpu(engine, sidecar, here)
    with pytest.raises(WeightsError, match=rf"built for {gpu and gpu.name}.*here is {here.name}.*export engine"):
        engines.check_gpu(engine, sidecar, here)
    return None


def test_a_later_version_loads_what_is_compatible_and_trusted(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sidecar = change(engine, version="10.9.0", version_compatible=True, flavour="tensorrt")
    monkeypatch.setenv(engines.TRUST, "1")
    engines.check_engine_version(engine, sidecar, "10.16.1.11")
    with pytest.raises(WeightsError, match=r"built by TensorRT 10\.9\.0; here is 10\.8\.1"):
        engines.check_engine_version(engine, sidecar, "10.8.1")


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [(2, 1)]), (4, [(4, 4)]), (5, [(4, 4), (2, 1)]), (9, [(4, 4), (4, 4), (2, 1)])]
)
def test_batches_are_parted_and_filled(count: int, sizes: list[tuple[int, int]]) -> None:
    frames = np.arange(count)
    found = list(engine_batches({"frames": frames, "lengths": frames + 100}, (2, 2, 4)))
    assert [(len(part["frames"]), asked) for part, asked in found] == sizes
    assert np.concatenate([part["frames"][:asked] for part, asked in found]).tolist() == list(range(count))
    assert found[-1][0]["lengths"][-1] == count + 99


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    simulated = Cuda(cuda.bindings())
    monkeypatch.setattr(cuda, "bindings", lambda: simulated)
    return simulated


@pytest.fixture
def backend(engine: Path, onnx_file: Path, device: Cuda, monkeypatch: pytest.MonkeyPatch) -> Iterator[TensorRTBackend]:
    double = api(trt, onnx_file, device)
    monkeypatch.setattr(engines, "flavour", lambda name: (name, double))
    made = TensorRTBackend(engine)
    yield made
    vars(made).pop("_execution", None)  # while there is a device to give its memory back to


def test_an_engine_is_on_a_gpu_without_a_word_about_it(backend: TensorRTBackend, engine: Path) -> None:
    assert str(backend.device) == "cuda"
    recogniser = Recogniser(engine)
    assert recogniser.batches.usual == 2
    vars(recogniser.backend).pop("_execution")
    assert str(TensorRTBackend(engine, "cuda:1").device) == "cuda:1"
    with pytest.raises(MissingDependencyError, match="no device 'cpu' for this model; it can use cuda"):
        Recogniser(engine, device="cpu")


def test_the_backend_gives_the_engines_logits(backend: TensorRTBackend, onnx_file: Path) -> None:
    other = OrtBackend(onnx_file)
    for count in (1, 1, 3, 3, 3, 9):
        np.testing.assert_allclose(backend.logits(*clips(count)), other.logits(*clips(count)), rtol=0, atol=1e-6)


def test_threads_get_their_own_answers(backend: TensorRTBackend, onnx_file: Path) -> None:
    counts = [1, 2, 3, 4] * 5
    wanted = {count: OrtBackend(onnx_file).logits(*clips(count)) for count in set(counts)}
    with ThreadPoolExecutor(4) as pool:
        for count, found in zip(counts, pool.map(lambda count: backend.logits(*clips(count)), counts), strict=True):
            np.testing.assert_allclose(found, wanted[count], rtol=0, atol=1e-6)


def test_wrong_arrays_are_refused_and_it_stays_usable(backend: TensorRTBackend) -> None:
    frames, fbank = clips(2)
    for wrong in ((frames.astype(np.float32), fbank), (frames[:, :2], fbank), (frames, fbank[:1])):
        with pytest.raises(DataError, match="the model takes"):
            backend.logits(*wrong)
    assert backend.logits(frames, fbank).shape == (2, 4)


def test_all_is_given_back(backend: TensorRTBackend, device: Cuda) -> None:
    backend._execution._by_hand = True  # as with TensorRT 10 and 11; TensorRT-RTX records graphs itself
    for count in (2, 2, 3, 3, 3):
        backend.logits(*clips(count))
    assert device.held
    assert (len(device.graphs), device.streams) == (1, 1)
    del backend._execution
    gc.collect()
    assert not device.held
    assert (device.graphs, device.streams) == ([], 0)


@pytest.mark.parametrize(
    ("before", "failing", "code"),
    [
        (0, {"execute"}, "execute_async_v3"),
        (1, {"execute"}, "execute_async_v3"),  # while it is recorded
        (1, {"execute", "cudaStreamEndCapture"}, "execute_async_v3"),
        (1, {"cudaGraphInstantiate"}, "cudaErrorIllegalAddress"),
        (2, {"cudaGraphLaunch"}, "cudaErrorIllegalAddress"),
    ],
)
def test_a_failure_is_told_and_leaves_nothing(
    backend: TensorRTBackend, device: Cuda, before: int, failing: set[str], code: str
) -> None:
    backend._execution._by_hand = True  # as with TensorRT 10 and 11; TensorRT-RTX records graphs itself
    wanted = backend.logits(*clips(3))
    backend.logits(*clips(2))
    for _ in range(before):
        backend.logits(*clips(3))
    device.failing = failing
    with pytest.raises(MmadferError, match=rf"the GPU failed: .*\({code}\)"):
        backend.logits(*clips(3))
    assert device.recording is None or "cudaStreamEndCapture" in failing
    device.failing, device.recording = set(), None
    for _ in range(3):
        np.testing.assert_array_equal(backend.logits(*clips(3)), wanted)
    assert len(device.graphs) == 1


def test_a_broken_gpu_is_no_lack_of_memory(
    engine: Path, onnx_file: Path, device: Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.failing = {"cudaHostAlloc"}
    monkeypatch.setattr(engines, "flavour", lambda name: (name, api(trt, onnx_file, device)))
    with pytest.raises(MmadferError, match=r"^the GPU failed: .*\(cudaErrorIllegalAddress\)"):
        TensorRTBackend(engine)


def test_large_files_are_read_once(
    engine: Path, onnx_file: Path, device: Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "flavour", lambda name: (name, api(trt, onnx_file, device)))
    monkeypatch.setattr(engines, "sha256", lambda path: pytest.fail(f"{path} is read once more"))
    os.utime(engine.with_name("tiny.onnx"), (0, 0))  # older than the engine
    TensorRTBackend(engine)


def test_too_little_memory_says_what_fits(
    engine: Path, onnx_file: Path, device: Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.most = 1 << 20
    double = api(trt, onnx_file, device)
    monkeypatch.setattr(engines, "flavour", lambda name: (name, double))
    words = r"needs 4096 MiB .* 1 MiB are free.*--batch 1 1 1 --flavour rtx$"
    with pytest.raises(WeightsError, match=words):
        TensorRTBackend(engine, "cuda:1")
    gc.collect()
    assert not device.held
    device.most = 1 << 10
    change(engine, batch=(1, 1, 1))
    with pytest.raises(WeightsError, match=r"for 1 clips at once, .*cudaErrorMemoryAllocation.*take another GPU"):
        TensorRTBackend(engine)


def test_an_engine_that_tensorrt_refuses_is_named(engine: Path, device: Cuda) -> None:
    engine.write_bytes(b"ftrt" + b"\0" * 5000)
    change(engine, engine_sha256=sha256(engine))
    with pytest.raises(WeightsError, match=r"TensorRT cannot load .*loaded\.engine here: .*Error.*Build it "):
        TensorRTBackend(engine)


@pytest.mark.skipif(gpu_here(), reason="a GPU is here")
def test_tensorrts_own_word_for_no_gpu_is_passed_on(engine: Path, device: Cuda) -> None:
    """The real library, which looks for a real GPU: the simulation only gets the engine as far as that."""
    with pytest.raises(WeightsError, match="cudaError 35"):
        TensorRTBackend(engine)
