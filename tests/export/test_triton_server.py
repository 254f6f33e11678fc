"""A model repository on a real Triton server: from a video's bytes to the answer that `mmadfer predict` gives."""

import json
import re
import subprocess
import sys
import tempfile
import urllib.error
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from export_setup import CONTRACT, SETTINGS, awake, clips
from needs import needed
from triton_server import Server, serving

from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.export.server.to_triton import to_triton
from mmadfer.model.weights.build import save_weights
from mmadfer.runtime import Recogniser

triton = needed("tritonclient.grpc")
triton_utils = needed("tritonclient.utils")
pytestmark = pytest.mark.slow
RATE = 16_000
CLOSE = 1e-5
COUNTING = '''"""mmadfer's own step, which writes to the log what it computes."""

from mmadfer.runtime.triton import Model


class TritonPythonModel(Model):
    def start(self, folder, args):
        super().start(folder, args)
        compute = self._batches.backend.logits

        def counted(frames, *sound):
            print("own batch of", len(frames), flush=True)
            return compute(frames, *sound)

        self._batches.backend.logits = counted
'''


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
    written = to_triton(onnx_file, tmp_path_factory.mktemp("own") / "repo", backend="python", readers=2, delay=300)
    (written / "mmadfer_model/1/model.py").write_text(COUNTING)
    return written


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


def inputs(arrays: dict[str, np.ndarray]) -> list[Any]:
    given = []
    for name, array in arrays.items():
        kinds = {"uint8": "UINT8", "float32": "FP32", "int32": "INT32", "bool": "BOOL", "object": "BYTES"}
        given.append(triton.InferInput(name, array.shape, kinds[array.dtype.name]))
        given[-1].set_data_from_numpy(array)
    return given


def ask(server: Server, model: str, arrays: dict[str, np.ndarray]) -> Any:
    with triton.InferenceServerClient(server.grpc) as there:
        return there.infer(model, inputs(arrays))


def attempt(server: Server, model: str, arrays: dict[str, np.ndarray]) -> Any:
    try:
        return ask(server, model, arrays)
    except triton_utils.InferenceServerException as error:
        return error


def files(*paths: Path) -> dict[str, np.ndarray]:
    return {"video": np.array([[path.read_bytes()] for path in paths], dtype=object)}


def without_sound(video: Path, path: Path) -> Path:
    with av.open(str(video)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return path


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


def batches(server: Server, kind: str) -> list[int]:
    """Sizes of those that were computed up to now."""
    return [int(size) for size in re.findall(rf"^{kind} batch of (\d+)$", server.log.read_text(), re.MULTILINE)]


@pytest.mark.parametrize(("model", "kind"), [("mmadfer", "own"), ("wave", "stand-in's")])
def test_videos_that_are_sent_at_once_share_a_batch(
    server: Server, repository: Path, media: Path, model: str, kind: str
) -> None:
    before = len(batches(server, kind))
    done = client(repository, server, *sorted(media.glob("*/*.mp4")), "--model", model)
    assert done.returncode == 0, done.stderr
    found = batches(server, kind)[before:]
    assert sum(found) == 4
    assert len(found) < 4


def test_a_clip_that_cannot_be_computed_fails_alone(server: Server) -> None:
    frames, fbank = clips(1)
    asked = [{"frames": frames, "fbank": bands} for bands in (fbank, fbank * np.nan, fbank)]
    before = len(batches(server, "own"))
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda arrays: attempt(server, "mmadfer_model", arrays), asked))
    assert batches(server, "own")[before] == 3  # together first, then each alone
    assert "in fp32, and gave a logit that is not a finite number" in str(answers[1])
    assert np.array_equal(answers[0].as_numpy("logits"), answers[2].as_numpy("logits"))


def test_logits_that_are_no_numbers_get_no_label(server: Server) -> None:
    with pytest.raises(Exception, match="gave a logit that is not a finite number"):
        ask(server, "mmadfer_label", {"logits": np.array([[0, np.nan, 1, 2]], np.float32)})


def test_models_are_warm_before_the_server_is_ready(server: Server) -> None:
    for kind in ("own", "stand-in's"):
        assert batches(server, kind)[:2] == [1, 8]


def test_each_reader_takes_one_video_at_a_time(server: Server) -> None:
    (stats,) = server.get("models/mmadfer_read/stats")["model_stats"]
    assert stats["execution_count"] == stats["inference_count"] > 0


def test_a_video_whose_client_has_given_up_is_not_begun_with(server: Server, video: Path) -> None:
    with triton.InferenceServerClient(server.grpc) as there, pytest.raises(Exception, match="Request timeout expired"):
        there.infer("mmadfer", inputs(files(video)), timeout=1)


def test_decoded_pictures_and_sound_give_what_the_file_gives(server: Server, video: Path) -> None:
    for model in ("mmadfer", "wave"):
        whole, parts = ask(server, model, files(video)), ask(server, f"{model}_frames", decoded(video))
        assert parts.as_numpy("label") == whole.as_numpy("label")
        assert parts.as_numpy("probabilities") == pytest.approx(whole.as_numpy("probabilities"), abs=CLOSE)


def test_sound_that_is_missing_is_said_or_refused_as_the_contract_has_it(server: Server, video: Path) -> None:
    mute = decoded(video)
    mute |= {"samples": mute["samples"][:, :0], "rate": np.array([[0]], np.int32)}
    note = ask(server, "wave_frames", mute).as_numpy("notes")[0, 0].decode()
    assert note == "no sound, silence in its place: the video came without sound"
    with pytest.raises(Exception, match=r"'mmadfer_frames', the video came without sound$"):
        ask(server, "mmadfer_frames", mute)


def test_a_file_without_sound_is_said_without_a_name(server: Server, video: Path, tmp_path: Path) -> None:
    mute = without_sound(video, tmp_path / "mute.mp4")
    note = ask(server, "wave", files(mute)).as_numpy("notes")[0, 0].decode()
    assert note == "no sound, silence in its place: the video has no sound: give a video with a sound track"


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
        assert tempfile.gettempdir() not in done.stderr.replace(str(tmp_path), "")  # what the server calls it
        assert f"{video}: " in done.stdout
    with pytest.raises(urllib.error.HTTPError):
        server.post("mmadfer", b"")
    black = decoded(video)
    with pytest.raises(Exception, match="the video shows no face"):
        ask(server, "mmadfer_frames", black | {"images": black["images"] * 0})
    with pytest.raises(Exception, match="the video's sound: the sound holds samples that are not finite numbers"):
        ask(server, "mmadfer_frames", black | {"samples": black["samples"] * np.nan})
    with pytest.raises(Exception, match="give the samples' rate in Hz"):
        ask(server, "mmadfer_frames", black | {"rate": np.array([[0]], np.int32)})
    assert client(repository, server, video).returncode == 0


def test_a_server_that_is_not_there_is_said(repository: Path, server: Server, video: Path) -> None:
    nowhere = server._replace(grpc="localhost:1")
    done = client(repository, nowhere, video)
    assert done.returncode == 2
    assert str(video) in done.stderr
    assert "Traceback" not in done.stderr
