"""Training with `task.subjects`: what it is between, exact resume, one and two ranks, and refusals."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from setting import StopAt, checkpoints, events, make_config, start, train_on_two_ranks, weights, without

from mmadfer.config import sweep
from mmadfer.config.schema import Config, parse
from mmadfer.data.loading.loader import Loader, batches
from mmadfer.data.store.store import Clip, ClipRecord, Store, write_store
from mmadfer.errors import ConfigError, DataError
from mmadfer.model.weights.build import build_model
from mmadfer.model.weights.load import load
from mmadfer.tasks.discrepancy import discrepancy
from mmadfer.tasks.subjects import Subjects, half_of_people
from mmadfer.train.loop import train

LABELS = ("glad", "sad", "calm")
PEOPLE = 4


def _shown(store: Store) -> Iterator[tuple[Clip, ClipRecord]]:
    for number, name in enumerate(sorted(store.clips)):
        yield replace(store.clips[name], subject=f"person {number % PEOPLE}"), store.read(name)


@pytest.fixture(scope="module")
def people(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny store with four people."""
    path = tmp_path_factory.mktemp("people") / "people.store"
    with Store(store) as opened:
        write_store(path, opened.header, _shown(opened))
    return path


def drawing(store: Path, subjects: dict[str, Any] | None = None, **train: Any) -> Config:
    """Halves of people of eight clips."""
    return make_config(store, task={"subjects": subjects or {}}, **{"batch_size": 8, **train})


@pytest.fixture(scope="module")
def drawn_run(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("drawn") / "fold-1"
    assert train(drawing(people), 1, folder).finished
    return folder


def test_the_parts_are_shown_and_make_the_loss(drawn_run: Path) -> None:
    for event in [*events(drawn_run, "step"), *events(drawn_run, "epoch")]:
        assert event["loss"] == pytest.approx(event["task_loss"] + 0.5 * event["subjects"], abs=1e-4)
        assert event["subjects"] > 0
        assert event["subjects_halved"] == 1


def test_resumes_to_the_bit(people: Path, drawn_run: Path, tmp_path: Path) -> None:
    assert not train(drawing(people), 1, tmp_path, stop=StopAt(1)).finished
    assert train(drawing(people), 1, tmp_path, resume=True).finished
    assert weights(tmp_path) == weights(drawn_run)


def test_nothing_of_it_is_in_the_model(drawn_run: Path) -> None:
    model = load(drawn_run)
    assert model.contract is not None
    assert "halves" not in model.contract.model_dump_json()
    assert not any("task." in name for name in load_file(checkpoints(drawn_run)[-1] / "weights.safetensors"))


def test_of_weight_0_or_without_a_gradient_it_changes_no_bit(people: Path, drawn_run: Path, tmp_path: Path) -> None:
    """As published, it is a number without a gradient."""
    ways = {
        "zero": drawing(people, {"weight": 0}),
        "number": drawing(people, {"mmd_gradient": False, "halves": "mixed"}),
    }
    for name, one in {**ways, "without": without(drawing(people))}.items():
        assert train(one, 1, tmp_path / name).finished
    assert weights(tmp_path / "zero") == weights(tmp_path / "without") == weights(tmp_path / "number")
    assert weights(tmp_path / "without") != weights(drawn_run)
    assert events(tmp_path / "number", "epoch")[-1]["subjects"] > 0


@pytest.mark.slow
def test_two_ranks_train_as_one_does(people: Path, tmp_path: Path) -> None:
    config = drawing(people, accumulate=2)
    assert train(config, 1, tmp_path / "one").finished
    train_on_two_ranks(config, tmp_path / "two")
    fold = tmp_path / "two" / "fold-1"
    for one, two in zip(events(tmp_path / "one", "step"), events(fold, "step"), strict=True):
        for name in ("loss", "subjects", "subjects_halved"):
            assert one[name] == pytest.approx(two[name], abs=1e-4), name
    one, two = (load_file(checkpoints(folder)[-1] / "weights.safetensors") for folder in (tmp_path / "one", fold))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-4, msg=name)


def _batch(config: Config) -> Any:
    with Store(config.data.store or Path()) as store, closing(Loader(store, config, LABELS)) as loader:
        return next(iter(loader.train(0, batches(config, store, 1, 0))))


