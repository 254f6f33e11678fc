"""Values of each step: learnt from traces with gaps, resumed, evaluated over all annotated frames, and refused."""

import csv
import io
import json
import re
import shutil
import tracemalloc
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console as RichConsole
from setting import FELT, VALUES, StopAt, events, make_store, regression, train_on_two_ranks, weights

from mmadfer.config.schema import parse
from mmadfer.contract import loads
from mmadfer.data.loading.loader import Loader
from mmadfer.data.store.store import Store, write_store
from mmadfer.data.task_targets import check_targets
from mmadfer.data.traces import Part, Trace, over_time
from mmadfer.errors import ConfigError, DataError, RunError, WeightsError
from mmadfer.evaluation import bootstrap, saved_predictions
from mmadfer.evaluation.compare import compare
from mmadfer.evaluation.evaluate import evaluate_path
from mmadfer.evaluation.fold_result import FoldResult
from mmadfer.evaluation.fold_result import read as read_fold
from mmadfer.evaluation.predictions import Traces
from mmadfer.evaluation.saved_predictions import read_traces
from mmadfer.model.weights.load import load
from mmadfer.report import report
from mmadfer.report.value_plots import trace_plot
from mmadfer.report.versus import show_comparison
from mmadfer.run import directory as runs
from mmadfer.tasks.losses import Concordance, MeanSquaredError
from mmadfer.tasks.regression import REGRESSION
from mmadfer.train.loop import train
from mmadfer.utils.console import Console

