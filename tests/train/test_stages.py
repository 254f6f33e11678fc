"""A run that begins from another, fold by fold: its weights, and that no test clip was seen before."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file, save_file
from setting import StopAt, checkpoints, make_config, make_store, promises, seal
from torch import Tensor
from torch.nn.functional import kl_div

from mmadfer.config.schema import Config, parse
from mmadfer.contract.parts import parts_of
from mmadfer.data.loading.batch import Batch, preprocess
from mmadfer.data.parent_leakage import check_stages
from mmadfer.data.store.store import Store, write_store
from mmadfer.distributed.ranks import connected
from mmadfer.errors import ConfigError, DataError, RunError, WeightsError
from mmadfer.model.weights.build import build_model
from mmadfer.model.weights.load import load
from mmadfer.report.cards.model import CardSource, model_card
from mmadfer.run import checkpoint_state
from mmadfer.run import directory as runs
from mmadfer.run.lease import Held
from mmadfer.tasks.base import Task
from mmadfer.tasks.classification import Classification
from mmadfer.tasks.tables import TASKS
from mmadfer.train.loop import Trainer, train
from mmadfer.train.parents import Parents
from mmadfer.utils.files import sha256


def child(config: Config, *, model: dict | None = None, train: dict | None = None, **stages: object) -> Config:
    """The same configuration with stages, and another seed."""
    tree = config.model_dump(mode="json")
    tree["stages"] |= {key: str(value) if isinstance(value, Path) else value for key, value in stages.items()}
    tree["model"] |= model or {}
    tree["train"] |= {"seed": 7, **(train or {})}
    return parse(tree, "the test")


def trained(config: Config, run: Path, *folds: int) -> Path:
    """Train folds of a run as the command does."""
    for fold in folds:
        folder = runs.open_fold(run, config, fold, resume=True)
        assert train(config, fold, folder, resume=True).finished
    return run


def tensors(run: Path, fold: int = 1) -> dict:
    return load_file(checkpoints(runs.fold_dir(run, fold))[-1] / "weights.safetensors")


def changed(source: Path, path: Path, **how: object) -> Path:
    """A store with its clips changed: `how` gives functions from a clip to the new value of a field."""
    with Store(source) as store:
        clips = [(replace(c, **{k: f(c) for k, f in how.items()}), store.read(name)) for name, c in store.clips.items()]
        write_store(path, replace(store.header, fingerprint=path.name), clips)
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 clips of 8 people in two folds; clip k is made of the file that k is the digest of."""
    folder = tmp_path_factory.mktemp("stages")
    plain = make_store(folder / "plain.store")
    return changed(plain, folder / "tiny.store", media_sha256=lambda clip: f"digest of {clip.id}")


