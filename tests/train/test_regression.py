"""Values of clips: learnt from a store's own target, resumed, reported, evaluated, exported and predicted by name."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console as RichConsole
from setting import VALUES, StopAt, events, make_config, make_store, regression, weights

from mmadfer.config.schema import parse
from mmadfer.contract.description import describe_contract
from mmadfer.data.store.store import Store
from mmadfer.errors import ConfigError, DataError
from mmadfer.evaluation.evaluate import evaluate_path
from mmadfer.evaluation.predictions import Values
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.export.parity.comparison import Form, ParityComparison, Reading
from mmadfer.export.parity.tables import show_parity
from mmadfer.export.server.configs import LABELS_FILE, Serving, configs
from mmadfer.model.weights.load import load
from mmadfer.report import report
from mmadfer.run import directory as runs
from mmadfer.runtime import triton
from mmadfer.runtime.backends.choice import BACKENDS
from mmadfer.runtime.prediction import Prediction
from mmadfer.runtime.writers import print_predictions, write_csv, write_predictions_json
from mmadfer.tasks.regression import REGRESSION
from mmadfer.train.loop import train
from mmadfer.train.parents import Parents
from mmadfer.utils.console import Console


@pytest.fixture(scope="module")
def felt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny store, whose clips also have a valence and an arousal that depend on their class."""
    return make_store(tmp_path_factory.mktemp("felt") / "felt.store", values=True)