WINDOWED = {"data": {"window": {"hop": 2}}, "task": {"loss": "ccc"}}


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny store, whose clips have a valence and an arousal in each frame."""
    return make_store(tmp_path_factory.mktemp("traced") / "traced.store", steps=True)


@pytest.fixture(scope="module")
def run(traced: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("steps") / "run"
    config = regression(traced, "step", epochs=6, lr=3e-3)
    runs.open_fold(folder, config, 1)
    assert train(config, 1, folder / "fold-1", resume=True).finished
    return folder


def concordance(x: np.ndarray, y: np.ndarray) -> float:
    """Lin 1989, with population moments."""
    return float(2 * np.cov(x, y, ddof=0)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))


def test_scores_are_those_of_numpy_over_all_kept_steps() -> None:
    rng = np.random.default_rng(0)
    truth, output = rng.normal(size=(5, 30, 2)), rng.normal(size=(5, 30, 2))
    output = 0.6 * truth + 0.4 * output + 0.1
    truth[rng.random(truth.shape) < 0.3] = np.nan
    truth[2] = np.nan
    kept = [~np.isnan(truth[..., k]) for k in (0, 1)]
    pairs = [(truth[..., k][kept[k]], output[..., k][kept[k]]) for k in (0, 1)]
    found = REGRESSION.score(truth, output, 2)
    assert found["ccc"] == pytest.approx(np.mean([concordance(x, y) for x, y in pairs]), abs=1e-12)
    assert found["pearson"] == pytest.approx(np.mean([np.corrcoef(x, y)[0, 1] for x, y in pairs]), abs=1e-12)
    assert found["rmse"] == pytest.approx(np.mean([np.sqrt(((x - y) ** 2).mean()) for x, y in pairs]), abs=1e-12)
    shares = [REGRESSION.statistics(truth[part], output[part], 2).sum(0) for part in (slice(0, 2), slice(2, 5))]
    assert REGRESSION.from_sums(np.sum(shares, axis=0))[0] == pytest.approx(found["ccc"], abs=1e-12), "sums add up"


def test_a_prediction_that_never_changes_has_no_concordance() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(3, 50, 2))
    same = np.full(truth.shape, np.float32(0.3))
    found = REGRESSION.score(truth, same, 2)
    assert (found["ccc"], found["pearson"]) == (0, 0)
    lost = truth.copy()
    lost[..., 1] = np.nan
    assert REGRESSION.score(lost, truth, 2) == pytest.approx({"ccc": 1, "pearson": 1, "rmse": 0}), "of valence alone"


def test_the_loss_is_that_of_the_kept_steps() -> None:
    loss, rng = MeanSquaredError(None), torch.manual_seed(0)  # type: ignore[arg-type]
    output, target = (torch.randn(2, 4, 2, generator=rng) for _ in range(2))
    output.requires_grad_()
    assert loss(output, target).equal(torch.nn.functional.mse_loss(output, target))
    target[0], target[1, 2, 1] = torch.nan, torch.nan
    kept = target.isfinite()
    found = loss(output, target)
    assert found.item() == pytest.approx((output - target)[kept].square().mean().item(), rel=1e-6)
    found.backward()
    assert output.grad is not None
    assert (output.grad[~kept] == 0).all()
    assert (output.grad[kept] != 0).all()
    output.grad = None
    nothing = loss(output, torch.full_like(target, torch.nan))
    nothing.backward()
    assert nothing.item() == 0
    assert output.grad.equal(torch.zeros_like(output)), "of a batch without true values"


def test_the_concordance_loss_and_the_score_agree() -> None:
    generator = torch.manual_seed(1)
    output, target = (torch.randn(4, 6, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    target[0, :, 1], target[2, 3] = torch.nan, torch.nan
    found = REGRESSION.score(target.numpy(), output.numpy(), 2)
    assert Concordance(None)(output, target).item() == pytest.approx(1 - found["ccc"], abs=1e-12)  # type: ignore[arg-type]


def test_parts_of_a_clip_become_one_trace() -> None:
    early = Part(0, 8, np.array([1, 3, 5, 7]), np.array([[0.0], [2], [4], [6]]))
    late = Part(4, 6, np.array([4, 6, 8, 9]), np.array([[10.0], [10], [10], [10]]))
    found = over_time(10, [early, late])[:, 0]
    assert found == pytest.approx([0, 0, 1, 2, 6.5, 7, 7.5, 8, 10, 10])
    short = Part(0, 3, np.array([0, 1, 2, 2]), np.array([[1.0], [2], [3], [5]]))
    assert over_time(3, [short])[:, 0] == pytest.approx([1, 2, 4]), "the frame that was shown twice has the mean"
    assert np.isnan(over_time(5, [short])[3:]).all(), "where nothing was shown"


def test_traces_are_learnt_and_told_frame_by_frame(run: Path, traced: Path, tmp_path: Path) -> None:
    losses = [event["loss"] for event in events(run / "fold-1", "epoch")]
    assert losses[-1] < losses[0] / 2
    result = json.loads((run / "fold-1" / "result.json").read_text())
    assert result["ccc"] > 0.6
    assert result["ccc"] == pytest.approx(np.mean([result["by_value"][f"ccc_{name}"] for name in VALUES]))
    rows = list(csv.DictReader((run / "fold-1" / "predictions.csv").read_text().splitlines()))
    assert list(rows[0]) == ["id", "frame", "seconds", "true_valence", "true_arousal", "valence", "arousal"]
    with Store(traced) as store:
        tested = {name: store.clips[name] for name in store.fold(1)}
    assert [(row["id"], int(row["frame"])) for row in rows] == [
        (name, k) for name, clip in tested.items() for k in range(clip.frames)
    ]
    kept = [row for row in rows if row["true_valence"]]
    assert {row["frame"] for row in rows if not row["true_valence"] and row["id"] != "c06"} <= {"0"}
    assert (
        len(kept) == result["steps"]["valence"] == sum(clip.frames - 1 for clip in tested.values() if clip.id != "c06")
    )
    x, y = (np.array([float(row[key]) for row in kept]) for key in ("true_valence", "valence"))
    assert result["by_value"]["ccc_valence"] == pytest.approx(concordance(x, y), abs=1e-4)
    assert x[0] == pytest.approx(FELT[tested[kept[0]["id"]].label][0] + 0.2 * np.sin(1), abs=1e-5)
    again = evaluate_path(run, traced, 1, out=tmp_path / "again.csv")
    assert isinstance(again, Traces)
    assert again.scores() == pytest.approx({name: result[name] for name in ("ccc", "pearson", "rmse")}, abs=1e-6)
    twice = evaluate_path(run, traced, 1, clips=2, flips=True)
    assert [len(one.output) for one in twice.traces] == [len(one.output) for one in again.traces]


@pytest.mark.parametrize(
    "way", [{}, {"data": {"window": {"hop": 2}}, "task": {"loss": "ccc"}}], ids=["clips", "windows"]
)
def test_a_stopped_training_ends_in_the_same_weights_and_traces(
    traced: Path, tmp_path: Path, way: dict[str, dict[str, Any]]
) -> None:
    tree = regression(traced, "step").model_dump()
    config = parse({**tree, **{name: {**tree[name], **keys} for name, keys in way.items()}}, "the test")
    assert train(config, 1, tmp_path / "straight").finished
    assert not train(config, 1, tmp_path / "stopped", stop=StopAt(1)).finished
    assert train(config, 1, tmp_path / "stopped", resume=True).finished
    assert weights(tmp_path / "stopped") == weights(tmp_path / "straight")
    told = [(tmp_path / name / "predictions.csv").read_bytes() for name in ("stopped", "straight")]
    assert told[0] == told[1]


@pytest.mark.slow
def test_two_ranks_test_the_same_clips(traced: Path, tmp_path: Path) -> None:
    train_on_two_ranks(regression(traced, "step"), tmp_path / "run")
    result = json.loads((tmp_path / "run" / "fold-1" / "result.json").read_text())
    again = evaluate_path(tmp_path / "run", traced, 1)
    assert isinstance(again, Traces)
    assert len(again.ids) == result["clips"] == 12
    assert again.scores() == pytest.approx({name: result[name] for name in REGRESSION.names}, abs=1e-6)


def test_what_has_no_steps_is_refused(traced: Path, store: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"learns valence, arousal of .* of kind steps, but .* has none of steps"):
        train(regression(store, "step"), 1, tmp_path / "fold")
    with Store(traced) as found:
        kept = [(clip, found.read(name)) for name, clip in found.clips.items()]
        header = found.header
    for clip, record in kept:
        if clip.fold == 1 and clip.tensors:
            record.tensors["feeling"][:, 1] = np.nan  # type: ignore[index]
    write_store(tmp_path / "lost.store", header, kept)
    with pytest.raises(
        DataError, match=r"arousal of the target 'feeling' is missing in every step of the test clips of"
    ):
        train(regression(tmp_path / "lost.store", "step"), 1, tmp_path / "fold")
    with pytest.raises(DataError, match=r"missing in every step of the training clips of fold 2"):
        train(regression(tmp_path / "lost.store", "step"), 2, tmp_path / "fold")
    alone = {"branches": "audio", "joint": "none", "fusion": "none", "prompts": 0, "progressive": 0}
    tree = regression(traced, "step").model_dump()
    with pytest.raises(ConfigError, match=r"per step needs one step for each of 4 frames, but joint none"):
        parse({**tree, "model": {**tree["model"], **alone}}, "the test")


def test_values_are_found_by_their_names(run: Path, traced: Path, tmp_path: Path) -> None:
    tree = regression(traced, "step", epochs=1).model_dump()
    task = {**tree["task"], "values": {"arousal": [-1, 1]}}
    assert train(parse({**tree, "task": task}, "the test"), 1, tmp_path / "fold").finished
    rows, both = (
        list(csv.DictReader((fold / "predictions.csv").read_text().splitlines()))
        for fold in (tmp_path / "fold", run / "fold-1")
    )
    assert [row["true_arousal"] for row in rows] == [row["true_arousal"] for row in both]
    with Store(traced) as store:
        turned = parse({**tree, "task": {**task, "values": dict(reversed(VALUES.items()))}}, "the test")
        check_targets(turned, store, [1])
        ids = store.fold(1)[:2]
        (batch,) = Loader(store, turned, store.labels).test(ids, 2)
        (usual,) = Loader(store, regression(traced, "step"), store.labels).test(ids, 2)
    assert torch.equal(batch.targets["feeling"].flip(-1).nan_to_num(7), usual.targets["feeling"].nan_to_num(7))
    unknown = parse({**tree, "task": {**task, "values": {"joy": [-1, 1]}}}, "the test")
    with pytest.raises(DataError, match=r"learns joy .* has 'feeling' with valence, arousal"):
        train(unknown, 1, tmp_path / "unknown")


@pytest.fixture(scope="module")
def other(traced: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learnt less."""
    folder = tmp_path_factory.mktemp("steps") / "other"
    config = regression(traced, "step", epochs=1, lr=1e-4)
    runs.open_fold(folder, config, 1)
    assert train(config, 1, folder / "fold-1").finished
    return folder


