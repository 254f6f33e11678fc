"""Students of frames alone and of sound alone, from training to Triton: neither asks for its teacher's other input."""

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnx
import pytest
from export_setup import MODEL
from needs import needed

from mmadfer.cli.predict import predict_files
from mmadfer.config.schema import Config, parse
from mmadfer.contract import KEY, loads
from mmadfer.contract.description import describe_contract
from mmadfer.data.clip import read_clip
from mmadfer.data.media import frames as frames_of
from mmadfer.data.media.frames import DecodedClip
from mmadfer.data.video_windows import Windows
from mmadfer.errors import ConfigError, DataError
from mmadfer.export.engine.to_trt import to_engine
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.export.parity.parity import export_onnx
from mmadfer.export.server.to_triton import to_triton
from mmadfer.model.weights.load import load
from mmadfer.run import directory as runs
from mmadfer.runtime import Recogniser, triton
from mmadfer.runtime.backends.engines import read_sidecar
from mmadfer.runtime.inputs import Video, read_parts
from mmadfer.train.loop import train

PORT = {"vision": "frames", "audio": "fbank"}


def config(name: str, store: Path, model: dict[str, Any], teacher: Path | None = None) -> Config:
    """An epoch of three steps."""
    data = {"store": str(store), "folds": 4, "threads": 1}
    prepare = {"face_size": 64, "detect_every": 20}
    tree = {"name": name, "prepare": prepare, "data": data, "model": MODEL.model_dump(mode="json") | model}
    taught = {"stages": {"teacher": str(teacher)}, "task": {"distill": {"name": "logits"}}} if teacher else {}
    return parse({**tree, **taught, "train": {"epochs": 1, "batch_size": 1, "lr": 0.01}}, "the test")


def student(branch: str, store: Path, teacher: Path) -> Config:
    """One smaller branch with prompts, low-rank updates and the temporal transformer."""
    small = {"width": 16, "depth": 2, "heads": 2}
    model = {"branches": branch, branch: small, "fusion": "none", "lora": {"rank": 2}}
    return config(branch, store, model, teacher)


@pytest.fixture(scope="module", params=["vision", "audio"])
def branch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def trained(own: Config, run: Path) -> Path:
    """The folder of its first fold."""
    folder = runs.open_fold(run, own, 1)
    assert train(own, 1, folder).finished
    return folder