@pytest.fixture(scope="module")
def run(felt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("values") / "run"
    config = regression(felt, epochs=6, lr=3e-3)
    runs.open_fold(folder, config, 1)
    assert train(config, 1, folder / "fold-1", resume=True).finished
    return folder


def test_scores_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    truth, output = rng.normal(size=(40, 2)), rng.normal(size=(40, 2))
    found = REGRESSION.score(truth, output, 2)
    assert found["rmse"] == pytest.approx(np.sqrt(((truth - output) ** 2).mean(0)).mean())
    assert found["pearson"] == pytest.approx(np.mean([np.corrcoef(truth[:, k], output[:, k])[0, 1] for k in (0, 1)]))
    assert REGRESSION.score(truth, np.zeros((40, 2)), 2)["pearson"] == 0, "of what never changes"


def test_values_are_learnt_and_reported_by_their_names(run: Path, felt: Path) -> None:
    losses = [event["loss"] for event in events(run / "fold-1", "epoch")]
    assert losses[-1] < losses[0] / 2
    result = json.loads((run / "fold-1" / "result.json").read_text())
    assert result["values"] == ["valence", "arousal"]
    assert result["pearson"] > 0.8
    rows = list(csv.DictReader((run / "fold-1" / "predictions.csv").read_text().splitlines()))
    assert list(rows[0]) == ["id", "true_valence", "true_arousal", "valence", "arousal"]
    report(run, {}, Console(quiet=True))
    page = (run / "report" / "report.html").read_text()
    assert "Pearson, correlation with the truth" in page
    assert "Confusion" not in page
    assert "UAR" not in page
    assert json.loads((run / "report" / "report.json").read_text())["mean"]["rmse"] == result["rmse"]
    again = evaluate_path(run, felt, 1)
    assert isinstance(again, Values)
    assert again.scores()["rmse"] == pytest.approx(result["rmse"], abs=1e-6)


def test_a_stopped_training_ends_in_the_same_values(felt: Path, tmp_path: Path) -> None:
    config = regression(felt)
    assert train(config, 1, tmp_path / "straight").finished
    assert not train(config, 1, tmp_path / "stopped", stop=StopAt(1)).finished
    assert train(config, 1, tmp_path / "stopped", resume=True).finished
    assert weights(tmp_path / "stopped") == weights(tmp_path / "straight")


def test_the_contract_and_an_exported_graph_give_values(run: Path, tmp_path: Path) -> None:
    model = load(run)
    assert model.contract is not None
    assert (model.contract.output, model.contract.labels) == ("values", ())
    assert describe_contract(model.contract)["values"] == "valence (-1 to 1), arousal (-1 to 1)"
    backends = BACKENDS["torch"](run, "cpu", 1), BACKENDS["onnxruntime"](to_onnx(run, tmp_path / "m.onnx"), "cpu", None)
    rng, config = np.random.default_rng(1), model.config
    frames = rng.integers(0, 256, (2, config.frames, 3, config.image_size, config.image_size), dtype=np.uint8)
    fbank = rng.normal(size=(2, 1, *config.fbank)).astype(np.float32)
    one, other = (backend.logits(frames, fbank) for backend in backends)
    np.testing.assert_allclose(one, other, atol=1e-4)
    assert (np.abs(one) < 1).all()


def test_files_and_tables_tell_values(tmp_path: Path) -> None:
    segment = {"start": 0.0, "end": 1.0, "values": {"valence": 0.5, "arousal": -0.25}, "notes": []}
    made = Prediction("a.mp4", None, {}, [segment], {"file": "m.onnx"}, [], {"valence": 0.5, "arousal": -0.25})
    write_predictions_json(tmp_path / "a.json", [made])
    (told,) = json.loads((tmp_path / "a.json").read_text())
    assert told["values"] == {"valence": 0.5, "arousal": -0.25}
    assert "label" not in told
    write_csv(tmp_path / "a.csv", [made], (), ("valence", "arousal"))
    (row,) = csv.DictReader((tmp_path / "a.csv").read_text().splitlines())
    assert (row["valence"], row["arousal"], row["error"]) == ("0.500000", "-0.250000", "")
    console = RichConsole(file=io.StringIO(), width=100)
    print_predictions([made], console)
    assert "valence" in console.file.getvalue()
    assert "0.500" in console.file.getvalue()


def test_what_does_not_fit_is_refused(store: Path, felt: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has none of values: name the target"):
        train(regression(store), 1, tmp_path / "fold")
    with pytest.raises(ConfigError, match=r"task regression gives values: set model\.head"):
        make_config(felt, task={"name": "regression", "values": VALUES})


def test_parity_holds_values_by_their_difference() -> None:
    rng = np.random.default_rng(2)
    own = rng.uniform(-1, 1, (4, 2)).astype(np.float32)
    none = np.zeros(4)
    for apart, passed in ((5e-5, True), (1e-3, False)):
        form = Form("m.onnx", own + np.float32(apart), span=2.0)
        read = (Reading(name, own, none, none) for name in ("served", "stored"))
        ids = list("abcd")
        made = ParityComparison(tuple(VALUES), ids, ids, [], Form("torch", own, span=2.0), *read, [form])
        assert made.passed is passed
        told = made.to_dict()
        assert told["forms"][0]["label_flips"] == []
        assert told["forms"][0]["logit_difference"]["label_agreement"] is None
        show_parity(made, RichConsole(file=(shown := io.StringIO())))
        assert "Differences" in shown.getvalue()
        assert "from file to label" not in shown.getvalue()
    eight = Form("m.onnx", own, arithmetic="int8", span=4.0).tolerance
    assert eight.difference == pytest.approx(0.1), "a twentieth of half the range"


def test_triton_serves_values_by_name(run: Path, tmp_path: Path) -> None:
    contract = load(run).contract
    assert contract is not None
    made = configs("felt", contract, Serving("onnxruntime", (1, 4, 8)))
    assert [(one["name"], one["dims"]) for one in made["felt"]["output"]] == [("values", [2]), ("notes", [1])]
    assert made["felt"]["output"][0]["label_filename"] == LABELS_FILE
    (tmp_path / triton.CONTRACT).write_text(contract.dumps())
    namer = triton.Namer()
    namer.start(tmp_path, {})
    logits = np.array([[0.5, -0.5]], np.float32)
    assert namer.work({"logits": logits}).keys() == {"values"}
    np.testing.assert_array_equal(namer.work({"logits": logits})["values"], logits)


def test_a_teacher_of_values_gives_the_values_of_the_task(run: Path, felt: Path) -> None:
    tree = regression(felt).model_dump(mode="json") | {"stages": {"teacher": str(run)}}
    swapped = {**tree["task"], "values": dict(reversed(tree["task"]["values"].items()))}
    with Store(felt) as store:
        teacher = Parents(parse(tree, "the test"), store, 1).teacher(store.labels)
        assert teacher is not None
        assert teacher.contract is not None
        assert teacher.contract.names == ("valence", "arousal")
        with pytest.raises(ConfigError, match=r"stages\.teacher: .* gives the values \{'valence'.* are \{'arousal'"):
            Parents(parse({**tree, "task": swapped}, "the test"), store, 1).teacher(store.labels)
