"""What the file beside an engine says, what it may not say, and the commands and advice that come of it."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from export_setup import CONTRACT
from trt_simulation import Cuda

from mmadfer.errors import MissingDependencyError, WeightsError
from mmadfer.export.engine.builder import EngineOptions
from mmadfer.export.engine.to_trt import Graph, _chosen, _words
from mmadfer.runtime.backends import cuda, engines
from mmadfer.runtime.backends.device import Device
from mmadfer.runtime.backends.engines import Gpu, Sidecar, read_sidecar, sidecar_path
from mmadfer.utils.files import sha256

H200, A100 = Gpu("NVIDIA H200", (9, 0)), Gpu("NVIDIA A100-SXM4-80GB", (8, 0))


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A file with a sidecar; what is in it does not matter here."""
    path = tmp_path / "loaded.engine"
    path.write_bytes(b"engine")
    sidecar = Sidecar(
        flavour="rtx", version="1.7.1", capabilities=((8, 0), (8, 6), (12, 0)), precision="fp32", batch=(2, 2, 4),
        version_compatible=False, hardware_compatible=False, source="tiny.onnx", onnx_sha256="", seconds=1.0,
        contract=CONTRACT, engine_sha256=sha256(path),
    )  # fmt: skip
    path.with_name("tiny.onnx").write_bytes(b"graph")
    sidecar_path(path).write_text(sidecar.dumps())
    return path


def change(engine: Path, **facts: Any) -> Sidecar:
    sidecar = read_sidecar(engine).model_copy(update=facts)
    sidecar_path(engine).write_text(sidecar.dumps())
    return sidecar


def test_the_command_that_builds_anew_is_right_from_anywhere(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"--fold": 2, "--data": "../toy.store", "--tf32": True}
    sidecar = change(engine, source="../run", options=options, version_compatible=True, flavour="tensorrt")
    (tmp_path.parent / "run").mkdir(exist_ok=True)
    whole = f"{tmp_path.parent}/run --out {engine} --batch 2 2 4 --flavour tensorrt --fold 2 --data {tmp_path.parent}/"
    assert engines.rebuild(engine, sidecar) == f"mmadfer export engine {whole}toy.store --tf32 --version-compatible"
    monkeypatch.chdir(tmp_path)
    part = "../run --out loaded.engine --batch 1 1 1 --flavour tensorrt --fold 2 --data ../toy.store"
    found = engines.rebuild(Path("loaded.engine"), sidecar, (1, 1, 1), Device("cuda", 1))
    assert found == f"mmadfer export engine {part} --tf32 --version-compatible --device cuda:1"
    (tmp_path.parent / "run").rmdir()
    assert engines.rebuild(engine, sidecar).endswith(f"(where {tmp_path.parent}/run lies: it is not here)")
    assert engines.rebuild(engine, change(engine, source="")).startswith("mmadfer export engine MODEL --out")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("source", "model\x1b[2J.onnx"),
        ("version", "1.0\n2.0"),
        ("options", {"--timing-cache": "../.ssh/authorized_keys"}),
        ("options", {"--data": "a\rb"}),
        ("gpu", ["NVIDIA\u202eH200", [9, 0]]),
        ("capabilities", [[9]]),
        ("capabilities", [[9, 10**9]]),
        ("version", "1.\u00b2"),
        ("version", "1" * 5000),
        ("version", "1.0 --flavour"),
        ("batch", [1, 8, 10**9]),
        ("batch", [0, 1, 1]),
        ("options", {"--workspace": 10**40}),
        ("onnx_sha256", "\x1b]0;a\x07"),
        ("seconds", -1),
        ("contract", {"labels": []}),
    ],
)
def test_a_sidecar_says_nothing_that_it_should_not(engine: Path, key: str, value: object) -> None:
    facts = json.loads(sidecar_path(engine).read_text())
    sidecar_path(engine).write_text(json.dumps({**facts, key: value}))
    with pytest.raises(WeightsError, match=rf"(?s)not what this version of mmadfer writes beside an engine.*\n  {key}"):
        read_sidecar(engine)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no valid JSON"),
        ("[1]", "must hold a JSON object"),
        ("[" * 100_000, "holds no valid JSON"),
        ('{"seconds": 1e999}', "holds no valid JSON"),
        (" " * (engines.MAX_SIDECAR_BYTES + 1), "is larger than"),
    ],
)
def test_what_is_no_sidecar_is_refused(engine: Path, text: str, words: str) -> None:
    sidecar_path(engine).write_text(text)
    with pytest.raises(WeightsError, match=rf"(?s)not what this version of mmadfer writes beside an engine.*{words}"):
        read_sidecar(engine)


