"""A model repository on a real Triton server: from a video's bytes to the answer that `mmadfer predict` gives."""

import json
import subprocess
import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from export_setup import CONTRACT, SETTINGS, awake
from triton_server import Server, serving

from mmadfer.export.to_onnx import to_onnx
from mmadfer.export.to_triton import to_triton
from mmadfer.model.build import save_weights
from mmadfer.runtime import Recogniser

triton = pytest.importorskip("tritonclient.grpc")
pytestmark = pytest.mark.slow
RATE = 16_000
CLOSE = 1e-5


@pytest.fixture(scope="module")
def waveform_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that hears samples, and takes silence for sound that is missing."""
    folder = tmp_path_factory.mktemp("waveform")
    settings = SETTINGS.model_copy(update={"no_sound": "silence"})
    save_weights(folder / "w.safetensors", awake(2), CONTRACT.model_copy(update={"prepare": settings}), frozen=True)
    return to_onnx(folder / "w.safetensors", folder / "w.onnx", input="waveform", rate=RATE)


@pytest.fixture(scope="module")
def repository(onnx_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Computed by mmadfer's own runtime."""
    return to_triton(onnx_file, tmp_path_factory.mktemp("own") / "repo", backend="python", readers=2)


@pytest.fixture(scope="module")
def server(repository: Path, waveform_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("triton")
    other = to_triton(waveform_file, place / "repo", name="wave", readers=2, delay=500)
    with serving(place, repository, other) as running:
        yield running


def client(repository: Path, server: Server, *words: Path | str) -> "subprocess.CompletedProcess[str]":
    """The repository's own client, as a user calls it."""
    command = [sys.executable, repository / "client.py", *words, "--server", server.grpc]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def ask(server: Server, model: str, arrays: dict[str, np.ndarray]) -> Any:
    given = []
    for name, array in arrays.items():
        kinds = {"uint8": "UINT8", "float32": "FP32", "int32": "INT32", "bool": "BOOL", "object": "BYTES"}
        given.append(triton.InferInput(name, array.shape, kinds[array.dtype.name]))
        given[-1].set_data_from_numpy(array)
    with triton.InferenceServerClient(server.grpc) as there:
        return there.infer(model, given)


def files(*paths: Path) -> dict[str, np.ndarray]:
    return {"video": np.array([[path.read_bytes()] for path in paths], dtype=object)}


def decoded(video: Path) -> dict[str, np.ndarray]:
    with av.open(str(video)) as container:
        images = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    with av.open(str(video)) as container:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    rest = {"rate": np.array([[RATE]], np.int32), "cropped": np.array([[False]])}
    return {"images": images[None], "samples": samples[None].astype(np.float32), **rest}


def test_the_client_gets_what_predict_gives(
    repository: Path, server: Server, media: Path, onnx_file: Path, tmp_path: Path
) -> None:
    videos = sorted(media.glob("*/*.mp4"))
    done = client(repository, server, *videos, "--json", str(tmp_path / "answers.json"))
    assert done.returncode == 0, done.stderr
    answers = json.loads((tmp_path / "answers.json").read_text())
    recogniser = Recogniser(onnx_file)
    for video, answer in zip(videos, answers, strict=True):
        expected = recogniser(video)
        assert answer["label"] == expected.label
        assert list(answer["probabilities"]) == list(expected.probabilities)
        assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=CLOSE)
        assert answer["notes"] == "; ".join(expected.notes)
        assert f"{video}: {expected.label} (" in done.stdout


def test_nothing_but_a_files_bytes_over_http_will_do(server: Server, video: Path, onnx_file: Path) -> None:
    assert Recogniser(onnx_file)(video).label.encode() in server.post("mmadfer", video.read_bytes())


def test_a_model_that_hears_samples_takes_several_videos_at_once(
    server: Server, media: Path, waveform_file: Path
) -> None:
    videos = sorted(media.glob("*/*.mp4"))
    answer = ask(server, "wave", files(*videos))
    recogniser = Recogniser(waveform_file)
    for row, video in enumerate(videos):
        expected = recogniser(video)
        assert answer.as_numpy("label")[row, 0].decode() == expected.label
        found = answer.as_numpy("probabilities")[row]
        assert found == pytest.approx(list(expected.probabilities.values()), abs=CLOSE)


def test_videos_that_are_sent_at_once_share_a_batch(server: Server, repository: Path, media: Path) -> None:
    def counts() -> tuple[int, int]:
        (stats,) = server.get("models/wave_model/stats")["model_stats"]
        return stats["inference_count"], stats["execution_count"]

    before = counts()
    done = client(repository, server, *sorted(media.glob("*/*.mp4")), "--model", "wave")
    assert done.returncode == 0, done.stderr
    clips, batches = (after - earlier for after, earlier in zip(counts(), before, strict=True))
    assert clips == 4
    assert batches < 4


def test_decoded_pictures_and_sound_give_what_the_file_gives(server: Server, video: Path) -> None:
    for model in ("mmadfer", "wave"):
        whole, parts = ask(server, model, files(video)), ask(server, f"{model}_frames", decoded(video))
        assert parts.as_numpy("label") == whole.as_numpy("label")
        assert parts.as_numpy("probabilities") == pytest.approx(whole.as_numpy("probabilities"), abs=CLOSE)


def test_sound_that_is_missing_is_said_or_refused_as_the_contract_has_it(server: Server, video: Path) -> None:
    mute = decoded(video)
    mute |= {"samples": mute["samples"][:, :0], "rate": np.array([[0]], np.int32)}
    assert b"no sound" in ask(server, "wave_frames", mute).as_numpy("notes")[0, 0]
    with pytest.raises(Exception, match="no sound, which this model needs: give samples and their rate"):
        ask(server, "mmadfer_frames", mute)


def test_what_cannot_be_read_is_said_and_the_server_goes_on(
    repository: Path, server: Server, video: Path, tmp_path: Path
) -> None:
    bad = {
        "text.mp4": b"not a video",
        "cut.mp4": video.read_bytes()[:2000],
        "list.m3u8": b"#EXTM3U\nfile:///etc/passwd",
    }
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
        done = client(repository, server, tmp_path / name, video)
        assert done.returncode == 2
        assert f"{tmp_path / name}: in ensemble 'mmadfer', the video " in done.stderr
        assert "/mmadfer-" not in done.stderr  # names of temporary files are the server's own
        assert f"{video}: " in done.stdout
    with pytest.raises(urllib.error.HTTPError):
        server.post("mmadfer", b"")
    black = decoded(video)
    with pytest.raises(Exception, match="the video shows no face"):
        ask(server, "mmadfer_frames", black | {"images": black["images"] * 0})
    with pytest.raises(Exception, match="give the samples' rate in Hz"):
        ask(server, "mmadfer_frames", black | {"rate": np.array([[0]], np.int32)})
    assert client(repository, server, video).returncode == 0


def test_a_server_that_is_not_there_is_said(repository: Path, server: Server, video: Path) -> None:
    nowhere = server._replace(grpc="localhost:1")
    done = client(repository, nowhere, video)
    assert done.returncode == 2
    assert str(video) in done.stderr
    assert "Traceback" not in done.stderr
