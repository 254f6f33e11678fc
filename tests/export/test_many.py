"""Many videos and many threads with one model: the same answers in the same order, whatever fails in between."""

import importlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from export_setup import CONTRACT, clips

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from make_media import grey, tone, write_video

from mmadfer.errors import ConfigError, DataError, MissingDependencyError, MmadferError, WeightsError
from mmadfer.runtime import Failure, Prediction, Recogniser
from mmadfer.runtime.backends.device import parse_device
from mmadfer.runtime.backends.ort import OrtBackend
from mmadfer.runtime.batches import Batches
from mmadfer.utils.files import write_text
from mmadfer.utils.prefetch import ahead


@pytest.fixture(scope="module")
def four(media: Path) -> list[Path]:
    found = sorted(media.glob("*/*.mp4"))
    assert len(found) == 4
    return found


@pytest.fixture(scope="module")
def alone(onnx_file: Path, four: list[Path]) -> list[Prediction]:
    recogniser = Recogniser(onnx_file)
    return [recogniser(video) for video in four]


def test_many_threads_share_a_recogniser(onnx_file: Path, four: list[Path], alone: list[Prediction]) -> None:
    recogniser = Recogniser(onnx_file)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(recogniser, four * 4)) == alone * 4


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
def test_many_threads_share_a_backend(onnx_file: Path, suffix: str) -> None:
    backend = Recogniser(onnx_file.with_suffix(suffix)).backend
    inputs = [clips(batch) for batch in range(1, 7)]
    expected = [backend.logits(*arrays) for arrays in inputs]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda arrays: backend.logits(*arrays), inputs * 5))
    for one, other in zip(found, expected * 5, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(("jobs", "batch"), [(1, 1), (3, 1), (2, 3), (8, 16)])
def test_jobs_and_batches_change_neither_order_nor_answers(
    onnx_file: Path, four: list[Path], alone: list[Prediction], tmp_path: Path, jobs: int, batch: int
) -> None:
    bad = tmp_path / "bad.mp4"
    write_text(bad, "no video")
    found = list(Recogniser(onnx_file).predict([*four[:2], bad, *four[2:], bad], jobs=jobs, batch=batch))
    assert [Path(one.video) for one in found] == [*four[:2], bad, *four[2:], bad]
    assert [isinstance(one, Failure) for one in found] == [False, False, True, False, False, True]
    for one, other in zip([one for one in found if isinstance(one, Prediction)], alone, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
        assert (one.label, one.notes) == (other.label, other.notes)
        assert batch > 1 or one == other


def test_windows_of_many_videos_are_batched_together(onnx_file: Path, four: list[Path]) -> None:
    recogniser = Recogniser(onnx_file)
    together = list(recogniser.predict(four, jobs=2, batch=7, window=1, hop=0.5))
    for one, video in zip(together, four, strict=True):
        assert isinstance(one, Prediction)
        other = recogniser(video, window=1, hop=0.5)
        assert [s["label"] for s in one.segments] == [s["label"] for s in other.segments]
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_videos_may_come_without_end(onnx_file: Path, video: Path) -> None:
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield video

    before = threading.active_count()
    found = Recogniser(onnx_file).predict(endless(), jobs=2)
    assert isinstance(next(found), Prediction)
    assert taken < 6
    found.close()
    deadline = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= before  # nobody reads on


@pytest.mark.parametrize("kind", ["unreadable", "faceless"])
def test_a_failure_waits_for_no_other_video(onnx_file: Path, video: Path, tmp_path: Path, kind: str) -> None:
    bad, taken = tmp_path / "bad.mkv", 0
    if kind == "unreadable":
        write_text(bad, "no video")
    else:
        write_video(bad, grey(50), tone(2))

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield bad

    found = Recogniser(onnx_file).predict(endless(), jobs=2, batch=16, window=0.5)
    assert isinstance(next(found), Failure)
    assert taken < 6
    found.close()


def test_what_is_wrong_with_the_numbers_is_said(onnx_file: Path, video: Path) -> None:
    for numbers in ({"jobs": 0}, {"jobs": 10_000}, {"batch": 0}):
        with pytest.raises(ConfigError, match="at least 1"):
            Recogniser(onnx_file).predict([video], **numbers)


def test_an_error_of_the_machine_is_no_failure_of_a_video() -> None:
    def work(task: int) -> Iterator[int]:
        yield task
        raise MissingDependencyError("no decoder here")

    found = ahead(range(3), work, jobs=2, depth=1)
    _, results = next(found)
    with pytest.raises(MissingDependencyError):
        list(results)


def test_a_package_that_is_missing_is_no_failure_of_a_video(
    onnx_file: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av.nothing", None)

    def lacking(*arguments: object, **named: object) -> Iterator[object]:
        yield importlib.import_module("av.nothing")

    recogniser = Recogniser(onnx_file)
    monkeypatch.setattr("mmadfer.runtime.recogniser.read_parts", lacking)
    with pytest.raises(ImportError, match=r"av\.nothing"):
        list(recogniser.predict([video, video], jobs=2))


def test_results_come_in_order_and_do_not_pile_up() -> None:
    made = list[int]()

    def work(task: int) -> Iterator[int]:
        for k in range(20):
            made.append(task)
            time.sleep(0.001 * (3 - task))
            yield 100 * task + k

    first, *rest = [(task, list(results)) for task, results in ahead(range(3), work, jobs=3, depth=2)]
    assert first == (0, list(range(20)))
    assert [task for task, _ in rest] == [1, 2]
    stream = ahead(range(2), work, jobs=1, depth=2)
    made.clear()
    next(stream)
    time.sleep(0.3)
    assert len(made) <= 4  # two are ready, one waits to be
    stream.close()


class Small:
    """The model in a memory for three clips."""

    def __init__(self, path: Path, holds: int = 3, device: str = "cuda") -> None:
        self.device = parse_device(device)
        self.real, self.holds, self.asked = OrtBackend(path), holds, list[int]()
        self.contract, self.input = self.real.contract, self.real.input

    def logits(self, frames: np.ndarray, *sound: np.ndarray) -> np.ndarray:
        self.asked.append(len(frames))
        if len(frames) > self.holds:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.real.logits(frames, *sound)


def inputs(count: int) -> list[tuple[np.ndarray, ...]]:
    frames, fbank = clips(count)
    return [(frames[k : k + 1], fbank[k : k + 1]) for k in range(count)]


def test_batches_that_do_not_fit_get_smaller(onnx_file: Path) -> None:
    small = Small(onnx_file)
    batches, some = Batches(small), inputs(10)
    with pytest.warns(UserWarning, match="8 clips at once do not fit.*with 4|4 clips.*with 2") as told:
        found = batches.logits(some, 8)
    assert len(told) == 2
    np.testing.assert_allclose(found, small.real.logits(*clips(10)), atol=1e-5)
    assert small.asked == [8, 4, 2, 2, 2, 2, 2]
    batches.logits(some[:4], 8)
    assert small.asked[7:] == [2, 2]  # what it has learnt


def test_not_even_one_clip_fits(onnx_file: Path) -> None:
    with pytest.raises(MmadferError, match="a single clip"):
        Batches(Small(onnx_file, holds=0)).logits(inputs(1))


def test_the_model_says_how_many_clips_it_takes(onnx_file: Path) -> None:
    small = Small(onnx_file, holds=100)
    small.contract = CONTRACT.model_copy(update={"batch": (1, 3, 4)})
    batches = Batches(small)
    assert batches.usual == 3
    batches.logits(inputs(9), 64)
    assert small.asked == [4, 4, 1]
    assert Batches(Small(onnx_file, device="cpu")).usual == 1


def test_a_warm_recogniser_has_done_all_that_is_done_once(onnx_file: Path, video: Path) -> None:
    from mmadfer.data.faces import detection

    detection.detector.cache_clear()
    recogniser = Recogniser(onnx_file)
    small = Small(onnx_file, holds=100)
    recogniser.batches.backend = small
    assert recogniser.warm(batch=3) is recogniser
    assert sorted(small.asked) == [1, 3]
    assert detection.detector.cache_info().currsize == 1
    recogniser(video)
    assert detection.detector.cache_info().misses == 1


@pytest.mark.parametrize(
    ("position", "array", "words"),
    [
        (0, np.zeros((1, 4, 3, 32, 32), np.float32), "frames is float32"),
        (0, np.zeros((1, 4, 3, 32, 31), np.uint8), r"frames is uint8 \(1, 4, 3, 32, 31\)"),
        (0, np.zeros((0, 4, 3, 32, 32), np.uint8), "one batch B >= 1"),
        (1, np.zeros((2, 1, 512, 128), np.float32), "one batch"),
        (1, np.zeros((1, 512, 128), np.float32), "fbank is float32"),
        (1, np.zeros((1, 1, 512, 128)), "fbank is float64"),
    ],
)
@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
def test_wrong_arrays_are_refused(onnx_file: Path, suffix: str, position: int, array: np.ndarray, words: str) -> None:
    backend = Recogniser(onnx_file.with_suffix(suffix)).backend
    arrays = list(clips(1))
    arrays[position] = array
    with pytest.raises(DataError, match=words):
        backend.logits(*arrays)
    with pytest.raises(DataError, match="frames, fbank, not 1"):
        backend.logits(clips(1)[0])
    assert backend.logits(*clips(1)).shape == (1, 4)


def test_devices_have_names() -> None:
    assert [str(parse_device(name)) for name in ("cpu", "cuda", "cuda:0", "tensorrt:1")] == [
        "cpu", "cuda", "cuda", "tensorrt:1",
    ]  # fmt: skip
    for name in ("gpu", "cuda:x", "cpu:1", "CUDA", ""):
        with pytest.raises(MissingDependencyError, match="it can use cpu, cuda"):
            parse_device(name)


def test_a_device_that_is_not_there_is_named(onnx_file: Path) -> None:
    import onnxruntime

    there = onnxruntime.get_available_providers()
    for device, provider in {"cuda:1": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}.items():
        if provider not in there:
            with pytest.raises(MissingDependencyError, match=f"device {device}: .*{provider}"):
                Recogniser(onnx_file, device=device)
    with pytest.raises(MissingDependencyError, match="no device 'tensorrt'"):
        Recogniser(onnx_file.with_suffix(".safetensors"), device="tensorrt")


def test_an_unknown_backend_is_named(onnx_file: Path) -> None:
    with pytest.raises(WeightsError, match="torch, onnxruntime, tensorrt"):
        Recogniser(onnx_file, "abacus")


LEAVING = """
import sys, time
from mmadfer.utils.prefetch import ahead

def work(task):
    try:
        for step in range(1000):
            time.sleep(0.2)
            yield step
    finally:
        sys.stdout.write("left\\n")

found = ahead(range(9), work, jobs=2, depth=1)
next(iter(next(found)[1]))
"""


def test_a_process_does_not_end_over_its_readers() -> None:
    for end, code in (("", 0), ("found.close()", 0), ("raise SystemExit(3)", 3)):
        done = subprocess.run([sys.executable, "-c", LEAVING + end], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout.split(), done.stderr) == (code, ["left"] * 2, "")


def test_logits_that_are_no_numbers_are_told(onnx_file: Path) -> None:
    batches = Batches(Recogniser(onnx_file).backend)
    frames, fbank = clips(1)
    assert np.isfinite(batches.logits([(frames, fbank)])).all()
    with pytest.raises(MmadferError, match="computes in fp32, and gave a logit that is not a finite number"):
        batches.logits([(frames, fbank * np.float32("nan"))])