def test_a_pipe_in_the_place_of_a_sidecar_is_refused(engine: Path) -> None:
    sidecar_path(engine).unlink()
    os.mkfifo(sidecar_path(engine))
    with pytest.raises(WeightsError, match="must be a regular file"):
        read_sidecar(engine)


@pytest.mark.parametrize("version", ["1.0rc1", "dev", "1.99999999999999999999", "1.0.post1+cu13"])
def test_odd_versions_are_of_other_builders(engine: Path, version: str) -> None:
    sidecar = change(engine, version=version)
    with pytest.raises(WeightsError, match=rf"was built by TensorRT-RTX {re.escape(version)}; here is 1\.7\.2"):
        engines.check_engine_version(engine, sidecar, "1.7.2")


def test_a_source_is_never_taken_for_an_option(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(engine.parent)
    command = engines.rebuild(Path(engine.name), change(engine, source="--help"))
    assert command.startswith("mmadfer export engine ./--help --out")


def test_what_is_built_is_told_as_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = Graph(fold=2, precision="int8", data=Path("toy.store"), batch=(1, 2, 3))
    options = EngineOptions(workspace=64, version_compatible=True, timing_cache=Path("cache"), tf32=True)
    assert _words(Path("engines/model.engine"), asked, options) == {
        "--fold": 2, "--precision": "int8", "--data": "../toy.store", "--workspace": 64, "--tf32": True,
    }  # fmt: skip
    assert _words(Path("model.engine"), Graph(), EngineOptions()) == {}


def test_an_engine_is_built_for_the_gpu_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated, chosen = Cuda(cuda.bindings()), list[int]()
    monkeypatch.setattr(cuda, "bindings", lambda: simulated)
    monkeypatch.setitem(
        simulated._functions, "cudaSetDevice", lambda index: (chosen.append(index), simulated.done())[1]
    )
    assert _chosen("cuda:1") == H200
    assert chosen == [1]
    with pytest.raises(MissingDependencyError, match="no device 'cpu'"):
        _chosen("cpu")


def test_only_an_onnx_file_beside_it_is_looked_at(engine: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/model.onnx").write_bytes(b"of somebody else")
    engines.check_engine_files(engine, change(engine, source="other/model.onnx"))


def test_on_another_gpu_of_the_machine_the_command_names_it(engine: Path) -> None:
    sidecar = change(engine, gpu=H200, flavour="tensorrt")
    with pytest.raises(WeightsError, match=r"--flavour tensorrt --device cuda:1$"):
        engines.check_gpu(engine, sidecar, A100, Device("cuda", 1))


def test_rtx_builds_without_a_gpu_and_refuses_one(engine: Path) -> None:
    """Its engine may be too large for the second GPU, too."""
    assert engines.rebuild(engine, read_sidecar(engine), (1, 1, 1), Device("cuda", 1)).endswith("--flavour rtx")


@pytest.mark.parametrize(
    ("here", "words"),
    [
        (
            H200,
            r"capability 8\.0, 8\.6, .* and later; here is NVIDIA H200.*--flavour tensorrt\), or use the ONNX",
        ),
        (A100, "Build it anew: mmadfer export engine"),
        (Gpu("of tomorrow", (13, 0)), "Build it anew: mmadfer export engine"),
    ],
)
def test_what_helps_where_an_engine_does_not_load(engine: Path, here: Gpu, words: str) -> None:
    assert re.search(words, engines.remedy(engine, read_sidecar(engine), here))
