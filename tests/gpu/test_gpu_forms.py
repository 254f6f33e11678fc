"""Every form of the model on a GPU: PyTorch, both of ONNX Runtime's providers, and both kinds of engines."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from export_setup import clips
from gpu_setup import Hog, needs_provider, others

from mmadfer.errors import DataError
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.export.parity.tolerance import TOLERANCES
from mmadfer.runtime import Recogniser
from mmadfer.runtime.arrays import empty_clip
from mmadfer.runtime.backends.ort import OrtBackend
from mmadfer.runtime.batches import Batches
from mmadfer.runtime.prediction import Prediction

NEAR = TOLERANCES["fp32"].difference
MANY = 4000
"""Clips, of 270 kB each on the GPU, that are too many for what `Hog` leaves."""


def assert_near(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=0, atol=NEAR)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_it_answers_as_the_cpu(on_gpu: Recogniser, on_cpu: OrtBackend, count: int) -> None:
    assert on_gpu.backend.device.gpu
    assert_near(on_gpu.backend.logits(*clips(count)), on_cpu.logits(*clips(count)))


def test_each_call_has_its_own_answer(on_gpu: Recogniser, on_cpu: OrtBackend) -> None:
    """The second call of one size records a CUDA graph, and the third launches it: with its own clips."""
    for count in (2, 5, 2):
        for number in range(4):
            feed = others(clips(count), number)
            assert_near(on_gpu.backend.logits(*feed), on_cpu.logits(*feed))


def test_threads_get_their_own_answers(on_gpu: Recogniser, on_cpu: OrtBackend) -> None:
    feeds = [others(clips(1 + number % 5), number) for number in range(60)]
    with ThreadPoolExecutor(8) as pool:
        for feed, found in zip(feeds, pool.map(lambda feed: on_gpu.backend.logits(*feed), feeds), strict=True):
            assert_near(found, on_cpu.logits(*feed))


def test_wrong_arrays_are_refused_and_it_stays_usable(on_gpu: Recogniser, on_cpu: OrtBackend) -> None:
    frames, fbank = clips(2)
    for wrong in ((frames.astype(np.float32), fbank), (frames[:, :2], fbank), (frames, fbank[:1])):
        with pytest.raises(DataError, match="the model takes"):
            on_gpu.backend.logits(*wrong)
    assert_near(on_gpu.backend.logits(frames, fbank), on_cpu.logits(frames, fbank))


def test_files_are_computed_in_the_usual_batch(
    on_gpu: Recogniser, onnx_file: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, logits = list[int](), on_gpu.backend.logits
    monkeypatch.setattr(on_gpu.backend, "logits", noting(sizes, logits))
    found = [result for result in on_gpu.predict([video] * 9, jobs=2) if isinstance(result, Prediction)]
    usual = on_gpu.contract.batch[1] if on_gpu.contract.batch else 8
    assert sizes == [*[usual] * (9 // usual), 1]
    wanted = Recogniser(onnx_file)(video)
    for one in found:
        assert one.label == wanted.label
        assert one.probabilities == pytest.approx(wanted.probabilities, abs=1e-3)
    assert len(found) == 9


def noting(sizes: list[int], logits: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    def noted(*arrays: np.ndarray) -> np.ndarray:
        sizes.append(len(arrays[0]))
        return logits(*arrays)

    return noted


def test_warm_starts(on_gpu: Recogniser, video: Path) -> None:
    assert on_gpu.warm() is on_gpu
    assert on_gpu(video).label in on_gpu.labels


@pytest.mark.parametrize("form", ["torch", "onnxruntime"])
def test_a_full_gpu_gets_smaller_batches_and_the_process_stays_usable(
    form: str, checkpoint: Path, hog: Hog, on_cpu: OrtBackend, tmp_path: Path
) -> None:
    """Engines have all their memory from the start: see test_gpu_engines.py."""
    path = checkpoint
    if form == "onnxruntime":
        needs_provider("cuda")
        path = to_onnx(checkpoint, tmp_path / "many.onnx", batch=(1, 8, MANY))
    recogniser = Recogniser(path, device="cuda").warm()
    batches, clip = Batches(recogniser.backend), empty_clip(recogniser.contract)
    wanted = on_cpu.logits(*clip)
    hog.leave(256 << 20)
    with pytest.warns(UserWarning, match=rf"^{MANY} clips at once do not fit .* going on with {MANY // 2}$"):
        found = batches.logits([clip] * MANY, MANY)
    assert_near(found, np.repeat(wanted, MANY, axis=0))
    hog.free()
    assert_near(recogniser.backend.logits(*clip), wanted)
