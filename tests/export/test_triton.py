"""The model repository's files, and what is refused; test_triton_server.py serves them."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from export_setup import CONTRACT, clips
from needs import needed

from mmadfer.cli.main import app, run
from mmadfer.contract import KEY, loads
from mmadfer.errors import ConfigError, WeightsError
from mmadfer.export.graph import external
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.export.server import to_triton
from mmadfer.export.server.configs import Serving, config_text, configs
from mmadfer.export.server.to_triton import LOOPBACK
from mmadfer.runtime.backends.engines import Sidecar, read_sidecar, sidecar_path
from mmadfer.runtime.backends.ort import OrtBackend
from mmadfer.utils.files import sha256

schema = needed("tritonclient.grpc.model_config_pb2")
text_format = needed("google.protobuf.text_format")
MODELS = ("mmadfer", "mmadfer_frames", "mmadfer_label", "mmadfer_model", "mmadfer_read")


def config(repository: Path, model: str) -> Any:
    """A written configuration, as Triton's schema reads it."""
    return text_format.Parse((repository / model / "config.pbtxt").read_text(), schema.ModelConfig())


def tensors(given: Any) -> dict[str, tuple[str, list[int]]]:
    return {one.name: (schema.DataType.Name(one.data_type), list(one.dims)) for one in given}