@pytest.fixture(scope="module")
def teacher(calibration_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of both modalities."""
    return trained(config("both", calibration_store, {}), tmp_path_factory.mktemp("both") / "run").parent


@pytest.fixture(scope="module")
def fold(branch: str, teacher: Path, calibration_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(student(branch, calibration_store, teacher), tmp_path_factory.mktemp(branch) / "run")


@pytest.fixture(scope="module")
def proven(fold: Path, calibration_store: Path) -> Path:
    """Delivered after parity, from file to label."""
    return export_onnx(fold, fold.parent / "export" / "model.onnx", calibration_store)


def test_the_graph_has_the_ports_of_its_modality(branch: str, proven: Path) -> None:
    model = onnx.load(proven)
    assert [port.name for port in model.graph.input] == [PORT[branch]]
    contract = loads(next(entry.value for entry in model.metadata_props if entry.key == KEY))
    assert (contract.model.branches, contract.modalities) == (branch, branch)
    assert describe_contract(contract)["input"] == PORT[branch]
    assert describe_contract(contract)["student of"].startswith("both, fold 1 (both; weights ")
    report = json.loads(proven.with_name("model.parity.json").read_text())
    assert report["passed"]
    assert report["file_vs_store"]["max"] == 0


def test_one_input_is_enough_and_the_other_is_refused(branch: str, proven: Path, fold: Path) -> None:
    given = {"frames": np.zeros((2, 4, 3, 32, 32), np.uint8), "fbank": np.zeros((2, 1, 512, 128), np.float32)}
    for path in (proven, fold):
        backend = Recogniser(path).backend
        assert backend.logits(given[PORT[branch]]).shape == (2, 4)
        with pytest.raises(DataError, match=f"the model takes {PORT[branch]}, not 2 arrays"):
            backend.logits(*given.values())


def test_a_file_is_read_for_its_own_part_alone(
    branch: str, proven: Path, fold: Path, video: Path, tmp_path: Path
) -> None:
    served, trained = Recogniser(proven), Recogniser(fold)
    whole = served(video)
    np.testing.assert_allclose(
        list(trained(video).probabilities.values()), list(whole.probabilities.values()), atol=1e-5
    )
    settings = served.contract.prepare
    if branch == "audio":
        clip = read_clip(video, settings, cropped=True)
        other = Video(tmp_path / "sound.wav")
        other.path.write_bytes(triton.wav(clip.waveform, clip.rate))
    else:
        pictures = np.stack([picture.rgb() for picture in frames_of.pictures(video, settings)])
        other = Video(Path("pictures"), pictures=DecodedClip(pictures, "pictures"))
    found = served(other)
    np.testing.assert_allclose(list(found.probabilities.values()), list(whole.probabilities.values()), atol=1e-3)
    assert found.notes == []


def stream_alone(source: Path, path: Path, kind: str) -> Path:
    """The packets of the file's first stream of a kind, as they are, in a file of their own."""
    with av.open(str(source)) as there, av.open(str(path), "w") as file:
        (stream, *_) = (one for one in there.streams if one.type == kind)
        copied = file.add_stream_from_template(stream)
        for packet in there.demux(stream):
            if packet.dts is not None:
                packet.stream = copied
                file.mux(packet)
    with av.open(str(path)) as made:
        assert [one.type for one in made.streams] == [kind]
    return path


def test_a_file_without_the_other_stream_gives_the_same_answer(
    branch: str, proven: Path, video: Path, teacher: Path, tmp_path: Path
) -> None:
    """A silent video, or sound without a picture, through the command; the answer says whose student gave it."""
    alone = stream_alone(video, tmp_path / "alone.mp4", {"vision": "video", "audio": "audio"}[branch])
    assert predict_files([video, alone], proven, out=[tmp_path / "out.json"]) == 0
    whole, own = json.loads((tmp_path / "out.json").read_text())
    assert own["probabilities"] == whole["probabilities"]
    assert own["notes"] == whole["notes"] == []
    theirs = load(teacher, fold=1).contract
    assert theirs is not None
    assert own["model"]["teacher"]["weights_hash"] == theirs.weights_hash


def test_windows(branch: str, fold: Path, video: Path) -> None:
    contract = Recogniser(fold).contract
    (whole,) = read_parts(Video(video), contract)
    parts = list(read_parts(Video(video), contract, Windows(0.5, 0.25)))
    assert len(parts) > 2
    assert parts[0].start == whole.start
    assert parts[-1].end == pytest.approx(whole.end, abs=0.1)
    assert all(part.inputs is not None and len(part.inputs) == 1 for part in parts)
    found = Recogniser(fold)(video, window=0.5)
    assert all(segment["label"] for segment in found.segments)


def test_a_graph_for_samples_is_for_models_that_hear(branch: str, fold: Path, video: Path, tmp_path: Path) -> None:
    if branch == "vision":
        with pytest.raises(ConfigError, match="waveform is for models that hear, and this one sees frames alone"):
            to_onnx(fold, tmp_path / "model.onnx", input="waveform", rate=16000)
        return
    clip = read_clip(video, Recogniser(fold).contract.prepare, cropped=True)
    out = to_onnx(fold, tmp_path / "model.onnx", input="waveform", rate=clip.rate)
    assert [port.name for port in onnx.load(out).graph.input] == ["waveform", "lengths"]
    one, other = (list(Recogniser(path)(video).probabilities.values()) for path in (out, fold))
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_an_engine_has_the_same_ports(branch: str, proven: Path, tmp_path: Path) -> None:
    needed("tensorrt_rtx")
    engine = to_engine(proven, tmp_path / "model.engine", batch=(1, 2, 4), flavour="rtx")
    carried = read_sidecar(engine).contract
    assert carried.model.branches == branch
    assert carried.teacher == Recogniser(proven).contract.teacher is not None
    data = engine.read_bytes()
    assert [name for name in PORT.values() if name.encode() in data] == [PORT[branch]]


def test_triton_asks_for_nothing_else(branch: str, proven: Path, video: Path, tmp_path: Path) -> None:
    schema, text_format = needed("tritonclient.grpc.model_config_pb2"), needed("google.protobuf.text_format")
    repository = to_triton(proven, tmp_path / "repo")

    def inputs(model: str) -> list[str]:
        text = (repository / model / "config.pbtxt").read_text()
        return [one.name for one in text_format.Parse(text, schema.ModelConfig()).input]

    decoded = {"vision": ["images", "cropped"], "audio": ["samples", "rate"]}[branch]
    served = repository / "mmadfer_read" / "1" / triton.CONTRACT
    assert loads(served.read_bytes()).teacher == Recogniser(proven).contract.teacher is not None
    assert inputs("mmadfer_model") == [PORT[branch]]
    assert inputs("mmadfer_frames") == decoded
    assert inputs("mmadfer_read") == ["video", *decoded]
    reader = triton.Reader()
    parameters = {"parameters": {triton.LIMIT_PARAMETER: {"string_value": "120"}}}
    reader.start(repository / "mmadfer_read" / "1", {"model_config": json.dumps(parameters)})
    read = reader.work({"video": np.array([[video.read_bytes()]], object)})
    assert set(read) == {PORT[branch], "notes"}
    settings = Recogniser(proven).contract.prepare
    if branch == "audio":
        clip = read_clip(video, settings, cropped=True)
        given = {"samples": clip.waveform[None], "rate": np.array([[clip.rate]], np.int32)}
    else:
        given = {"images": np.stack([picture.rgb() for picture in frames_of.pictures(video, settings)])[None]}
    again = reader.work(given)
    np.testing.assert_allclose(again[PORT[branch]].astype(float), read[PORT[branch]].astype(float), atol=0.02)
    with pytest.raises(DataError, match=f"give video alone, or {decoded[0]} with"):
        reader.work({})
