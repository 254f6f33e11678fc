"""Real engines, built by TensorRT-RTX, which needs no GPU for that."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import onnx
import pytest
from export_setup import CONTRACT
from needs import needed
from onnx import TensorProto, helper
from typer.testing import CliRunner

from mmadfer import contract as contracts
from mmadfer.cli.main import app
from mmadfer.contract import Contract
from mmadfer.errors import ConfigError, MissingDependencyError, MmadferError, WeightsError
from mmadfer.export.engine import builder, to_trt
from mmadfer.export.engine.to_trt import shapes, to_engine
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.runtime.backends import engines
from mmadfer.runtime.backends.engines import read_sidecar, sidecar_path
from mmadfer.utils.files import sha256

trt = needed("tensorrt_rtx")
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")


@pytest.fixture(scope="session")
def graphs(checkpoint: Path, calibration_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny model as a graph of each precision."""
    folder = tmp_path_factory.mktemp("graphs")
    return {
        precision: to_onnx(
            checkpoint, folder / f"{precision}.onnx", precision=precision, data=calibration_store, calibration=2
        )
        for precision in PRECISIONS
    }


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_is_built(graphs: dict[str, Path], precision: str, tmp_path: Path) -> None:
    out = to_engine(graphs[precision], tmp_path / "model.engine", batch=(1, 2, 4), flavour="rtx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.engine", "model.engine.json"]
    sidecar = read_sidecar(out)
    assert (sidecar.precision, sidecar.batch, sidecar.gpu) == (precision, (1, 2, 4), None)
    assert (sidecar.flavour, sidecar.version) == ("rtx", trt.__version__)
    assert {(8, 0), (8, 6), (8, 9), (12, 0)} <= set(sidecar.capabilities)
    assert (7, 5) not in sidecar.capabilities
    assert (sidecar.onnx_sha256, sidecar.engine_sha256) == (sha256(graphs[precision]), sha256(out))
    assert sidecar.contract.labels == CONTRACT.labels
    assert sidecar.contract.weights_hash == read_contract(graphs[precision]).weights_hash
    assert out.stat().st_size > 100_000
    assert sidecar.seconds > 0


def read_contract(path: Path) -> Contract:
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return contracts.loads(metadata[contracts.KEY])


def test_engines_compute_as_the_graph_says(graphs: dict[str, Path]) -> None:
    """The parsed network has the graph's types, whatever version of TensorRT has been told elsewhere."""
    found = {name: types(graphs[name]) for name in PRECISIONS}
    assert found["fp32"] <= {"FLOAT", "INT64", "INT32", "BOOL", "UINT8"}
    assert {name: found[name] - found["fp32"] for name in PRECISIONS[1:]} == {
        "fp16": {"HALF"},
        "bf16": {"BF16"},
        "int8": {"INT8"},
        "fp8": {"FP8"},
    }


def types(path: Path) -> set[str]:
    """Of what the layers of the parsed network give."""
    log = engines.tensorrt_logger(trt)
    network = trt.Builder(log).create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    assert parser.parse_from_file(str(path)), log.told()
    layers = map(network.get_layer, range(network.num_layers))
    return {layer.get_output(index).dtype.name for layer in layers for index in range(layer.num_outputs)}


def test_a_waveform_graph_is_built(checkpoint: Path, tmp_path: Path) -> None:
    source = to_onnx(checkpoint, tmp_path / "model.onnx", input="waveform", rate=16000)
    sidecar = read_sidecar(to_engine(source, tmp_path / "model.engine", batch=(1, 1, 2), flavour="rtx"))
    assert sidecar.contract.input == "waveform"
    assert shapes(sidecar.contract, (1, 1, 2))["waveform"][2] == (2, sidecar.contract.samples)