@pytest.fixture(scope="module")
def repository(onnx_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return to_triton.to_triton(onnx_file, tmp_path_factory.mktemp("triton") / "repo")


def engine_in(folder: Path, flavour: str, batch: tuple[int, int, int] = (1, 2, 4), code: bool = False) -> Path:
    """A file with the sidecar of an engine; Triton's part needs no more of it."""
    path = folder / "tiny.engine"
    path.write_bytes(b"engine")
    sidecar = Sidecar(
        flavour=flavour, version="10.16.1.11", precision="fp16", batch=batch, version_compatible=code,
        hardware_compatible=False, onnx_sha256="", seconds=1.0, contract=CONTRACT.model_copy(update={"batch": batch}),
        engine_sha256=sha256(path),
    )  # fmt: skip
    sidecar_path(path).write_text(sidecar.dumps())
    return path


def in_precision(onnx_file: Path, folder: Path, precision: str) -> Path:
    """The file as if it computed in another precision; Triton's part looks at the contract."""
    proto = onnx.load(onnx_file)
    contract = CONTRACT.model_copy(update={"arithmetic": precision}).model_dump_json()
    onnx.helper.set_model_props(proto, {KEY: contract})
    onnx.save(proto, folder / f"{precision}.onnx")
    return folder / f"{precision}.onnx"


def test_where_nothing_can_be_written_is_told(onnx_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out, why in ((tmp_path / "file/repo", "Not a directory"), (Path("/proc/repo"), "No such file or directory")):
        with pytest.raises(ConfigError, match=f"^{out} cannot be written \\({why}\\): give another name"):
            to_triton.to_triton(onnx_file, out)


def test_every_model_has_a_configuration_of_its_own_name(repository: Path) -> None:
    assert sorted(one.name for one in repository.iterdir() if one.is_dir()) == list(MODELS)
    for model in MODELS:
        assert config(repository, model).name == model
        assert (repository / model / "1").is_dir()
        assert config(repository, model).max_batch_size == 32


def test_the_graph_is_served_by_onnx_runtime_with_its_ports_and_batch(repository: Path, onnx_file: Path) -> None:
    found = config(repository, "mmadfer_model")
    assert found.backend == "onnxruntime"
    assert tensors(found.input) == {"frames": ("TYPE_UINT8", [4, 3, 32, 32]), "fbank": ("TYPE_FP32", [1, 512, 128])}
    assert tensors(found.output) == {"logits": ("TYPE_FP32", [4])}
    assert list(found.dynamic_batching.preferred_batch_size) == [8, 32]
    assert found.dynamic_batching.max_queue_delay_microseconds == 5000
    assert [(one.kind, one.count) for one in found.instance_group] == [(schema.ModelInstanceGroup.KIND_CPU, 1)]
    given = {one.name: (one.data_type, one.dims) for one in found.input}
    for size, warm in zip((1, 8), found.model_warmup, strict=True):
        assert warm.batch_size == size
        assert {name: (one.data_type, one.dims) for name, one in warm.inputs.items()} == given
    assert (repository / "mmadfer_model/1/model.onnx").read_bytes() == onnx_file.read_bytes()


def test_every_tensor_of_an_ensemble_is_one_of_its_steps(repository: Path) -> None:
    for name in ("mmadfer", "mmadfer_frames"):
        whole = config(repository, name)
        known = tensors(whole.input)
        for step in whole.ensemble_scheduling.step:
            model = config(repository, step.model_name)
            given, made = tensors(model.input), tensors(model.output)
            assert {step.input_map[key]: given[key] for key in step.input_map}.items() <= known.items()
            known |= {step.output_map[key]: made[key] for key in step.output_map}
        assert tensors(whole.output).items() <= known.items()


def test_labels_and_contract_go_with_it(repository: Path) -> None:
    for model in ("mmadfer", "mmadfer_frames", "mmadfer_label"):
        (output,) = (one for one in config(repository, model).output if one.name == "probabilities")
        assert (repository / model / output.label_filename).read_text().split() == list(CONTRACT.labels)
    assert loads((repository / "mmadfer_read/1/contract.json").read_text()).labels == CONTRACT.labels


def test_the_client_asks_for_the_model_by_its_name(onnx_file: Path, tmp_path: Path) -> None:
    written = to_triton.to_triton(onnx_file, tmp_path / "repo", name="faces.v2")
    assert 'MODEL = "faces.v2"' in (written / "client.py").read_text()
    assert config(written, "faces.v2").ensemble_scheduling.step[0].model_name == "faces.v2_read"


def test_samples_come_with_lengths_that_only_the_graph_takes_without_a_dimension() -> None:
    contract = CONTRACT.model_copy(update={"input": "waveform", "waveform_rate": 16000})
    for backend, bare in (("onnxruntime", True), ("python", False)):
        made = configs("m", contract, Serving(backend, (1, 1, 1)))  # type: ignore[arg-type]
        parsed = text_format.Parse(config_text(made["m_model"]), schema.ModelConfig())
        assert tensors(parsed.input)["lengths"] == ("TYPE_INT64", [1])
        assert parsed.input[2].HasField("reshape") is bare
        assert not parsed.dynamic_batching.preferred_batch_size  # of one clip
        assert [list(one.inputs["lengths"].dims) for one in parsed.model_warmup] == [[1]]


def test_who_waits_too_long_or_behind_too_many_is_refused(onnx_file: Path, tmp_path: Path) -> None:
    written = to_triton.to_triton(onnx_file, tmp_path / "repo", limit=7.5)
    for model in ("mmadfer_read", "mmadfer_model"):
        queue = config(written, model).dynamic_batching.default_queue_policy
        assert queue.timeout_action == schema.ModelQueuePolicy.REJECT
        assert (queue.default_timeout_microseconds, queue.max_queue_size) == (7_500_000, 128)
        assert queue.allow_timeout_override
    assert config(written, "mmadfer_read").parameters["seconds"].string_value == "7.5"


def test_an_engine_of_tensorrt_is_a_plan(tmp_path: Path) -> None:
    path = engine_in(tmp_path, "tensorrt")
    written = to_triton.to_triton(path, tmp_path / "repo", instances=2)
    found = config(written, "mmadfer_model")
    assert (found.backend, found.max_batch_size) == ("tensorrt", 4)
    assert [(one.kind, one.count) for one in found.instance_group] == [(schema.ModelInstanceGroup.KIND_GPU, 2)]
    assert [file.name for file in (written / "mmadfer_model/1").iterdir()] == ["model.plan"]


def test_an_engine_of_tensorrt_rtx_is_computed_by_mmadfer(tmp_path: Path) -> None:
    path = engine_in(tmp_path, "rtx")
    written = to_triton.to_triton(path, tmp_path / "repo")
    assert config(written, "mmadfer_model").backend == "python"
    assert "import Model as TritonPythonModel" in (written / "mmadfer_model/1/model.py").read_text()
    assert read_sidecar(written / "mmadfer_model/1/model.engine") == read_sidecar(path)
    with pytest.raises(ConfigError, match="Triton cannot load"):
        to_triton.to_triton(path, tmp_path / "other", backend="tensorrt")


@pytest.mark.parametrize(
    ("flavour", "command"),
    [
        (
            "tensorrt",
            f"tritonserver --model-repository={{}} {LOOPBACK} --backend-config=tensorrt,version-compatible=true\n",
        ),
        ("rtx", f"MMADFER_TRUST_ENGINES=1 tritonserver --model-repository={{}} {LOOPBACK}\n"),
    ],
)
def test_program_code_in_an_engine_is_served_only_where_that_is_allowed(
    flavour: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = engine_in(tmp_path, flavour, code=True)
    monkeypatch.delenv("MMADFER_TRUST_ENGINES", raising=False)
    with pytest.raises(WeightsError, match=r"holds program code, .* set MMADFER_TRUST_ENGINES=1"):
        to_triton.export_triton(path, tmp_path / "repo")
    assert not (tmp_path / "repo").exists()
    monkeypatch.setenv("MMADFER_TRUST_ENGINES", "1")
    to_triton.export_triton(path, tmp_path / "repo")
    assert command.format(tmp_path / "repo") in capsys.readouterr().out
    assert "one of 4 emotions" in (tmp_path / "repo/card.md").read_text()


def test_an_engine_that_wants_several_clips_is_refused(tmp_path: Path) -> None:
    path = engine_in(tmp_path, "tensorrt", batch=(2, 4, 8))
    with pytest.raises(ConfigError, match="--batch 1 4 8"):
        to_triton.to_triton(path, tmp_path / "repo")


def test_weights_beside_the_graph_come_along(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "ONE_FILE", 1000)
    graph = to_onnx(checkpoint, tmp_path / "large.onnx")
    written = to_triton.to_triton(graph, tmp_path / "repo") / "mmadfer_model/1"
    assert {file.suffix for file in written.iterdir()} == {".onnx", ".data"}
    shutil.move(graph, tmp_path / "away.onnx")
    expected, found = OrtBackend(tmp_path / "away.onnx"), OrtBackend(written / "model.onnx")
    assert np.array_equal(found.logits(*clips(2)), expected.logits(*clips(2)))


@pytest.mark.parametrize(
    ("precision", "options", "told"),
    [
        ("bf16", {}, "no kernels on a CPU: give --device cuda"),
        ("bf16", {"backend": "python"}, "no kernels on a CPU: give --device cuda"),
        (
            "bf16",
            {"device": "cuda"},
            "bf16, which Triton's onnxruntime backend does not serve: give --backend python",
        ),
        ("fp8", {"device": "cuda"}, "fp8, which Triton's onnxruntime backend does not serve: give --backend python"),
    ],
)
def test_what_would_fail_when_the_server_starts_is_refused(
    onnx_file: Path, tmp_path: Path, precision: str, options: Any, told: str
) -> None:
    path = in_precision(onnx_file, tmp_path, precision)
    with pytest.raises(ConfigError, match=told):
        to_triton.to_triton(path, tmp_path / "repo", **options)
    to_triton.to_triton(path, tmp_path / "repo", backend="python", device="cuda")


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "a b", "ä", "x" * 65])
def test_a_name_that_is_no_folder_is_refused(onnx_file: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="--name"):
        to_triton.to_triton(onnx_file, tmp_path / "repo", name=name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"backend": "tensorrt"}, "cannot load"),
        ({"backend": "pytorch"}, "give one of onnxruntime, tensorrt, python"),
        ({"device": "tpu"}, "cpu or cuda"),
        ({"instances": 0}, "--instances 0"),
        ({"readers": 10**6}, "--readers 1000000"),
        ({"delay": float("nan")}, "--delay nan"),
        ({"limit": 0.5}, "--limit 0.5"),
    ],
)
def test_options_that_cannot_be_are_refused(onnx_file: Path, tmp_path: Path, options: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        to_triton.to_triton(onnx_file, tmp_path / "repo", **options)
    assert not list(tmp_path.iterdir())


def test_what_lies_there_is_left_alone(onnx_file: Path, tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    to_triton.to_triton(onnx_file, tmp_path / "repo")  # an empty folder is no loss
    before = sorted(tmp_path.rglob("*"))
    for out in ("repo", "repo/client.py"):
        with pytest.raises(ConfigError, match="is there already"):
            to_triton.to_triton(onnx_file, tmp_path / out)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="is there already"):
        to_triton.to_triton(onnx_file, tmp_path / "link")
    (tmp_path / "link").unlink()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_repository_is_whole_or_not_there(onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(to_triton.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        to_triton.to_triton(onnx_file, tmp_path / "repo")
    assert not list(tmp_path.iterdir())


def test_what_is_no_product_is_refused(checkpoint: Path, onnx_file: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    other = onnx.load(onnx_file)
    other.graph.input[1].type.tensor_type.shape.dim[2].dim_value = 500
    onnx.save(other, tmp_path / "other.onnx")
    damaged = engine_in(tmp_path, "tensorrt")
    damaged.write_bytes(b"other")
    told = ((checkpoint, "neither"), ("bad.onnx", "whole ONNX"), ("other.onnx", "fbank"), (damaged, "damaged"))
    for source, word in told:
        with pytest.raises(WeightsError, match=word):
            to_triton.to_triton(tmp_path / source, tmp_path / "repo")
    sidecar_path(damaged).unlink()
    with pytest.raises(WeightsError, match="has no readable"):
        to_triton.to_triton(damaged, tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


def test_a_configuration_that_triton_does_not_know_is_refused() -> None:
    for wrong in ({"bogus": 1}, {"max_batch_size": "many"}, {"input": [{"data_type": "TYPE_UINT7"}]}):
        with pytest.raises(ConfigError, match="schema"):
            config_text({"name": "x"} | wrong)


def test_the_command_says_what_comes_next_or_what_is_wrong(
    onnx_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", "triton", str(onnx_file), "--out", str(tmp_path / "repo"), "--device", "cuda", "--delay", "20"]
    assert run(app, command) == 0
    out = capsys.readouterr().out
    assert f"tritonserver --model-repository={tmp_path / 'repo'} {LOOPBACK}\n" in out
    assert LOOPBACK.count("address=127.0.0.1") == 3
    assert "needs       Triton 26.07 or later" in out
    found = config(tmp_path / "repo", "mmadfer_model")
    assert found.instance_group[0].kind == schema.ModelInstanceGroup.KIND_GPU
    assert found.dynamic_batching.max_queue_delay_microseconds == 20_000
    assert run(app, command) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_the_client_says_what_a_server_says_harmlessly(encoding: str) -> None:
    needed("tritonclient.grpc")
    from mmadfer.export.server.client import harmless

    text = harmless("\x1b]0;a\x07\u202e笑\udcff\nb.mp4: glad é", io.TextIOWrapper(io.BytesIO(), encoding))
    sign, accent = ("笑" if encoding == "utf-8" else "\\u7b11"), ("\\xe9" if encoding == "ascii" else "é")
    assert text == rf"\x1b]0;a\x07\u202e{sign}\udcff\nb.mp4: glad {accent}"
