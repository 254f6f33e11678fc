"""Distillation in training: the same on any ranks and after a stop, the teacher as it was, and bad input."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from setting import StopAt, checkpoints, events, make_config, make_store, start, train_on_two_ranks, weights
from test_stages import changed, child, trained

from mmadfer.config import schema as configs
from mmadfer.config import sweep
from mmadfer.config.schema import Config, parse
from mmadfer.errors import ConfigError, DataError, RunError, WeightsError
from mmadfer.launch.chain import linked
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights.load import load
from mmadfer.report.summary import gather
from mmadfer.run import directory as runs
from mmadfer.tasks.distillation import Logits, Pkdot, Similarity
from mmadfer.tasks.output import Output
from mmadfer.train.loop import train
from mmadfer.train.parents import Parents

SEEING = {"branches": "vision", "fusion": {"name": "none"}, "joint": {"width": 24}}
KINDS: dict[str, dict[str, Any]] = {
    "lowest": {"name": "pkdot", "k": 3},
    "highest": {"name": "pkdot", "k": 2, "anchors": "highest"},
    "shuffled": {"name": "pkdot", "k": 3, "shuffle": True},
    "similarity": {"name": "similarity"},
    "features": {"name": "features"},
    "logits": {"name": "logits"},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("distillation") / "tiny.store", values=True)


@pytest.fixture(scope="module")
def teacher(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(make_config(store, epochs=1), tmp_path_factory.mktemp("runs") / "teacher", 1)


def student(store: Path, teacher: Path, distill: object, t_net: object = None, **way: Any) -> Config:
    """Two epochs of three steps of four clips, on frames alone."""
    tree = child(make_config(store), model=SEEING, train=way, teacher=teacher).model_dump(mode="json")
    return parse({**tree, "task": {"distill": distill, "t_net": t_net}}, "the test")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "accumulate"), [("shuffled", 2), ("similarity", 1)])
def test_two_ranks_learn_as_one_does(store: Path, teacher: Path, tmp_path: Path, kind: str, accumulate: int) -> None:
    """By plain gradient descent, whose steps are as long as the gradient: one of a rank alone would be half of it."""
    descent = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "lr": 3e-3, "schedule": "constant"}
    way = {"batch_size": 4 * accumulate, "accumulate": accumulate, "save_every": 1, "keep": 9, **descent}
    config = student(store, teacher, {**KINDS[kind], "weight": 20.0}, **way)
    assert train(config, 1, tmp_path / "one").finished
    train_on_two_ranks(config, tmp_path / "two")
    two = tmp_path / "two" / "fold-1"
    for one, other in zip(events(tmp_path / "one", "step"), events(two, "step"), strict=True):
        for name in ("loss", "distill", "task_loss"):
            assert one[name] == pytest.approx(other[name], rel=1e-3, abs=1e-5), name
    steps = [
        [load_file(checkpoints(folder)[k] / "weights.safetensors") for k in (0, -1)]
        for folder in (tmp_path / "one", two)
    ]
    for name in steps[0][0]:
        moved, others = (after[name] - before[name] for before, after in steps)
        torch.testing.assert_close(others, moved, rtol=0, atol=0.02 * float(moved.abs().max()) + 1e-6, msg=name)
    name = "joint.weight"
    assert (steps[0][1][name] - steps[0][0][name]).abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["lowest", "shuffled", "features"])
def test_a_stopped_student_goes_on_to_the_same_weights(store: Path, teacher: Path, tmp_path: Path, kind: str) -> None:
    config = student(store, teacher, KINDS[kind], t_net=None if kind == "shuffled" else {"hidden": [6]})
    assert train(config, 1, tmp_path / "straight").finished
    assert not train(config, 1, tmp_path / "stopped", stop=StopAt(4)).finished
    assert train(config, 1, tmp_path / "stopped", resume=True).finished
    assert weights(tmp_path / "stopped") == weights(tmp_path / "straight")


def test_what_it_learns_and_saves(store: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[MMADFER]()

    def kept(parents: Parents, labels: tuple[str, ...]) -> MMADFER | None:
        asked.append(cast(MMADFER, given(parents, labels)))
        return asked[-1]

    given = Parents.teacher
    monkeypatch.setattr(Parents, "teacher", kept)
    folder = tmp_path / "run" / "fold-1"
    config = student(store, teacher, KINDS["features"], t_net={"hidden": [6, 5], "weight": 2.0}, epochs=6)
    assert trained(config, tmp_path / "run", 1)
    before = load(teacher, fold=1).state_dict()
    assert len(asked) == 1
    assert all(torch.equal(value, before[name]) for name, value in asked[0].state_dict().items())
    for event in events(folder, "step"):
        whole = event["task_loss"] + event["distill"] + 2 * event["t_net"]
        assert event["loss"] == pytest.approx(whole, rel=1e-4)
    epochs = events(folder, "epoch")
    assert epochs[-1]["distill"] < epochs[0]["distill"]
    assert epochs[-1]["t_net"] < epochs[0]["t_net"]
    first, last = (load_file(checkpoints(folder)[k] / "weights.safetensors") for k in (0, -1))
    own = {name for name in last if name.startswith("task.")}
    assert own == {
        *(f"task.terms.distill.to_teacher.{name}" for name in ("weight", "bias")),
        *(f"task.terms.t_net.net.{k}.{name}" for k in (0, 2, 4) for name in ("weight", "bias")),
    }
    assert not any(torch.equal(first[name], last[name]) for name in own)
    assert not any(name.startswith("audio.") for name in last)
    assert load(tmp_path / "run", fold=1).config.branches == "vision"


@pytest.mark.parametrize("kind", ["highest", "logits", "similarity"])
def test_other_kinds_train_in_half_precision(
    store: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """But for the comparison itself, which is of float32 and computed in it."""
    cls = {"highest": Pkdot, "logits": Logits, "similarity": Similarity}[kind]
    kinds, compare = set[Any](), cls.compare

    def watched(self: Any, own: Output, theirs: Output) -> torch.Tensor:
        kinds.update(value.dtype for one in (own, theirs) for value in one[:3])
        kinds.add(torch.is_autocast_enabled("cpu"))
        return compare(self, own, theirs)

    monkeypatch.setattr(cls, "compare", watched)
    assert train(student(store, teacher, KINDS[kind], precision="bf16", epochs=1), 1, tmp_path / "fold").finished
    assert all(0 < event["distill"] < 100 for event in events(tmp_path / "fold", "step"))
    assert kinds == {torch.float32, False}


def test_terms_go_with_the_rest_of_training(store: Path, teacher: Path, tmp_path: Path) -> None:
    def steps(name: str, **way: Any) -> list[dict[str, Any]]:
        config = student(store, teacher, KINDS["lowest"], t_net={"hidden": [6]}, epochs=1, **way)
        assert train(config, 1, tmp_path / name).finished
        assert not events(tmp_path / name, "skip")
        return events(tmp_path / name, "step")

    spread = zip(steps("plain"), steps("spread", zero_stage=3), strict=True)
    assert all(one["distill"] == pytest.approx(other["distill"], rel=1e-4) for one, other in spread)
    assert steps("half", precision="fp16", ema=0.9, checkpoint_activations=True)
    saved = load_file(checkpoints(tmp_path / "half")[-1] / "weights.safetensors")
    assert "task.terms.t_net.net.0.weight" in saved
    assert all(value.isfinite().all() for value in saved.values())


VALUES = {"valence": [-1, 1], "arousal": [-1, 1]}


@pytest.mark.parametrize("per", ["clip", "step"])
def test_values_are_distilled_too(tmp_path: Path, per: str) -> None:
    felt = make_store(tmp_path / "felt.store", values=per == "clip", steps=per == "step")
    task = {"name": "regression", "values": VALUES, "target": "feeling"}
    head = {"name": "values", "range": [-1, 1], "per": per}
    tree = make_config(felt, epochs=1).model_dump(mode="json")
    both = parse({**tree, "task": task, "model": {**tree["model"], "head": head}}, "the test")
    run = trained(both, tmp_path / "teacher", 1)
    tree = child(both, model=SEEING, teacher=run).model_dump(mode="json")
    for kind in ("lowest", "logits", "features"):
        config = parse({**tree, "task": {**task, "distill": KINDS[kind]}}, "the test")
        assert trained(config, tmp_path / kind, 1)
        assert all(event["distill"] > 0 for event in events(tmp_path / kind / "fold-1", "step"))


def test_a_teacher_that_nobody_asks_is_told_of(store: Path, teacher: Path, tmp_path: Path) -> None:
    plain = student(store, teacher, None, epochs=1)
    alone = parse(plain.model_dump(mode="json") | {"stages": {}}, "the test")
    for name, config in (("plain", plain), ("alone", alone)):
        assert trained(config, tmp_path / name, 1)
    one, other = (
        load_file(checkpoints(tmp_path / name / "fold-1")[-1] / "weights.safetensors") for name in ("plain", "alone")
    )
    assert all(torch.equal(one[name], other[name]) for name in other)
    told = (tmp_path / "plain" / "fold-1" / "log.txt").read_text()
    assert "WARNING: nothing is learnt from stages.teacher: set task.distill" in told
    contract = load(tmp_path / "plain", fold=1).contract
    assert contract is not None
    assert contract.teacher is None, "it is nobody's student"
    assert not gather(tmp_path / "plain").teacher
    assert "teacher" not in gather(tmp_path / "plain").to_dict()


def test_bad_teachers_are_refused_before_training(store: Path, teacher: Path, tmp_path: Path) -> None:
    def refused(config: Config, error: type[Exception], words: str) -> None:
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}" / "fold-1"
        with pytest.raises(error, match=words):
            train(config, 1, folder)
        assert not checkpoints(folder)

    good = student(store, teacher, KINDS["lowest"]).model_dump(mode="json")
    refused(student(store, tmp_path / "none", KINDS["lowest"]), RunError, r"stages\.teacher: .*none is not a run dir")
    two = parse({**good, "data": {**good["data"], "labels": ["glad", "sad"]}}, "the test")
    refused(two, WeightsError, "tells 3 classes")
    swapped = changed(store, tmp_path / "swapped.store", fold=lambda clip: 3 - clip.fold)
    refused(student(swapped, teacher, KINDS["lowest"]), DataError, r"was trained on 12 of the 12 clips that fold 1 is")
    windowed = {**good, "data": {**good["data"], "window": {"stride": 1}}}
    refused(parse(windowed, "the test"), ConfigError, "trained on whole clips, and here data.window gives windows of")
    wide = make_store(tmp_path / "wide.store", values=True, face_margin=0.4)
    told = student(wide, teacher, KINDS["lowest"]).model_dump(mode="json")
    told["prepare"]["face_margin"] = 0.4
    refused(parse(told, "the test"), DataError, r"stages\.teacher: .* prepared with face_margin 0\.4")
    seeing = parse({**good, "task": {}, "stages": {}}, "the test")
    blind = trained(seeing, tmp_path / "seeing", 1)
    both = parse(
        {**make_config(store).model_dump(mode="json"), "task": good["task"], "stages": {"teacher": str(blind)}},
        "the test",
    )
    refused(both, ConfigError, r"its model takes vision alone, but this one also takes audio")
    refused(
        student(store, blind, None, t_net={}), ConfigError, r"t_net\.modality is audio, but the model of stages\.te"
    )


def test_the_command_ends_with_two(store: Path, teacher: Path, tmp_path: Path) -> None:
    config = student(store, teacher, KINDS["lowest"])
    process = start(config, tmp_path / "run", "--set", "task.distill.k=4")
    _, told = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "task.distill.k is 4, but it must be less than the 4 clips of a micro-batch" in told
    assert not (tmp_path / "run" / "fold-1").exists()


def test_the_configuration_is_kept_whole(store: Path, teacher: Path, tmp_path: Path) -> None:
    config = student(store, teacher, KINDS["shuffled"])
    run = runs.create(tmp_path / "run", config)
    assert runs.read(run.path).config == config
    assert json.loads(config.model_dump_json())["task"]["distill"]["shuffle"] is True


def test_every_row_of_the_shipped_sweep_trains(store: Path, teacher: Path, tmp_path: Path) -> None:
    """On another base, as `mmadfer launch sweep distillation --base` makes them."""
    alone = student(store, teacher, None, batch_size=12, epochs=1).model_dump(mode="json") | {"stages": {}}
    base = tmp_path / "base.yaml"
    base.write_text(parse(alone, "the test").to_yaml())
    _, rows = sweep.read(sweep.find_table("distillation"), [f"stages.teacher={teacher}"], str(base))
    assert list(rows) == ["none", "logits", "features", "similarity", "lowest", "highest", "shuffled"]
    losses = {}
    for row, config in rows.items():
        trained(config, tmp_path / row, 1)
        losses[row] = [event.get("distill") for event in events(tmp_path / row / "fold-1", "step")]
    assert losses.pop("none") == [None]
    assert len({tuple(found) for found in losses.values()}) == len(losses), "each compares something else"


def test_shipped_configurations_are_a_teacher_and_its_student() -> None:
    first, second = linked([configs.load("dfew_160"), configs.load("pkdot_dfew_160")], Path("chain"))
    assert second.stages.teacher == Path("chain/dfew_160")
    assert first.data == second.data
    assert second.model.modalities == ("vision",)
    alone = configs.load("student_dfew_160")
    assert alone.model == second.model
    assert alone.train == second.train