def test_it_is_between_the_features_of_other_people(people: Path) -> None:
    config = drawing(people)
    batch, model = _batch(config), build_model(config.model, 3, 1)
    assert batch.subjects.tolist() == [int(name[1:]) % PEOPLE for name in batch.ids]
    output = model.detailed(batch.frames, batch.fbank)
    for halves in ("by_person", "mixed"):
        settings = drawing(people, {"halves": halves}).task.subjects
        torch.manual_seed(3)
        term = Subjects(settings, model, None)
        first = torch.tensor(term._first(batch))
        found = term(output, batch, None)["loss"]
        torch.testing.assert_close(found, discrepancy(output.pooled[first], output.pooled[~first]))
        if halves == "mixed":
            assert first.tolist() == [True] * 4 + [False] * 4
        else:
            assert not {*batch.subjects[first].tolist()} & {*batch.subjects[~first].tolist()}


def test_without_two_halves_it_is_0(people: Path) -> None:
    config = drawing(people)
    batch, model = _batch(config), build_model(config.model, 3, 1)
    term = Subjects(config.task.subjects, model, None)
    output = model.detailed(batch.frames, batch.fbank)
    alone = replace(batch, subjects=torch.tensor([2] * 7 + [1]))
    assert {name: float(value) for name, value in term(output, alone, None).items()} == {"loss": 0, "halved": 0}


HALVES = {
    "nearest to half": ([7, 7, 7, 3, 3, 5, 5, 5], [1, 8, 8, 2, 8, 3, 8, 8], {7}),
    "whoever has the smallest number": ([7, 7, 7, 3, 3, 5, 5, 5], [2, 8, 8, 3, 8, 1, 8, 8], {5}),
    "a person of one clip": ([7, 3, 3, 5, 5], [1, 2, 9, 3, 9], {7, 3}),
    "each another": ([1, 2, 3, 4], [9, 8, 7, 6], {3, 4}),
    "one alone": ([1, 1, 1, 1], [4, 3, 2, 1], {1}),
}


@pytest.mark.parametrize("case", HALVES)
def test_people_are_whole_in_a_half(case: str) -> None:
    shown, order, chosen = HALVES[case]
    assert half_of_people(shown, order) == [person in chosen for person in shown]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "one clip": (
        {"train": {"batch_size": 8, "accumulate": 4}},
        r"task\.subjects needs two clips .* and it has 2 clips",
    ),
    "mixup": ({"data": {"augment": {"mixup": 0.2}}}, r"data\.augment\.mixup blends two: set data\.augment\.mixup 0"),
    "halves": ({"task": {"subjects": {"halves": "some"}}}, r"task\.subjects\.halves"),
    "kernels": ({"task": {"subjects": {"kernels": 0}}}, r"task\.subjects\.kernels"),
    "factor": ({"task": {"subjects": {"factor": 1}}}, r"task\.subjects\.factor"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(people: Path, case: str) -> None:
    changes, told = REFUSED[case]
    tree = drawing(people).model_dump(mode="json", exclude_unset=True)
    for section, values in changes.items():
        tree[section] = {**tree.get(section, {}), **values}
    with pytest.raises(ConfigError, match=told):
        parse(tree, "the test")


def test_stores_without_subjects_and_one_person_alone_are_refused(store: Path, people: Path, tmp_path: Path) -> None:
    process = start(drawing(store), tmp_path / "run")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2, out + err
    assert "(tiny) has no subject of 12 of 12 training clips of fold 1 (c03 for one)" in " ".join(err.split())
    assert "Traceback" not in err
    with Store(people) as opened:
        only = [(replace(clip, subject="person 0"), record) for clip, record in _shown(opened)]
        write_store(tmp_path / "one.store", opened.header, only)
    with pytest.raises(DataError, match="training clips of fold 1 are all of 'person 0'"):
        train(drawing(tmp_path / "one.store"), 1, tmp_path / "one")


def test_the_sampler_by_subject_is_of_a_store_with_subjects(store: Path, people: Path, tmp_path: Path) -> None:
    def by_subject(path: Path, **options: Any) -> Config:
        tree = drawing(path).model_dump(exclude_unset=True)
        tree["data"] |= {"sampler": "by_subject", "sampler_options": options}
        return parse(tree, "the test")

    batch = _batch(by_subject(people, run=4))
    assert len({*batch.subjects[:3].tolist()}) == 1  # three of each person are trained on
    with pytest.raises(ConfigError, match="run is 0, and it is a whole number from 1 on"):
        train(by_subject(people, run=0), 1, tmp_path / "zero")
    with pytest.raises(DataError, match=r"has no subject, and data\.sampler by_subject needs one of each"):
        train(without(by_subject(store)), 1, tmp_path / "bare")


def test_the_shipped_sweep() -> None:
    rows = sweep.read(sweep.find_table("subjects"), (), None)[1]
    found = {name: one.task.subjects for name, one in rows.items()}
    assert found.pop("none") is None
    assert {name: (one.halves, one.mmd_gradient) for name, one in found.items() if one} == {
        "by_person": ("by_person", True),
        "mixed": ("mixed", True),
        "released": ("mixed", False),
    }