def test_two_runs_are_compared_over_the_same_draws_of_clips(run: Path, other: Path, tmp_path: Path) -> None:
    found = compare(run, other, 200, out=tmp_path / "found.json")
    results = [json.loads((folder / "fold-1" / "result.json").read_text()) for folder in (run, other)]
    for score in ("ccc", "pearson", "rmse"):
        assert found.overall[score].value == pytest.approx(results[1][score] - results[0][score], abs=1e-5)
    assert found.overall["ccc"].value < 0
    assert (found.overall["ccc"].low, found.counts) < (found.overall["ccc"].high, None)
    (paired,) = found.folds
    assert "c06" in (run / "fold-1" / "predictions.csv").read_text()
    assert [len(one) for one in paired.truth] == [len(one) for one in paired.a[0]]
    assert (len(paired.truth), {len(one) for one in paired.truth}) == (11, {3, 4, 5, 6}), "without clip 6, of no value"
    drawn = bootstrap.score_differences([paired], 2, 5, 3, REGRESSION)
    counts = next(bootstrap._draws(11, 5, 3, 1, 1000)).astype(int)
    for k, row in enumerate(counts):
        clips = np.repeat(np.arange(11), row)
        truth, *sides = (np.concatenate([told[c] for c in clips]) for told in (paired.truth, paired.a[0], paired.b[0]))
        one, two = (REGRESSION.score(truth, side, 2) for side in sides)
        assert drawn[k, 0] == pytest.approx([two[name] - one[name] for name in REGRESSION.names], abs=1e-9)
    show_comparison(found, RichConsole(file=(told := io.StringIO()), width=140))
    assert "CCC" in told.getvalue()
    assert "McNemar" not in told.getvalue()