@pytest.fixture(scope="module")
def parent(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two finished folds."""
    return trained(make_config(store), tmp_path_factory.mktemp("runs") / "parent", 1, 2)


def test_fold_by_fold_it_begins_with_the_parents_weights(store: Path, parent: Path, tmp_path: Path) -> None:
    config = child(make_config(store), init=parent)
    for fold in (1, 2):
        model = build_model(config.model, 3, seed=7)
        with Store(store) as opened:
            Parents(config, opened, fold).begin(model)
        theirs = tensors(parent, fold)
        assert {name: value.detach().numpy().tolist() for name, value in model.learned().items()} == {
            name: value.tolist() for name, value in theirs.items()
        }
    assert tensors(parent, 1)["classifier.weight"].tolist() != tensors(parent, 2)["classifier.weight"].tolist()


def test_run_json_keeps_the_parents(store: Path, parent: Path, tmp_path: Path) -> None:
    run = trained(child(make_config(store), init=parent), tmp_path / "child", 1, 2)
    for fold in (1, 2):
        checkpoint = checkpoints(runs.fold_dir(parent, fold))[-1]
        assert json.loads((run / "run.json").read_text())["parents"][str(fold)] == {
            "init": {
                "run": str(parent),
                "fold": fold,
                "step": 6,
                "weights_hash": checkpoint_state.read(checkpoint).weights_hash,
                "config_hash": sha256(parent / "config.yaml"),
            }
        }
    alone = trained(make_config(store, seed=7), tmp_path / "alone", 1)
    assert tensors(run)["classifier.weight"].tolist() != tensors(alone)["classifier.weight"].tolist()


def of_set(source: Path, path: Path) -> Path:
    """A store with the same people in other files, of the data set that `path` is called."""
    with Store(source) as store:
        clips = [(replace(c, media_sha256=f"{path.stem} {c.id}"), store.read(name)) for name, c in store.clips.items()]
        write_store(path, replace(store.header, fingerprint=path.name, data_set=path.stem), clips)
    return path


def test_what_a_model_began_with_is_in_its_contract(store: Path, parent: Path, tmp_path: Path) -> None:
    mine = of_set(store, tmp_path / "mine.store")
    run = trained(child(make_config(mine), init=parent), tmp_path / "child", 1)
    told = promises(checkpoints(run / "fold-1")[-1])
    assert (told.data_set, [one.data_set for one in told.origins]) == ("mine", ["tiny"])
    assert {"mine", "tiny"} <= {part.name for part in parts_of(told)}
    assert "It comes from models that were trained on tiny." in model_card(CardSource("mine", told))
    plain = promises(checkpoints(parent / "fold-1")[-1])
    assert "origins" not in json.loads(plain.dumps())
    last = of_set(store, tmp_path / "last.store")
    own = plain.model_copy(update={"data_set": "last"})
    tree = child(make_config(last), teacher=run).model_dump(mode="json")
    student = parse({**tree, "task": {"distill": {"name": "logits"}}}, "the test")
    for config, names in ((child(make_config(last), init=run), ["mine", "tiny"]), (student, ["tiny"])):
        with Store(last) as opened:
            found = Parents(config, opened, 1).inherit(own)
        assert [one.data_set for one in found.origins] == names
        assert {"last", "mine", "tiny"} <= {part.name for part in parts_of(found)}


def test_a_stopped_child_goes_on_to_the_same_weights(store: Path, parent: Path, tmp_path: Path) -> None:
    config = child(make_config(store), init=parent)
    whole = trained(config, tmp_path / "whole", 1)
    folder = runs.open_fold(tmp_path / "parts", config, 1)
    assert not train(config, 1, folder, stop=StopAt(3)).finished
    trained(config, tmp_path / "parts", 1)
    assert {name: value.tobytes() for name, value in tensors(whole).items()} == {
        name: value.tobytes() for name, value in tensors(tmp_path / "parts").items()
    }


def test_tensors_that_are_missing_or_extra_are_named(store: Path, parent: Path, tmp_path: Path) -> None:
    config = child(make_config(store), model={"fusion": {"latent": 4}}, init=parent)
    with Store(store) as opened:
        parents = Parents(config, opened, 1)
        with pytest.raises(WeightsError, match=r"lacks \d+ tensor.*fusion.*stages\.missing"):
            parents.begin(build_model(config.model, 3))
        config = child(config, missing=["fusion.*"])
        with pytest.raises(WeightsError, match=r"has, which are not in this model, .*stages\.extra"):
            Parents(config, opened, 1).begin(build_model(config.model, 3))
        config = child(config, extra=["fusion.*"])
        model, drawn = build_model(config.model, 3), build_model(config.model, 3)
        said = Parents(config, opened, 1).begin(model)
    assert "drawn: fusion." in said
    theirs = tensors(parent)
    for name, value in model.trainable().items():
        fresh = name.startswith("fusion.") and theirs[name].shape != tuple(value.shape)
        wanted = drawn.trainable()[name].detach().numpy() if fresh else theirs[name]
        assert value.detach().numpy().tolist() == wanted.tolist(), name


def test_a_parent_trained_on_other_folds_is_refused(store: Path, parent: Path, tmp_path: Path) -> None:
    other = changed(
        store, tmp_path / "other.store", fold=lambda clip: 1 + (int(clip.id[1:]) // 3 + (clip.id > "c18")) % 2
    )
    config = child(make_config(other), init=parent)
    words = r"stages\.init: fold 1 of .*parent was trained on 3 of the 13 clips .*fold 1 is tested on here \(c2\d, "
    with Store(other) as opened, pytest.raises(DataError, match=words):
        check_stages(config, opened, [1])
    with pytest.raises(DataError, match=words):
        train(config, 1, runs.open_fold(tmp_path / "child", config, 1))
    with Store(store) as opened:
        check_stages(child(make_config(store), init=parent), opened, [1, 2])


def test_files_are_known_by_what_they_held(store: Path, parent: Path, tmp_path: Path) -> None:
    swapped = {1: 2, 2: 1}
    other = changed(store, tmp_path / "a.store", id=lambda c: f"x{c.id}", fold=lambda c: swapped[c.fold])
    with Store(other) as opened, pytest.raises(DataError, match=r"trained on 12 of the 12 clips .*\(xc\d"):
        check_stages(child(make_config(other), init=parent), opened, [2])
    strange = changed(other, tmp_path / "b.store", media_sha256=lambda c: f"another {c.id}")
    with Store(strange) as opened:
        check_stages(child(make_config(strange), init=parent), opened, [1, 2])


def test_people_that_are_kept_apart_are_not_seen_before(store: Path, tmp_path: Path) -> None:
    mine = changed(store, tmp_path / "mine.store", subject=lambda clip: f"p{clip.fold}")
    theirs = changed(
        store,
        tmp_path / "theirs.store",
        id=lambda c: f"take 2 of {c.id}",
        media_sha256=lambda c: c.media_sha256 if c.id == "c00" else f"take 2 of {c.id}",
        subject=lambda clip: f"p{3 - clip.fold}",
    )
    run = runs.create(tmp_path / "parent", make_config(theirs)).path
    config = child(make_config(mine), init=run)
    with Store(mine) as opened, pytest.raises(DataError, match=r"clips of 1 subject\(s\) that fold 1 .*\(p1\)"):
        check_stages(config, opened, [1])
    mixed = changed(mine, tmp_path / "mixed.store", subject=lambda clip: "p1")  # who is in its own training, too
    with Store(mixed) as opened:
        check_stages(child(make_config(mixed), init=run), opened, [1, 2])


def test_the_parents_of_a_parent_count(store: Path, parent: Path, tmp_path: Path) -> None:
    swapped = changed(store, tmp_path / "swapped.store", fold=lambda clip: 3 - clip.fold)
    with Store(swapped) as opened:
        middle = runs.create(tmp_path / "middle", child(make_config(swapped), init=parent)).path
        config = child(make_config(swapped), init=middle)
        with pytest.raises(DataError, match="parent was trained on 12 of the 12 clips"):
            check_stages(config, opened, [1])
    loop = tmp_path / "loop"
    runs.create(loop, child(make_config(store), init=loop))
    with Store(store) as opened, pytest.raises(ConfigError, match="would begin from itself"):
        check_stages(child(make_config(store), init=loop), opened, [1])


def test_what_is_not_there_or_not_finished_is_refused(store: Path, parent: Path, tmp_path: Path) -> None:
    with Store(store) as opened:
        with pytest.raises(RunError, match=r"stages\.init: .*nowhere is not a run directory"):
            Parents(child(make_config(store), init=tmp_path / "nowhere"), opened, 1)
        begun = runs.create(tmp_path / "begun", make_config(store)).path
        with pytest.raises(RunError, match=r"fold 1 of .*begun \(stages\.init\) is not finished\. .*launch resume"):
            Parents(child(make_config(store), init=begun), opened, 1)
        runs.fold_dir(begun, 1).mkdir()
        runs.mark_failed(runs.fold_dir(begun, 1), "the disk is full", None)
        with pytest.raises(RunError, match="is not finished: the disk is full"):
            Parents(child(make_config(store), init=begun), opened, 1)


def test_a_child_goes_on_only_with_the_weights_that_it_began_from(store: Path, tmp_path: Path) -> None:
    parent = trained(make_config(store), tmp_path / "parent", 1)
    config = child(make_config(store), init=parent)
    folder = runs.open_fold(tmp_path / "child", config, 1)
    assert not train(config, 1, folder, stop=StopAt(3)).finished
    checkpoint = checkpoints(runs.fold_dir(parent, 1))[-1]
    seal(checkpoint, lambda tree: tree.update(weights_hash="0" * 64))
    with pytest.raises(RunError, match=r"stages\.init: fold 1 has begun with other weights of .*parent"):
        train(config, 1, folder, resume=True)
    save_file({}, checkpoint / "weights.safetensors")
    with pytest.raises(RunError, match=r"cannot be used: .*safetensors has changed"):
        train(config, 1, folder, resume=True)


class Distilling(Task):
    """The answers of the teacher as targets (Hinton et al. 2015, "Distilling the Knowledge in a Neural Network")."""

    def parts(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        assert self.teacher is not None
        theirs = self.teacher(batch).logits
        assert not theirs.requires_grad
        return {"loss": kl_div(output.log_softmax(1), theirs.softmax(1), reduction="batchmean")}


class DistillingSpec(Classification):
    module = "test_stages:Distilling"


DISTILLING = DistillingSpec()


def test_a_task_learns_from_a_teacher(
    store: Path, parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASKS.own, "distilling", "test_stages:DISTILLING")  # type: ignore[arg-type]
    config = child(make_config(store), train={"epochs": 1}, teacher=parent)
    config = parse(config.model_dump(mode="json") | {"task": {"name": "distilling"}}, "the test")
    before = (checkpoints(runs.fold_dir(parent, 1))[-1] / "weights.safetensors").read_bytes()
    folder = runs.open_fold(tmp_path / "student", config, 1)
    with connected() as ranks, closing(Trainer(config, 1, folder, ranks, Held(token="t"), lambda: False)) as trainer:
        picks = trainer._share(0, 0)
        batch = next(iter(trainer.loader.train(0, picks)))
        teacher = load(parent, fold=1)
        with torch.no_grad():
            wanted = teacher(preprocess(batch), batch.fbank)
        task = trainer.engine._engine.module
        torch.testing.assert_close(task.teacher(batch).logits, wanted, rtol=0, atol=1e-6)
        assert not any("teacher" in name for name in task.state_dict())
        loss = kl_div(task(batch)["output"].log_softmax(1), wanted.softmax(1), reduction="batchmean")
        torch.testing.assert_close(task(batch)["loss"].detach(), loss, rtol=1e-4, atol=1e-6)
    run = trained(config, tmp_path / "student", 1)
    assert (checkpoints(runs.fold_dir(parent, 1))[-1] / "weights.safetensors").read_bytes() == before
    told = json.loads((run / "run.json").read_text())["parents"]["1"]
    assert list(told) == ["teacher"]
    assert tensors(run).keys() == tensors(parent).keys()


def test_a_teacher_must_see_the_same_clips_and_know_the_same_labels(store: Path, parent: Path) -> None:
    with Store(store) as opened:
        other = child(make_config(store), model={"frames": 2}, teacher=parent)
        with pytest.raises(ConfigError, match=r"stages\.teacher: .*takes clips of .*\(32, 4, .*are \(32, 2, "):
            Parents(other, opened, 1).teacher(opened.labels)
        with pytest.raises(WeightsError, match="tells 3 classes"):
            Parents(child(make_config(store), teacher=parent), opened, 1).teacher(("glad", "sad"))


def test_a_teacher_must_know_the_same_modalities_and_preparation(store: Path, parent: Path, tmp_path: Path) -> None:
    tree = child(make_config(store), teacher=parent).model_dump(mode="json")
    seen = parse({**tree, "data": {**tree["data"], "modalities": "vision"}}, "the test")
    with Store(store) as opened, pytest.raises(ConfigError, match=r"was trained on both, but data\.modalities is visi"):
        Parents(seen, opened, 1).teacher(opened.labels)
    wide = make_store(tmp_path / "wide.store", face_margin=0.4)
    with Store(wide) as opened, pytest.raises(DataError, match=r"stages\.teacher: .* prepared with face_margin 0\.4"):
        Parents(child(make_config(wide), teacher=parent), opened, 1).teacher(opened.labels)
