"""Adaptation to a person: no label of theirs is read, any stop is gone on from, and features are the model's own."""

import json
import os
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from setting import (
    StopAt,
    checkpoints,
    events,
    make_config,
    make_store,
    promises,
    seal,
    start,
    train_on_two_ranks,
    wait_for_step,
    weights,
)
from test_stages import changed, trained

from mmadfer.config import schema as configs
from mmadfer.config.schema import Config, parse
from mmadfer.contract.description import describe_contract
from mmadfer.data.fold_clips import adapting_clips, test_clips, training_clips
from mmadfer.data.loading.adaptation import AdaptationSampler, fold_sampler
from mmadfer.data.loading.batch import preprocess
from mmadfer.data.loading.loader import Loader, batches
from mmadfer.data.loading.samplers import WITHHELD
from mmadfer.data.splits import halves
from mmadfer.data.store.store import Clip, Store
from mmadfer.errors import ConfigError, DataError, MmadferError, RunError
from mmadfer.evaluation.evaluate import evaluate_path
from mmadfer.launch.chain import linked
from mmadfer.model.weights.load import load
from mmadfer.run import directory as runs
from mmadfer.tasks.adaptation import AdaptationLoss
from mmadfer.train import features
from mmadfer.train.loop import train

test_clips.__test__ = False  # type: ignore[attr-defined]
LABELLED = {"glad": "sad", "sad": "calm", "calm": "glad"}


def subject(clip: Clip) -> str:
    return f"S{int(clip.id[1:]) // 6}"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 clips of 4 people, who have 2 of each class."""
    folder = tmp_path_factory.mktemp("adaptation")
    digest = {"subject": subject, "media_sha256": lambda clip: f"digest of {clip.id}"}
    return changed(make_store(folder / "plain.store"), folder / "people.store", **digest)


def on_people(store: Path, **train_: Any) -> Config:
    """A fold for each person, of two epochs of four clips."""
    way = {"save_every": 1000, "epochs": 2, **train_}
    tree = make_config(store, folds=4, **way).model_dump(mode="json")
    tree["data"]["split"] = "leave_one_subject_out"
    return parse(tree, "the test")


@pytest.fixture(scope="module")
def sources(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose fold 1 has not seen S0."""
    return trained(on_people(store, epochs=1), tmp_path_factory.mktemp("runs") / "sources", 1)


def adapting(store: Path, init: Path | None, train_: dict[str, Any] | None = None, **adapt: Any) -> Config:
    """From `init`; every epoch, labels are given where the model is hardly sure."""
    tree = on_people(store, **{"seed": 5, **(train_ or {})}).model_dump(mode="json")
    tree["stages"]["init"] = init and str(init)
    return parse({**tree, "adapt": {"every": 1, "threshold": 0.36, "step": 0.005, **adapt}}, "the test")


TEMPORAL: dict[str, Any] = {"trains": "temporal", "sources": {"nearest": 2}, "choose": "released"}
ALL: dict[str, Any] = {"trains": "all"}