def test_traces_of_another_result_are_refused(run: Path, other: Path, tmp_path: Path) -> None:
    spoilt = shutil.copytree(other, tmp_path / "spoilt")
    file = spoilt / "fold-1" / "predictions.csv"
    whole = file.read_text()
    for text, told in (
        (whole.replace("valence", "joy"), "is not a table of id, frame, seconds, true_valence"),
        (whole.rpartition(",")[0] + ",x\n", "has a cell that is no number"),
        ((run / "fold-1" / "predictions.csv").read_text(), "does not give the scores of the result beside it"),
    ):
        file.write_text(text)
        with pytest.raises(RunError, match=told):
            compare(run, spoilt, 10)


def test_the_report_tells_each_value_and_draws_clips_over_time(run: Path) -> None:
    report(run, {}, Console(quiet=True))
    page = (run / "report" / "report.html").read_text()
    made = json.loads((run / "report" / "report.json").read_text())
    result = json.loads((run / "fold-1" / "result.json").read_text())
    assert made["by_value"] == pytest.approx(result["by_value"])
    assert made["folds"][0]["by_value"] == made["by_value"]
    assert [page.count(f'aria-label="{name}: predictions against the truth"') for name in VALUES] == [1, 1]
    shown = re.findall(r'aria-label="(c\d\d) over time"', page)
    assert len(shown) == len({*shown}) == 4
    assert "c06" not in shown, "a clip without true values"
    said = read_traces(run / "fold-1" / "predictions.csv", read_fold(run, 1, runs.read(run).config))
    error = {name: np.nanmean((one.output - one.truth) ** 2) for name, one in said.items() if name != "c06"}
    assert (shown[0], shown[-1]) == (min(error, key=error.get), max(error, key=error.get))
    (run / "fold-1" / "predictions.csv").rename(run / "away.csv")
    report(run, {}, Console(quiet=True))
    assert "No drawings: " in (run / "report" / "report.html").read_text()
    (run / "away.csv").rename(run / "fold-1" / "predictions.csv")


def test_names_are_drawn_as_they_are() -> None:
    trace = Trace(np.arange(3.0), np.full((3, 1), np.nan), np.zeros((3, 1)))
    (drawn,) = [trace_plot("one", 'a<b $x^2$ "c"', trace, {"<i>": (-1.0, 1.0)})]
    texts = ET.fromstring(drawn.replace("xlink:", "")).itertext()
    found = [text.strip() for text in texts if text.strip()]
    assert {'a<b $x^2$ "c"', "<i>"} <= {*found}