def test_a_checkpoint_is_built_by_the_command(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "new/model.engine"
    command = ["export", "engine", str(checkpoint), "--out", str(out), "--batch", "1", "2", "2", "--precision", "fp16"]
    done = CliRunner().invoke(app, [*command, "--flavour", "rtx", "--workspace", "256"])
    assert done.exit_code == 0, done.output
    assert "fp16" in done.output
    assert f"mmadfer export parity {checkpoint} --model {out} --fold 1 --data STORE)" in done.output.replace("\n", "")
    names = ["model.engine", "model.engine.card.md", "model.engine.json"]
    assert sorted(path.name for path in out.parent.iterdir()) == names
    sidecar = read_sidecar(out)
    assert sidecar.precision == sidecar.contract.arithmetic == "fp16"
    assert engines.rebuild(out, sidecar) == (
        f"mmadfer export engine {checkpoint} --out {out} --batch 1 2 2 --flavour rtx --precision fp16 --workspace 256"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": (1, 4, 2)}, "rising from 1"),
        ({"batch": (0, 1, 2)}, "rising from 1"),
        ({"version_compatible": True}, "--version-compatible is for TensorRT"),
        ({"hardware_compatible": True}, "--hardware-compatible is for TensorRT"),
        ({"device": "cuda:1"}, "--device is for TensorRT"),
        ({"timing_cache": Path("cache")}, "--timing-cache is for TensorRT"),
        ({"precision": "fp16"}, "--precision is for checkpoints"),
        ({"fold": 1}, "--fold is for checkpoints"),
        ({"workspace": 1, "batch": (64, 64, 64)}, "cannot build.*workspace"),
        ({"flavour": "lite"}, "known: tensorrt, rtx"),
    ],
)
def test_what_cannot_be_built_is_said(onnx_file: Path, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    out = tmp_path / "model.engine"
    out.write_bytes(b"before")
    sidecar_path(out).write_text("before")
    with pytest.raises(MmadferError, match=words):
        to_engine(onnx_file, out, **{"flavour": "rtx", **options})
    assert (out.read_bytes(), sidecar_path(out).read_text()) == (b"before", "before")
    assert len(list(tmp_path.iterdir())) == 2


def test_tensorrt_itself_is_missing_here(onnx_file: Path, tmp_path: Path) -> None:
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        with pytest.raises(MissingDependencyError, match=r"pip install '\.\[tensorrt\]'"):
            to_engine(onnx_file, tmp_path / "model.engine", flavour="tensorrt")
    else:
        pytest.skip("it is installed")


def test_the_name_says_what_it_is(onnx_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.engine"):
        to_engine(onnx_file, tmp_path / "model.plan", flavour="rtx")


def bad_graph(source: Path, out: Path, what: str) -> Path:
    """A file that no engine can be made of."""
    data = source.read_bytes()
    model = onnx.load(source)
    if what == "cut":
        out.write_bytes(data[: len(data) // 2])
    elif what == "noise":
        out.write_bytes(b"\xff" * 1000)
    elif what == "foreign":
        del model.metadata_props[:]
        onnx.save(model, out)
    elif what == "unknown":
        model.graph.node[-1].op_type, model.graph.node[-1].name = "Sorcery", "spell"
        onnx.save(model, out)
    elif what == "other ports":
        port = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
        graph = helper.make_graph([helper.make_node("Neg", ["x"], ["logits"])], "g", [port], [])
        graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 7]))
        odd = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        odd.metadata_props.extend(model.metadata_props)
        onnx.save(odd, out)
    elif what == "weights elsewhere":
        out.with_name("real.data").write_bytes(bytes(1 << 20))
        out.with_name("link.data").symlink_to("real.data")
        onnx.external_data_helper.set_external_data(model.graph.initializer[0], "link.data", 0, 64)
        out.write_bytes(model.SerializeToString())
    return out


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nothing", r"no model at .*bad\.onnx"),
        ("cut", r"bad\.onnx is not a whole ONNX model"),
        ("noise", r"bad\.onnx is not a whole ONNX model"),
        ("foreign", "carries no mmadfer contract"),
        ("unknown", r"cannot parse .*bad\.onnx: node 'spell' \(Sorcery\)"),
        (
            "other ports",
            r"does not hold what its contract says: frames: nothing instead of uint8 \(B, 4, 3, 32, 32\); fbank: .*; "
            r"logits: float32 \(B, 7\) instead of float32 \(B, 4\); x: float32 \(B\) instead of nothing",
        ),
        ("weights elsewhere", r"takes weights from 'link\.data'; they must lie in a file beside it"),
    ],
)
def test_a_bad_graph_is_refused_by_name(onnx_file: Path, tmp_path: Path, what: str, words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        to_engine(bad_graph(onnx_file, tmp_path / "bad.onnx", what), tmp_path / "model.engine", flavour="rtx")
    assert not list(tmp_path.glob("*.engine*"))


def test_both_files_are_replaced_or_none(onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = to_engine(onnx_file, tmp_path / "model.engine", batch=(1, 1, 1), flavour="rtx")
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    sidecar, replace = read_sidecar(out), os.replace

    def full(source: Path, target: Path) -> None:
        if Path(target).suffix == suffix:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    for suffix in (".engine", ".json"):
        with pytest.raises(OSError, match="No space"):
            to_trt._deliver(out, b"another", sidecar)
        assert sidecar_path(out).read_bytes() == files[sidecar_path(out).name]
        assert out.read_bytes() == (files[out.name] if suffix == ".engine" else b"another")
        assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(WeightsError, match="not the engine that"):
        engines.check_engine_files(out, sidecar)


@pytest.mark.parametrize("place", ["model.engine", "file/model.engine", "/proc/model.engine"])
def test_a_place_that_cannot_be_written_is_told_before_the_build(
    onnx_file: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.engine").mkdir()
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(to_trt, "build_engine", lambda *_: pytest.fail("it builds first"))
    with pytest.raises(ConfigError, match=r"model\.engine cannot be written \(.*give another name"):
        to_engine(onnx_file, tmp_path / place, flavour="rtx")


def test_a_timing_cache_that_cannot_be_written_does_not_cost_the_engine(tmp_path: Path) -> None:
    class Cache:
        def serialize(self) -> bytes:
            return b"cache"

    with pytest.warns(UserWarning, match="not written.*the engine is whole"):
        builder._keep(Cache(), Path("/proc/timing.cache"))
    builder._keep(Cache(), tmp_path / "timing.cache")
    assert (tmp_path / "timing.cache").read_bytes() == b"cache"


def test_a_bar_that_fails_does_not_stop_the_build(
    onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bars(builder.Progress):
        def add_task(self, title: str, **rest: Any) -> Any:
            raise KeyError(title)

    monkeypatch.setattr(builder, "Progress", Bars)
    assert to_engine(onnx_file, tmp_path / "model.engine", batch=(1, 1, 1), flavour="rtx").is_file()


def test_it_can_be_stopped(onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Bars(builder.Progress):
        def add_task(self, title: str, **rest: Any) -> Any:
            seen.append(title.strip())
            if title.strip() == "Optimizing graph":
                os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C in the middle of the build
            return super().add_task(title, **rest)

    monkeypatch.setattr(builder, "Progress", Bars)
    with pytest.raises(KeyboardInterrupt):
        to_engine(onnx_file, tmp_path / "model.engine", flavour="rtx")
    assert seen[0] == onnx_file.name
    assert "Timing tactics" not in seen
    assert not list(tmp_path.iterdir())


def test_the_sidecar_does_not_tell_where_it_was_made(checkpoint: Path, onnx_file: Path, tmp_path: Path) -> None:
    out = to_engine(onnx_file, onnx_file.with_name("beside.engine"), batch=(1, 1, 1), flavour="rtx")
    text = sidecar_path(out).read_text()
    assert json.loads(text)["source"] == onnx_file.name
    assert str(onnx_file.parent) not in text
