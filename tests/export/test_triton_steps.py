"""The steps that mmadfer computes in Triton, and its client, without a server; test_triton_server.py has one."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from export_setup import SETTINGS, clips
from needs import needed

from mmadfer.errors import DataError
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.export.server.to_triton import to_triton
from mmadfer.runtime.backends.ort import OrtBackend
from mmadfer.runtime.triton import Model, Reader, wav

needed("tritonclient.grpc.model_config_pb2")
MOST = int(SETTINGS.max_seconds * 25)
"""Pictures of a clip."""


@pytest.fixture(scope="module")
def repository(onnx_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return to_triton(onnx_file, tmp_path_factory.mktemp("triton") / "repo")


def test_sound_that_is_handed_on_keeps_every_bit() -> None:
    samples = np.random.default_rng(0).standard_normal(1001).astype(np.float32)
    with av.open(io.BytesIO(wav(samples, 22_050))) as container:
        assert container.streams.audio[0].rate == 22_050
        found = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert np.array_equal(found, samples)
    for rate in (0, -1, 10**7):
        with pytest.raises(DataError, match="rate"):
            wav(samples, rate)


def test_mmadfers_own_step_takes_lengths_with_a_dimension(checkpoint: Path, tmp_path: Path) -> None:
    graph = to_onnx(checkpoint, tmp_path / "w.onnx", input="waveform", rate=16_000)
    written = to_triton(graph, tmp_path / "repo", backend="python")
    step, backend = Model(), OrtBackend(graph)
    step.start(written / "mmadfer_model/1", {"model_instance_kind": "CPU", "model_instance_device_id": "0"})
    samples = np.random.default_rng(1).standard_normal((3, backend.contract.samples)).astype(np.float32)
    frames, lengths = clips(3)[0], np.array([20_000, 0, 9_000])
    found = step.work({"frames": frames, "waveform": samples, "lengths": lengths[:, None]})["logits"]
    assert found == pytest.approx(backend.logits(frames, samples, lengths), abs=1e-5)


@pytest.fixture(scope="module")
def reader(repository: Path) -> Reader:
    return started(repository, 60)


def started(repository: Path, seconds: float) -> Reader:
    reader = Reader()
    parameters = {"seconds": {"string_value": str(seconds)}}
    reader.start(repository / "mmadfer_read/1", {"model_config": json.dumps({"parameters": parameters})})
    return reader


def pictures(count: int, height: int = 48, width: int = 64) -> dict[str, np.ndarray]:
    return {"images": np.zeros((1, count, height, width, 3), np.uint8)}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "give video alone, or images with samples, rate and cropped"),
        (pictures(2) | {"video": np.array([[b""]])}, "give video alone, or images with samples, rate and cropped"),
        (pictures(0), f"images of a clip are 0 x 48 x 64 x 3: give 1 to {MOST} pictures .*"),
        (pictures(2, height=0), f"images of a clip are 2 x 0 x 64 x 3: give 1 to {MOST} pictures .*"),
        (pictures(MOST + 1, 1, 1), rf"images of a clip are {MOST + 1} x 1 x 1 x 3: give 1 to {MOST} pictures .*"),
    ],
)
def test_pictures_that_cannot_be_a_clip_are_refused(reader: Reader, given: Any, told: str) -> None:
    with pytest.raises(DataError) as caught:
        reader.work(given)
    assert re.fullmatch(told, str(caught.value))


def test_a_reader_does_not_stay_with_one_video_for_ever(repository: Path, video: Path) -> None:
    hurried = started(repository, 0.001)
    with pytest.raises(DataError) as caught:
        hurried.work({"video": np.array([[video.read_bytes()]], object)})
    assert str(caught.value) == (
        "the video is not read within 0.001 s, the most that a request gets: cut it into shorter ones, or make its "
        "pictures smaller"
    )


def test_a_reader_outlives_a_video_that_ends_its_decoder(
    reader: Reader, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"video": np.array([[video.read_bytes()]], object)}
    with monkeypatch.context() as patched:
        patched.setattr("mmadfer.runtime.triton.read_parts", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        with pytest.raises(DataError) as caught:
            reader.work(given)
    assert str(caught.value) == (
        "the video ended the process that read it (SIGKILL): it is damaged, or wants more memory than is left"
    )
    assert reader.work(given)["frames"].shape == (1, 4, 3, 32, 32)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--jobs", "0"), "--jobs: 0: give more than 0, at most 256"),
        (("--jobs", "many"), "--jobs: invalid number value: 'many'"),
        (("--timeout", "nan"), "--timeout: nan: give more than 0, at most 86400"),
    ],
)
def test_the_client_refuses_numbers_that_are_no_use(repository: Path, words: tuple[str, str], told: str) -> None:
    command = [sys.executable, repository / "client.py", "a.mp4", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith(f"error: argument {told}\n")


def test_without_tritonclient_the_extra_is_named(onnx_file: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['tritonclient'] = None; from mmadfer.cli.main import app, run; sys.exit(run(app))"
    command = [sys.executable, "-c", code, "export", "triton", onnx_file, "--out", tmp_path / "repo"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert ".[triton]" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