@pytest.mark.parametrize("kind", ["steps", "values"])
def test_values_out_of_their_range_are_refused(kind: str, tmp_path: Path) -> None:
    tree = regression(make_store(tmp_path / "a.store", **{kind: True})).model_dump()
    tree["task"]["values"]["arousal"] = tree["task"]["values"]["valence"] = [-0.5, 0.5]
    tree["model"]["head"] |= {"range": [-0.5, 0.5], "per": "step" if kind == "steps" else "clip"}
    config = parse(tree, "the test")
    words = r"clip 'c\d\d' of .* has valence 0\.\d+ in the target 'feeling', outside of -0\.5 to 0\.5"
    with Store(tmp_path / "a.store") as opened, pytest.raises(DataError, match=words):
        check_targets(config, opened, [1])


def test_names_that_a_spreadsheet_would_compute_are_guarded_and_read_back(tmp_path: Path) -> None:
    names = ("=1+1", "arousal")
    truth = np.array([[0.1, 0.5], [np.nan, 0.2], [0.3, -0.1]], np.float32)
    trace = Trace(np.arange(3.0), truth, np.full((3, 2), 0.25, np.float32))
    made = Traces(["a"], [trace], names, REGRESSION)
    (tmp_path / "predictions.csv").write_text(made.csv())
    assert made.csv().startswith("id,frame,seconds,true_=1+1,true_arousal,'=1+1,arousal\n")
    result = FoldResult(1, "finished", values=names, scores=made.scores(), spec=REGRESSION)
    (found,) = read_traces(tmp_path / "predictions.csv", result).values()
    np.testing.assert_array_equal(found.truth, trace.truth)
    np.testing.assert_array_equal(found.output, trace.output)


def test_values_that_hardly_change_are_read_back_to_the_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(500, 1)).clip(-1, 1).astype(np.float32)
    output = (0.1 + 3e-6 * (truth + rng.normal(size=truth.shape))).astype(np.float32)
    made = Traces(["a"], [Trace(np.arange(500.0), truth, output)], ("valence",), REGRESSION)
    (tmp_path / "predictions.csv").write_text(made.csv())
    result = FoldResult(1, "finished", values=("valence",), scores=made.scores(), spec=REGRESSION)
    (found,) = read_traces(tmp_path / "predictions.csv", result).values()
    np.testing.assert_array_equal(found.output, output)
    np.testing.assert_array_equal(found.truth, truth)


def test_a_long_clip_among_short_ones_takes_no_more_memory_than_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved_predictions, "_MOST_BYTES", 1 << 24)  # reading reserves so many
    lengths = [20_000, *[2] * 500]
    rng = np.random.default_rng(0)
    traces = [Trace(np.arange(n) / 25, *rng.uniform(-1, 1, (2, n, 1)).astype(np.float32)) for n in lengths]
    made = Traces([f"c{k}" for k in range(len(lengths))], traces, ("valence",), REGRESSION)
    (tmp_path / "predictions.csv").write_text(made.csv())
    result = FoldResult(1, "finished", values=("valence",), scores=made.scores(), spec=REGRESSION)
    tracemalloc.start()
    read_traces(tmp_path / "predictions.csv", result)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6, "as one array, 501 clips of 20000 steps are 80 MB"


def test_a_result_of_other_values_is_damaged(other: Path, tmp_path: Path) -> None:
    lying = shutil.copytree(other, tmp_path / "lying")
    file = lying / "fold-1" / "result.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"values": ["arousal", "valence"]}))
    found = read_fold(lying, 1, runs.read(lying).config)
    assert (found.state, found.note) == (
        "damaged",
        "result.json: it is of arousal, valence, and the configuration asks for other values",
    )


def test_a_contract_of_steps_is_one_of_values(run: Path) -> None:
    promised = load(run).contract
    assert promised is not None
    assert (promised.per_step, promised.names, promised.model.steps) == (True, ("valence", "arousal"), 4)
    tree = json.loads(promised.dumps())
    with pytest.raises(WeightsError, match=r"per step is for values of frames"):
        loads(json.dumps({**tree, "output": "classes", "values": {}, "labels": ["glad", "sad"]}))
