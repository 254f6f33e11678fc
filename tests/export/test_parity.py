import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from export_setup import CONTRACT, awake, perturbed, relabelled
from huggingface_hub import ModelCard
from needs import needed
from PIL import Image

from mmadfer.cli.main import app, run
from mmadfer.data.clip import ClipData
from mmadfer.data.compatibility import check_store
from mmadfer.data.store.store import Store, write_store
from mmadfer.errors import ConfigError, DataError, MissingDependencyError, ParityError, WeightsError
from mmadfer.export.cards import Terms
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.export.parity import clip_inputs, exported_models
from mmadfer.export.parity import parity as module
from mmadfer.export.parity.clip_inputs import choose_clips
from mmadfer.export.parity.parity import export_onnx, parity
from mmadfer.export.parity.picture import draw_picture
from mmadfer.model.weights.build import save_weights
from mmadfer.report.cards.writing import card_path
from mmadfer.runtime import Recogniser
from mmadfer.runtime.inputs import Video, read_whole
from mmadfer.utils.files import sha256

KINDS = ("fp32", "fp16", "bf16", "int8", "fp8")


@pytest.fixture(scope="module")
def exports(checkpoint: Path, calibration_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `export` of a run: a graph of every precision, and one that hears samples."""
    needed("modelopt")
    folder = tmp_path_factory.mktemp("run") / "export"
    for kind in KINDS:
        to_onnx(checkpoint, folder / f"{kind}.onnx", precision=kind, data=calibration_store, calibration=3)  # type: ignore[arg-type]
    to_onnx(checkpoint, folder / "waveform.onnx", input="waveform", rate=16000)
    return folder


def test_export_delivers_what_it_has_proven(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store(store) as opened:
        trained = CONTRACT.model_copy(update={"store": opened.header.fingerprint})
    checkpoint = tmp_path / "tiny.safetensors"
    save_weights(checkpoint, awake(1), trained, frozen=True)
    out = tmp_path / "product" / "model.onnx"
    assert export_onnx(checkpoint, out, store, terms=Terms(commercial=True)) == out
    assert f"card    {card_path(out)}" in capsys.readouterr().out
    names = ["model.onnx", "model.onnx.card.data.md", "model.onnx.card.md", "model.parity.json", "model.parity.svg"]
    assert sorted(path.name for path in out.parent.iterdir()) == names
    report = json.loads((out.parent / "model.parity.json").read_text())
    (form,) = report["forms"]
    assert (report["passed"], report["clips"], form["label_flips"], form["faults"]) == (True, 4, [], [])
    assert form["tolerance"] == {"difference": 1e-4, "labels": 1.0, "score": None}
    assert 0 < form["logit_difference"]["max"] < 1e-5
    assert list(form["by_label"]) == list(CONTRACT.labels)
    assert max(one["max"] for one in form["by_label"].values()) == form["logit_difference"]["max"]
    assert report["file_vs_store"]["max"] == 0  # preparation and runtime are one way
    assert report["served"]["frames"] < 0.1 > report["served"]["max"]  # the detector's two engines are not
    assert report["remarks"] == ["4 clips are few: a proof has 100 or more"]
    assert form["sha256"] == sha256(out)
    assert report["reference"]["scores"] == form["scores"] == report["file_vs_store"]["scores"]
    assert len(form["worst"]) == 4
    assert Recogniser(out).contract.weights_hash == form["weights_hash"]
    row = f"| model.onnx | fp32 | 4 of 4 | {form['logit_difference']['max']:.2g} | 100.00% | passes |"
    assert row in card_path(out).read_text()
    assert "synthetic voice" in (out.parent / "model.onnx.card.data.md").read_text()
    assert ModelCard.load(card_path(out)).data.eval_results[0].metric_value == CONTRACT.metrics["uar"]
    assert "model.onnx (fp32) passes, 100.0% of labels equal" in (out.parent / "model.parity.svg").read_text()


def test_export_delivers_nothing_when_parity_fails(
    checkpoint: Path, onnx_file: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model.onnx"
    out.write_bytes(b"before")
    monkeypatch.setattr(module, "to_onnx", lambda path, target, fold: perturbed(onnx_file, target))
    with pytest.raises(ParityError, match=r"model\.onnx \(fp32\) does not give PyTorch's answer.*0\.001"):
        export_onnx(checkpoint, out, store, clips=1)
    assert out.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [out]


def test_export_knows_the_tolerance(checkpoint: Path, calibration_store: Path, tmp_path: Path) -> None:
    out = export_onnx(checkpoint, tmp_path / "model.onnx", calibration_store, precision="int8", calibration=3)
    report = json.loads((tmp_path / "model.parity.json").read_text())
    (form,) = report["forms"]
    assert (form["arithmetic"], form["passed"], report["clips"]) == ("int8", True, 1)
    assert form["logit_difference"]["max"] > 1e-4
    assert form["sha256"] == sha256(out)


def test_all_forms_are_compared_at_once(
    checkpoint: Path, exports: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = list[Path]()

    def counted(video: Video, *rest: Any) -> ClipData:
        read.append(video.path)
        return read_whole(video, *rest)

    monkeypatch.setattr(clip_inputs, "read_whole", counted)
    models = [exports / f"{name}.onnx" for name in (*KINDS, "waveform")]
    compared = parity(checkpoint, models, store)
    told = {form["name"]: form for form in compared.to_dict()["forms"]}
    again = sum(bool(form["faults"]) for form in told.values())  # the worst clip of each that differs
    assert (len(read) - 2 * again, len(set(read))) == (8, 4)  # once for PyTorch, and once for all forms
    assert [form["arithmetic"] for form in told.values()] == [*KINDS, "fp32"]
    assert [form["input"] for form in told.values()] == ["fbank"] * 5 + ["waveform"]
    assert {name for name, form in told.items() if "not run, simulated" in form["note"]} == {"bf16.onnx"}
    assert not told["bf16.onnx"]["passed"]  # whatever came of it
    assert not compared.passed
    apart = {name: form["logit_difference"]["max"] for name, form in told.items()}
    assert apart["fp32.onnx"] < 1e-5 > apart["waveform.onnx"]
    assert all(1e-5 < apart[f"{kind}.onnx"] < 0.5 for kind in KINDS[1:])
    assert all(told[f"{name}.onnx"]["passed"] for name in ("fp32", "fp16", "waveform"))
    draw_picture(compared, tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.size == (1080, 630)


def test_what_lies_beside_a_run_is_chosen_by_fold_and_backend(exports: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "export"
    relabelled(exports / "fp32.onnx", folder / "fold-1.onnx")
    relabelled(exports / "fp32.onnx", folder / "fold-2.onnx", fold=2)
    (folder / "broken.onnx").write_bytes(b"nothing")
    (folder / "fold-1.engine").write_bytes(b"nothing")
    found, unusable = exported_models.choose_models(tmp_path / "run", [], None, CONTRACT)
    assert [file.name for file in found] == ["fold-1.onnx"]
    assert list(unusable) == ["broken.onnx", "fold-1.engine"]
    found_of_one, unusable = exported_models.choose_models(tmp_path / "run" / "fold-1", [], ["onnxruntime"], CONTRACT)
    assert (found_of_one, list(unusable)) == (found, ["broken.onnx"])
    with pytest.raises(WeightsError, match=r"for tensorrt in .*export engine`\)\n.*\n  fold-1\.engine: .* beside it"):
        exported_models.choose_models(tmp_path / "run", [], ["onnxruntime", "tensorrt"], CONTRACT)


def test_files_that_do_not_run_are_told_unless_they_were_asked_for(onnx_file: Path, tmp_path: Path) -> None:
    engine = tmp_path / "model.engine"
    engine.write_bytes(b"nothing")
    candidates, left = exported_models.load_models([onnx_file, engine], "cpu", [onnx_file])
    assert [candidate.path for candidate in candidates] == [onnx_file]
    assert "model.engine.json" in left.unusable["model.engine"]
    assert not left.not_run
    with pytest.raises(WeightsError, match=r"model\.engine\.json"):
        exported_models.load_models([onnx_file, engine], "cpu", [engine])
    with pytest.raises(WeightsError, match=r"none of the exported models runs here:\n  model\.engine"):
        exported_models.load_models([engine], "cpu", [])


@pytest.mark.parametrize("backends", [[], ["--backends", "ort"]])
def test_a_damaged_file_beside_a_run_is_no_pass(
    checkpoint: Path,
    onnx_file: Path,
    store: Path,
    backends: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(exported_models, "folder", lambda path: tmp_path)  # as if the checkpoint were a run
    whole = onnx_file.read_bytes()
    (tmp_path / "whole.onnx").write_bytes(whole)
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    arguments = [str(checkpoint), "--data", str(store), "--clips", "1", *backends]
    assert run(app, ["export", "parity", *arguments]) == 2
    assert "cut.onnx cannot be used: " in capsys.readouterr().err
    report = json.loads((tmp_path / "parity.json").read_text())
    assert (report["passed"], report["not_run"], list(report["unusable"])) == (False, {}, ["cut.onnx"])


def test_what_runs_a_file_may_be_missing(onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not run, and no fault of the file."""

    def missing(path: Path, device: str) -> exported_models.Candidate:
        if path != onnx_file:
            raise MissingDependencyError("no GPU")
        return load(path, device)

    load = exported_models._load
    monkeypatch.setattr(exported_models, "_load", missing)
    _, left = exported_models.load_models([onnx_file, tmp_path / "model.engine"], "cpu", [])
    assert left == ({"model.engine": "no GPU"}, {})


def test_the_command_that_proves_can_be_typed_in() -> None:
    assert exported_models.proving("my run", Path("a.onnx"), 2, "b.store") == (
        "mmadfer export parity 'my run' --model a.onnx --fold 2 --data b.store"
    )
    assert exported_models.proving("run", Path("a.onnx"), None, None) == "mmadfer export parity run --model a.onnx"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--backends", "torch"], "nothing to compare torch with"),
        (["--backends", "torch,openvino"], "no backend 'openvino'; give some of torch, ort, trt"),
        (["--backends", "trt", "--model", "{onnx}"], "is for onnxruntime, which --backends leaves out"),
        (["--backends", "torch,ort,trt", "--model", "{onnx}"], "no exported model of this fold for tensorrt"),
        (["--model", "{checkpoint}"], "give exported models, files that end in .onnx, .engine"),
        ([], "no exported model of this fold for any backend in"),
        (["--out", "report.html"], "the report is a .json"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    checkpoint: Path, onnx_file: Path, store: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    given = [text.format(onnx=onnx_file, checkpoint=checkpoint) for text in arguments]
    assert run(app, ["export", "parity", str(checkpoint), "--data", str(store), *given]) == 2
    assert words in capsys.readouterr().err


def test_without_a_store_there_is_no_proof(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give one with --data"):
        export_onnx(checkpoint, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_command_fails_and_keeps_numbers(checkpoint: Path, onnx_file: Path, store: Path, tmp_path: Path) -> None:
    model = perturbed(onnx_file, tmp_path / "model.onnx")
    script = Path(__file__).parents[2] / "export" / "parity.py"
    arguments = [checkpoint, "--model", model, "--model", onnx_file, "--backends", "torch,ort", "--data", store]
    done = subprocess.run(
        [sys.executable, script, *map(str, arguments), "--clips", "2"],
        env={**os.environ, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "model.onnx (fp32) does not give PyTorch's answer on 2 clips" in done.stderr
    assert "tiny.onnx (fp32)" not in done.stderr
    report = json.loads((tmp_path / "parity.json").read_text())
    assert (report["passed"], [form["passed"] for form in report["forms"]]) == (False, [False, True])
    assert report["forms"][0]["logit_difference"]["max"] == pytest.approx(1e-3, rel=0.05)
    assert (tmp_path / "parity.svg").read_text().count("model.onnx (fp32)") == 1


def test_a_model_of_other_classes_is_refused(checkpoint: Path, onnx_file: Path, store: Path, tmp_path: Path) -> None:
    other = relabelled(onnx_file, tmp_path / "other.onnx", labels=CONTRACT.labels[::-1])
    with pytest.raises(WeightsError, match="labels differ"):
        parity(checkpoint, [other], store)


@pytest.mark.parametrize(
    ("update", "words"),
    [
        ({"labels": ("happy", "sad")}, "labels that the model does not know: angry, surprise"),
        ({"prepare": CONTRACT.prepare.model_copy(update={"face_margin": 0.5})}, "prepared with"),
    ],
)
def test_a_store_of_another_kind_is_refused(store: Path, tmp_path: Path, update: dict[str, object], words: str) -> None:
    contract = CONTRACT.model_copy(update=update)
    with Store(store) as opened, pytest.raises(DataError, match=words):
        check_store(contract, opened)


def test_media_that_moved_away_are_named(checkpoint: Path, onnx_file: Path, store: Path, tmp_path: Path) -> None:
    with Store(store) as opened:
        name, clip = next(iter(opened.clips.items()))
        header = replace(opened.header, root=tmp_path / "gone")
        write_store(tmp_path / "moved.store", header, [(clip, opened.read(name))])
    with pytest.raises(DataError, match=r"1 of 1 are not there.*gone"):
        parity(checkpoint, [onnx_file], tmp_path / "moved.store")


def test_a_fold_is_not_tested_on_its_training_clips(checkpoint: Path, onnx_file: Path, store: Path) -> None:
    with pytest.raises(WeightsError, match="holds fold 1, not 2"):
        parity(checkpoint, [onnx_file], store, fold=2)


def test_clips_are_spread_evenly(store: Path) -> None:
    with Store(store) as opened:
        ids = list(opened.clips)
        assert choose_clips(opened, 1, None) == choose_clips(opened, None, 9) == ids
        assert choose_clips(opened, 1, 2) == [ids[0], ids[2]]


def test_clips_that_a_model_cannot_hear_are_left_out(store: Path) -> None:
    heard = CONTRACT.model_copy(update={"input": "waveform", "waveform_rate": 16000})
    strange = heard.model_copy(update={"waveform_rate": 44100})
    with Store(store) as opened:
        assert choose_clips(opened, 1, None, [CONTRACT, heard]) == list(opened.clips)
        with pytest.raises(DataError, match=r"no test clip whose sound all models hear: .* 16000 Hz and 44100 Hz"):
            choose_clips(opened, 1, None, [heard, strange])
