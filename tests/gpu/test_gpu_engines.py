"""Real engines on the GPU that they were built on: what they hold, each precision, and memory."""

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from export_setup import CONTRACT, SETTINGS, clips
from gpu_setup import BATCH, Hog, built

from mmadfer.cli.main import app, run
from mmadfer.data.media.image import encode_jpeg
from mmadfer.data.store.record import Clip, ClipRecord
from mmadfer.data.store.store import Header, write_store
from mmadfer.errors import WeightsError
from mmadfer.export.graph.to_onnx import ExportPrecision, to_onnx
from mmadfer.runtime import Recogniser
from mmadfer.runtime.backends import cuda
from mmadfer.runtime.backends.cuda import Buffer, call
from mmadfer.runtime.backends.engines import read_sidecar
from mmadfer.runtime.backends.ort import OrtBackend
from mmadfer.runtime.backends.tensorrt_backend import TensorRTBackend

LARGE = (1, 8, 2000)
"""Clips, whose inputs take 550 MB."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise to calibrate with, outside of the model's test fold."""
    path, rng, side = tmp_path_factory.mktemp("store") / "noise.store", np.random.default_rng(0), SETTINGS.face_size
    records = [
        (
            Clip(f"{k}", CONTRACT.labels[k], 2, f"{k}.mp4", 4),
            ClipRecord(
                [encode_jpeg(rng.integers(0, 256, (side, side, 3), np.uint8), 95) for _ in range(4)],
                rng.standard_normal((512, 128), np.float32),
            ),
        )
        for k in range(4)
    ]
    write_store(path, Header("toy", CONTRACT.labels, SETTINGS), records)
    return path


@pytest.mark.parametrize(
    ("precision", "near"), [("fp32", 1e-4), ("fp16", 2e-2), ("bf16", 0.15), ("int8", 0.2), ("fp8", 0.5)]
)
def test_every_precision_is_built_and_answers(
    flavour: str,
    checkpoint: Path,
    store: Path,
    on_cpu: OrtBackend,
    precision: ExportPrecision,
    near: float,
    tmp_path: Path,
) -> None:
    """In fp16 within what parity asks for; bf16 has three bits fewer in each product, so eight times that."""
    source = to_onnx(checkpoint, tmp_path / "tiny.onnx", precision=precision, batch=BATCH, data=store)
    engine = built(flavour, source, tmp_path / "tiny.engine")
    sidecar = read_sidecar(engine)
    assert sidecar.precision == precision
    assert sidecar.gpu == (None if flavour == "rtx" else cuda.gpu())
    backend = TensorRTBackend(engine, None)
    for count in (1, 4, 8):
        found, wanted = backend.logits(*clips(count)), on_cpu.logits(*clips(count))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=near)


def test_more_clips_come_in_parts(flavour: str, onnx_file: Path, on_cpu: OrtBackend, tmp_path: Path) -> None:
    backend = TensorRTBackend(built(flavour, onnx_file, tmp_path / "few.engine", (2, 2, 4)), None)
    for count in (1, 4, 5, 9):
        np.testing.assert_allclose(backend.logits(*clips(count)), on_cpu.logits(*clips(count)), rtol=0, atol=1e-4)


def test_several_engines_share_the_gpu(flavour: str, onnx_file: Path, on_cpu: OrtBackend, tmp_path: Path) -> None:
    path = built(flavour, onnx_file, tmp_path / "shared.engine")
    backends = [TensorRTBackend(path, None) for _ in range(3)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda k: backends[k % 3].logits(*clips(1 + k % 4)), range(60)))
    for k, logits in enumerate(found):
        np.testing.assert_allclose(logits, on_cpu.logits(*clips(1 + k % 4)), rtol=0, atol=1e-4)


def test_a_full_gpu_is_told_with_what_fits_and_the_process_stays_usable(
    flavour: str, onnx_file: Path, on_cpu: OrtBackend, hog: Hog, tmp_path: Path
) -> None:
    path = built(flavour, onnx_file, tmp_path / "large.engine", LARGE)
    hog.leave(256 << 20)
    with pytest.raises(WeightsError, match=r"GPU memory .* are free.*--batch 1 \d+ \d+ ") as caught:
        TensorRTBackend(path, None)
    words = str(caught.value).split()
    assert 1 <= int(words[words.index("--batch") + 3]) < LARGE[2]
    hog.free()
    found = TensorRTBackend(path, None).logits(*clips(4))
    np.testing.assert_allclose(found, on_cpu.logits(*clips(4)), rtol=0, atol=1e-4)


def test_memory_is_given_back(flavour: str, onnx_file: Path, tmp_path: Path) -> None:
    path, free = built(flavour, onnx_file, tmp_path / "large.engine", LARGE), list[int]()
    for _ in range(4):
        backend = TensorRTBackend(path, None)
        backend.logits(*clips(4))
        del backend
        gc.collect()
        free.append(call("cudaMemGetInfo")[0])
    assert free[0] - free[-1] < 100 << 20, free


def test_the_command_predicts_with_an_engine(
    flavour: str, onnx_file: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = built(flavour, onnx_file, tmp_path / "told.engine")
    assert run(app, ["predict", str(video), "--model", str(path)]) == 0
    assert Recogniser(onnx_file)(video).label in capsys.readouterr().out


def test_buffers_are_pinned_and_copies_arrive() -> None:
    held = list[Buffer]()
    buffer, stream = Buffer((4, 3), "float32", held), call("cudaStreamCreate")
    told = call("cudaPointerGetAttributes", buffer.array.ctypes.data)
    assert told.type == cuda.bindings().cudaMemoryType.cudaMemoryTypeHost
    wanted = np.arange(6, dtype=np.float32).reshape(2, 3)
    buffer.fill(wanted)
    buffer.upload(stream, wanted.shape)
    call("cudaStreamSynchronize", stream)
    buffer.array[:] = 0
    buffer.download(stream, wanted.shape)
    call("cudaStreamSynchronize", stream)
    np.testing.assert_array_equal(buffer.array[:2], wanted)
    assert not buffer.array[2:].any()
    held[0].free()
    call("cudaStreamDestroy", stream)