@pytest.fixture(scope="module")
def adapted(store: Path, sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose fold 1 is adapted to S0, in one go."""
    return trained(adapting(store, sources, **TEMPORAL), tmp_path_factory.mktemp("runs") / "adapted", 1)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoints(folder)[-1] / "weights.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("adapt", [TEMPORAL, ALL], ids=["temporal", "all"])
def test_no_label_of_theirs_is_read(store: Path, sources: Path, tmp_path: Path, adapt: dict[str, Any]) -> None:
    def wrong(clip: Clip) -> str:
        return LABELLED[clip.label] if clip.subject == "S0" else clip.label

    other = changed(store, tmp_path / "wrong.store", label=wrong)
    folders = []
    for name, path in (("right", store), ("wrong", other)):
        config = adapting(path, sources, {"epochs": 1}, **adapt)
        folders.append(trained(config, tmp_path / name, 1) / "fold-1")
    right, lying = map(tensors, folders)
    assert same(right, lying)
    assert not same(right, tensors(sources / "fold-1")), "it has learnt"
    assert events(folders[0], "labels") == events(folders[1], "labels")
    results = [json.loads((folder / "result.json").read_text()) for folder in folders]
    assert results[0]["confusion"] != results[1]["confusion"], "the labels were wrong, where they are read"


def test_labels_are_withheld_from_batches(store: Path, sources: Path) -> None:
    config = adapting(store, sources, **ALL)
    with Store(store) as opened, closing(Loader(opened, config, opened.labels)) as loader:
        sampler = fold_sampler(config, opened, 1)
        assert isinstance(sampler, AdaptationSampler)
        sampler.given = {sampler.adapting[0]: 2}
        picked = batches(config, opened, 1, 0, sampler=sampler)
        seen = set()
        for batch in loader.train(0, picked):
            assert batch.adapted is not None
            assert batch.adapted.tolist() == [False, True] * 2
            assert set(batch.targets) == {"label"}
            for clip, label, theirs in zip(batch.ids, batch.targets["label"].tolist(), batch.adapted, strict=True):
                if theirs:
                    assert label == (2 if clip == sampler.adapting[0] else WITHHELD)
                    seen.add(clip)
                else:
                    assert opened.labels[label] == opened.clips[clip].label
        assert seen == {*adapting_clips(config, opened, 1)}
        two = [batches(config, opened, 1, 0, rank=rank, world=2, sampler=sampler) for rank in (0, 1)]
        assert [one + other for one, other in zip(*two, strict=True)] == picked, "each rank has as many of both"
        odd = adapting(store, sources, {"batch_size": 6})
        with pytest.raises(ConfigError, match="gives each of 2 ranks 3 clips"):
            batches(odd, opened, 1, 0, world=2)


def test_clips_adapt_or_are_tested(store: Path, sources: Path) -> None:
    config = adapting(store, sources, share=0.3)
    with Store(store) as opened:
        adapt, tested = adapting_clips(config, opened, 2), test_clips(config, opened, 2)
        assert sorted([*adapt, *tested]) == [f"c{k:02d}" for k in range(6, 12)]
        assert len(adapt) == 2
        assert not {*adapt, *tested} & {clip.id for clip in training_clips(config, opened, 2)}


def test_clips_of_one_file_stay_together() -> None:
    files = {f"c{k}": f"film {k // 3}" for k in range(12)}
    adapt, tested = halves(files, 0.5)
    assert (len(adapt), len(tested)) == (6, 6)
    assert not {files[clip] for clip in adapt} & {files[clip] for clip in tested}
    assert halves(dict(reversed(files.items())), 0.5) == (adapt, tested)
    assert [*map(len, halves({"a": "one", "b": "two"}, 0.01))] == [1, 1], "each side has one"
    long = {f"{name}{k}": name for name, count in (("x", 20), ("y", 20), ("z", 2)) for k in range(count)}
    assert min(map(len, halves(long, 0.5))) == 20, "the nearest to a half that whole files give"
    with pytest.raises(DataError, match=r"2 clip\(s\) of 1 file\(s\)"):
        halves({"a": "one", "b": "one"}, 0.5)


@pytest.mark.parametrize("asked", [3, 12, 13, 15, 18, 24])
def test_stopped_anywhere_it_goes_on_to_the_same_bytes(
    store: Path, sources: Path, adapted: Path, tmp_path: Path, asked: int
) -> None:
    """While the nearest are found, features made, the model before tested, labels given, in a step, and labels anew."""
    config = adapting(store, sources, **TEMPORAL)
    folder = runs.open_fold(tmp_path / "run", config, 1)
    assert not train(config, 1, folder, stop=StopAt(asked)).finished
    told = (folder / "log.txt").read_text().splitlines()[-1]
    assert ("stopped and saved after step" in told) == bool(checkpoints(folder))
    assert ("stopped with nothing to save after step 0; --resume" in told) == (not checkpoints(folder))
    assert trained(config, tmp_path / "run", 1)
    assert weights(folder) == weights(adapted / "fold-1")
    for kind in ("unadapted", "labels"):
        assert events(folder, kind) == events(adapted / "fold-1", kind)


@pytest.mark.slow
def test_killed_it_goes_on_to_the_same_bytes(store: Path, sources: Path, tmp_path: Path) -> None:
    """The whole model."""
    config = adapting(store, sources, {"save_every": 2}, **ALL)
    straight, fold = trained(config, tmp_path / "straight", 1) / "fold-1", tmp_path / "run" / "fold-1"
    killed = start(config, tmp_path / "run")
    wait_for_step(fold, 11, killed)
    killed.kill()
    killed.communicate()
    assert train(config, 1, fold, resume=True).finished
    assert weights(fold) == weights(straight)
    assert events(fold, "labels") == events(straight, "labels")


@pytest.mark.slow
def test_two_ranks_learn_as_one_does(store: Path, sources: Path, tmp_path: Path) -> None:
    """By plain gradient descent, whose steps are as long as the gradient: one of a rank alone would be half of it."""
    descent = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "lr": 3e-3, "schedule": "constant"}
    config = adapting(store, sources, {"batch_size": 8, "accumulate": 2, "epochs": 1, **descent}, **TEMPORAL)
    assert train(config, 1, runs.open_fold(tmp_path / "one", config, 1)).finished
    train_on_two_ranks(config, tmp_path / "two")
    one, two = tmp_path / "one" / "fold-1", tmp_path / "two" / "fold-1"
    for alone, together in zip(events(one, "step"), events(two, "step"), strict=True):
        for name in ("loss", "mmd", "source_loss", "target_loss", "chosen"):
            assert alone[name] == pytest.approx(together[name], rel=1e-3, abs=1e-5), name
    before = tensors(sources / "fold-1")
    for name, value in tensors(one).items():
        moved, other = value - before[name], tensors(two)[name] - before[name]
        torch.testing.assert_close(other, moved, rtol=0, atol=0.02 * float(moved.abs().max()) + 1e-6, msg=name)


def test_a_step_on_features_is_one_of_the_whole_model(store: Path, adapted: Path, tmp_path: Path) -> None:
    """The gradients, by the model itself, of the clips in the form in which tests see them."""
    config = runs.read(adapted).config
    assert config.adapt is not None
    model = load(adapted, fold=1)
    loss = AdaptationLoss(config.adapt, "label")
    found = load_file(adapted / "fold-1" / features.FILE)["joint"]
    with Store(store) as opened, closing(Loader(opened, config, opened.labels)) as loader:
        sampler = fold_sampler(config, opened, 1)
        assert isinstance(sampler, AdaptationSampler)
        sampler.narrow(json.loads((checkpoints(adapted / "fold-1")[-1] / "adaptation.json").read_text())["sources"])
        views = _views(config, opened, sampler)
        assert len(views) == len(found)
        picks = sampler.epoch(0)[:8]
        batch = next(loader.test(picks, 8))

        def gradients(joint: torch.Tensor | None) -> dict[str, torch.Tensor]:
            model.zero_grad()
            said = model.detailed(preprocess(batch), batch.fbank) if joint is None else model.of_joint(joint)
            parts = loss(said.float(), batch, lambda out, rows: {"loss": _cross_entropy(out, rows.targets["label"])})
            parts["loss"].backward()
            named = model.named_parameters()
            return {name: p.grad.clone() for name, p in named if p.grad is not None and name.startswith(LEARNS)}

        rows = [views.index(features.View(False, pick.clip)) for pick in picks]
        whole, cached = gradients(None), gradients(found[rows])
    assert whole.keys() == cached.keys() == {name for name, _ in model.named_parameters() if name.startswith(LEARNS)}
    for name, value in whole.items():
        torch.testing.assert_close(cached[name], value, rtol=1e-5, atol=1e-6 * float(value.abs().max()), msg=name)
    alone = next(Loader(Store(store), config, ("glad", "sad", "calm")).test([picks[1]], 1))
    with torch.no_grad():
        joint = model.encode(preprocess(alone), alone.fbank)
    torch.testing.assert_close(found[rows[1]], joint[0], rtol=1e-5, atol=1e-5)


LEARNS = ("temporal.", "classifier.")


def _cross_entropy(output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(output, labels)


def _views(config: Config, store: Store, sampler: AdaptationSampler) -> list[features.View]:
    adapting = [features.View(flip, clip) for flip in (False, True) for clip in sampler.adapting]
    others = [*test_clips(config, store, 1), *(clip.id for clip in sampler.clips)]
    return sorted({*adapting, *(features.View(False, clip) for clip in others)})


def test_what_learns_and_what_stays(adapted: Path, sources: Path) -> None:
    before, after = tensors(sources / "fold-1"), tensors(adapted / "fold-1")
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {name for name in after if name.startswith(LEARNS)}
    told = events(adapted / "fold-1", "labels")
    assert [event["threshold"] for event in told] == pytest.approx([0.36, 0.355])
    assert told[0]["chosen"] >= told[1]["chosen"] > 0, "released: none comes back"
    begun = json.loads((checkpoints(adapted / "fold-1")[-1] / "adaptation.json").read_text())
    assert len(begun["sources"]) == 2
    for event in events(adapted / "fold-1", "step"):
        whole = event["source_loss"] + event["target_loss"] + event["mmd"]
        assert event["loss"] == pytest.approx(whole, rel=1e-4)


def test_the_model_before_is_tested_on_the_same_clips(store: Path, sources: Path, adapted: Path) -> None:
    folder = adapted / "fold-1"
    before = [line.split(",")[0] for line in (folder / "unadapted.csv").read_text().splitlines()]
    after = [line.split(",")[0] for line in (folder / "predictions.csv").read_text().splitlines()]
    assert before == after
    theirs = {line.split(",")[0]: line for line in (sources / "fold-1" / "predictions.csv").read_text().splitlines()}
    rows = (folder / "unadapted.csv").read_text().splitlines()[1:]
    assert [row.split(",")[2] for row in rows] == [theirs[row.split(",")[0]].split(",")[2] for row in rows]
    result = json.loads((folder / "result.json").read_text())
    assert {"uar", "war", "confusion", "labels"} <= set(result["unadapted"])
    assert evaluate_path(adapted, store, fold=1).ids == after[1:], "nor does anybody else test what it was adapted on"


def test_the_contract_says_whom_it_was_adapted_to(store: Path, sources: Path, adapted: Path, tmp_path: Path) -> None:
    facts = promises(checkpoints(adapted / "fold-1")[-1]).adapted
    assert facts is not None
    assert (facts.people, facts.clips, facts.share, facts.labels, facts.name) == (("S0",), 3, 0.5, "withheld", "tiny")
    assert facts.weights_hash == promises(checkpoints(sources / "fold-1")[-1]).weights_hash
    told = describe_contract(promises(checkpoints(adapted / "fold-1")[-1]))["adapted to"]
    assert told == "S0 (3 clips without labels; from tiny); not meant for others"
    others = changed(store, tmp_path / "others.store", media_sha256=lambda clip: f"other {clip.id}")
    tree = on_people(others, epochs=1).model_dump(mode="json")
    later = trained(parse({**tree, "stages": {"init": str(adapted)}}, "the test"), tmp_path / "later", 1)
    inherited = promises(checkpoints(later / "fold-1")[-1]).adapted
    assert inherited is not None
    assert (inherited.people, inherited.share) == (("S0",), None), "its own test fold is tested whole"
    plain = promises(checkpoints(sources / "fold-1")[-1])
    assert "adapted" not in json.loads(plain.dumps()), "a model of nobody's says nothing, as before"


def test_labels_that_are_given_are_an_upper_bound(store: Path, sources: Path, tmp_path: Path) -> None:
    config = adapting(store, sources, {"epochs": 1}, labels="given")
    folder = trained(config, tmp_path / "run", 1) / "fold-1"
    assert not events(folder, "labels")
    assert [event["chosen"] for event in events(folder, "step")] == [1.0] * 9
    facts = promises(checkpoints(folder)[-1]).adapted
    assert facts is not None
    assert facts.labels == "given"
    assert "are learnt (adapt.labels given): an upper bound" in (folder / "log.txt").read_text()


def test_without_a_pseudo_label_the_discrepancy_learns_alone(store: Path, sources: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "fold-1"
    trained(adapting(store, sources, {"epochs": 1}, threshold=0.999), tmp_path / "run", 1)
    assert "WARNING: no clip has a pseudo-label" in (folder / "log.txt").read_text()
    steps = events(folder, "step")
    assert {(event["target_loss"], event["chosen"]) for event in steps} == {(0.0, 0.0)}
    assert steps[0]["mmd"] > 0
    released = tmp_path / "released" / "fold-1"
    trained(adapting(store, sources, {"epochs": 1}, threshold=0.999, mmd_gradient=False), tmp_path / "released", 1)
    assert events(released, "step")[0]["mmd"] == steps[0]["mmd"], "the same number"
    assert events(released, "step")[1]["mmd"] != steps[1]["mmd"], "without a gradient"


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:-8]), Path.unlink])
def test_features_that_are_not_whole_are_made_anew(
    store: Path, sources: Path, adapted: Path, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    config = adapting(store, sources, **TEMPORAL)
    folder = runs.open_fold(tmp_path / "run", config, 1)
    assert not train(config, 1, folder, stop=StopAt(18)).finished
    made = (folder / features.FILE).read_bytes()
    os.utime(folder / features.FILE, (1, 1))
    damage(folder / features.FILE)
    assert trained(config, tmp_path / "run", 1)
    assert (folder / features.FILE).read_bytes() == made
    assert weights(folder) == weights(adapted / "fold-1")


def test_features_that_are_whole_are_used_again(store: Path, sources: Path, tmp_path: Path) -> None:
    config = adapting(store, sources, **TEMPORAL)
    folder = runs.open_fold(tmp_path / "run", config, 1)
    assert not train(config, 1, folder, stop=StopAt(18)).finished
    os.utime(folder / features.FILE, (1, 1))
    assert trained(config, tmp_path / "run", 1)
    assert (folder / features.FILE).stat().st_mtime == 1


def test_what_cannot_be_adapted_is_refused(store: Path, sources: Path, tmp_path: Path) -> None:
    def refused(config: Config, error: type[MmadferError], words: str) -> None:
        with pytest.raises(error, match=words):
            train(config, 1, tmp_path / "fold")

    nobody = changed(store, tmp_path / "nobody.store", subject=lambda clip: None)
    folds = with_data(adapting(nobody, sources), split="folds", folds=2)
    refused(folds, DataError, r"has 24 clip\(s\) without a subject")
    refused(with_data(folds, store=str(store)), DataError, "of S0, S1, S2, and trains on others of the same")
    for clips, words in (("c00",), r"S0: 1 clip\(s\) of 1 file"), (("c00", "c01"), "has 1 clip of S0 to adapt on"):
        few = changed(store, tmp_path / f"{len(clips)}.store", subject=partial(_few, clips))
        refused(with_data(adapting(few, sources), folds=5), DataError, words)
    four = adapting(store, sources, sources={"nearest": 4})
    refused(four, ConfigError, "nearest is 4, but fold 1 trains on 3 people")
    seen = trained(with_data(on_people(store, epochs=1), split="folds", folds=2), tmp_path / "seen", 1)
    refused(adapting(store, seen), DataError, r"stages\.init: fold 1 of .*seen was trained on 3 of the 6 clips")


def _few(theirs: tuple[str, ...], clip: Clip) -> str:
    return "S0" if clip.id in theirs else f"S1{subject(clip)}"


def with_data(config: Config, **data: Any) -> Config:
    tree = config.model_dump(mode="json")
    return parse({**tree, "data": {**tree["data"], **data}}, "the test")


def test_an_adaptation_of_others_cannot_be_gone_on_from(store: Path, sources: Path, tmp_path: Path) -> None:
    config = adapting(store, sources, **TEMPORAL)
    folder = runs.open_fold(tmp_path / "run", config, 1)
    assert not train(config, 1, folder, stop=StopAt(18)).finished
    path = checkpoints(folder)[-1]
    told = json.loads((path / "adaptation.json").read_text())
    (path / "adaptation.json").write_text(json.dumps({**told, "given": {"c23": 0}}))
    seal(path, lambda tree: None)
    with pytest.raises(RunError, match="the adaptation cannot go on from its checkpoint"):
        train(config, 1, folder, resume=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stages": {}}, "adapt begins with a model that knows the other people: set stages.init"),
        ({"train": {"batch_size": 2}}, "makes 2 clips: half of them are of who is adapted to"),
        ({"train": {"batch_size": 12, "accumulate": 4}}, "makes 3 clips"),
        ({"train": {"zero_stage": 1}}, "set train.zero_stage 0"),
        ({"model": {"temporal": "none"}}, "nothing would learn"),
        ({"data": {"augment": {"mixup": 0.2}}}, "mixup blends labels"),
        ({"data": {"window": {"stride": 1}}}, "leave data.window out"),
        ({"data": {"test_clips": 2}}, "one way to look at a clip"),
        ({"task": {"align": {}}}, "leave task.align out"),
        ({"train": {"epochs": 40}, "adapt": {"every": 1, "step": 0.05}}, r"falls to -1\.05 in 40 epochs"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(change: dict[str, Any], words: str) -> None:
    tree = {"name": "x", "stages": {"init": "run"}, "adapt": {}, **change}
    with pytest.raises(ConfigError, match=words):
        parse(tree, "the test")


@pytest.mark.parametrize(("first", "second"), [("msda_toy", "adapt_toy"), ("msda_crema_d", "adapt_crema_d")])
def test_shipped_configurations_are_a_chain(first: str, second: str) -> None:
    before, after = linked([configs.load(first), configs.load(second)], Path("chain"))
    assert after.stages.init == Path("chain") / first
    assert after.model == before.model
    assert after.data.split == before.data.split
    assert not after.task.terms


def test_the_command_ends_with_two(store: Path, sources: Path, tmp_path: Path) -> None:
    process = start(adapting(store, sources), tmp_path / "run", "--set", "adapt.sources.nearest=9")
    _, told = process.communicate(timeout=120)
    assert process.returncode == 2, told
    assert "adapt.sources" in told
