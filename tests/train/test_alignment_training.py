"""Training with `task.align`: what it is the mean of, exact resume, one and two ranks, refusals, and exports."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from setting import SIDE, StopAt, checkpoints, events, make_config, start, train_on_two_ranks, weights, without

from mmadfer.config import sweep
from mmadfer.config.schema import Config, parse
from mmadfer.data.loading.loader import Loader, batches
from mmadfer.data.sets.drawn_face import placed, unit_points
from mmadfer.data.store.store import Clip, ClipRecord, Store, write_store
from mmadfer.errors import ConfigError, DataError
from mmadfer.export.graph.to_onnx import build_graph
from mmadfer.model.weights.build import build_model
from mmadfer.model.weights.load import load
from mmadfer.tasks.action_units import class_map
from mmadfer.tasks.alignment import Alignment
from mmadfer.tasks.output import Output
from mmadfer.train.loop import train

LABELS = ["happy", "sad", "neutral"]


def _labelled(store: Store, landmarks: bool) -> Iterator[tuple[Clip, ClipRecord]]:
    """glad, sad and calm are called happy, sad and neutral; the landmarks of frame 0 of clip 4 are not known."""
    for number, name in enumerate(sorted(store.clips)):
        clip, record = store.clips[name], store.read(name)
        label = {"glad": "happy", "calm": "neutral"}.get(clip.label, clip.label)
        rng = np.random.default_rng(number)
        faces = [
            placed(unit_points(0.1, 0), *rng.uniform(0.4, 0.6, 2) * SIDE, 0.4 * SIDE, rng.uniform(-10, 10))
            for _ in range(clip.frames)
        ]
        points = np.stack(faces).astype(np.float16)
        if number == 4:
            points[0] = np.nan
        tensors = {"landmarks": points} if landmarks else {}
        yield replace(clip, label=label, tensors=dict.fromkeys(tensors, "")), replace(record, tensors=tensors)


def _rewritten(source: Path, path: Path, landmarks: bool) -> Path:
    with Store(source) as store:
        write_store(path, replace(store.header, labels=tuple(LABELS)), _labelled(store, landmarks))
    return path


@pytest.fixture(scope="module")
def faces(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny store with landmarks."""
    return _rewritten(store, tmp_path_factory.mktemp("faces") / "faces.store", landmarks=True)


def aligning(store: Path, align: dict[str, Any] | None = None, **train: Any) -> Config:
    """Patches of 16 pixels make a grid of 2 x 2, so they are 8 pixels wide here."""
    tree = make_config(store, task={"align": align or {}}, **train).model_dump(exclude_unset=True)
    tree["model"]["vision"] |= {"patch": 8}
    return parse(tree, "the test")


@pytest.fixture(scope="module")
def aligned_run(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("aligned") / "fold-1"
    assert train(aligning(faces), 1, folder).finished
    return folder


def test_the_parts_are_shown_and_make_the_loss(aligned_run: Path) -> None:
    for event in [*events(aligned_run, "step"), *events(aligned_run, "epoch")]:
        assert event["loss"] == pytest.approx(event["task_loss"] + 9 * event["align"], abs=1e-4)
        assert event["align_cosine"] == pytest.approx(1 - event["align"], abs=1e-5)
        assert 0 < event["align_share"] < 1
    first, last = events(aligned_run, "epoch")
    assert last["align"] < first["align"]
    log = (aligned_run / "log.txt").read_text()
    assert "task.align draws attention in 8 of 12 training clips; of the others, 4 have a label without action" in log


def test_resumes_to_the_bit(faces: Path, aligned_run: Path, tmp_path: Path) -> None:
    config = aligning(faces)
    assert not train(config, 1, tmp_path, stop=StopAt(1)).finished
    assert train(config, 1, tmp_path, resume=True).finished
    assert weights(tmp_path) == weights(aligned_run)


def test_of_weight_0_it_changes_no_bit(faces: Path, tmp_path: Path) -> None:
    config = aligning(faces, {"weight": 0, "layers": [0, "last"]})
    for name, one in (("with", config), ("without", without(config))):
        assert train(one, 1, tmp_path / name).finished
    assert weights(tmp_path / "with") == weights(tmp_path / "without")


@pytest.mark.slow
def test_two_ranks_train_as_one_does(faces: Path, tmp_path: Path) -> None:
    """Also where the ranks have maps of unequal numbers of frames: it is the mean over the frames of both."""
    config = aligning(faces, accumulate=2)
    assert train(config, 1, tmp_path / "one").finished
    train_on_two_ranks(config, tmp_path / "two")
    fold = tmp_path / "two" / "fold-1"
    for one, two in zip(events(tmp_path / "one", "step"), events(fold, "step"), strict=True):
        for name in ("loss", "align", "align_cosine", "align_share"):
            assert one[name] == pytest.approx(two[name], abs=1e-4), name
    one, two = (load_file(checkpoints(folder)[-1] / "weights.safetensors") for folder in (tmp_path / "one", fold))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-4, msg=name)


def _terms(config: Config) -> tuple[Any, Any, Any]:
    """The model, the term, and a batch."""
    model = build_model(config.model, 3, 1)
    with Store(config.data.store or Path()) as store:
        loader = Loader(store, config, LABELS)
        batch = next(iter(loader.train(0, batches(config, store, 1, 0))))
        loader.close()
    return model, Alignment(config.task.align, model, None), batch


def test_the_loss_of_a_batch_is_the_mean_over_its_frames_with_a_map(faces: Path) -> None:
    model, term, batch = _terms(aligning(faces, {"layers": [0, "last"]}, batch_size=12))
    assert term.layers == {0, 1}
    output = model.detailed(batch.frames, batch.fbank, layers=term.layers)
    found = term(output, batch, None)
    cosines = list[float]()
    for k in range(12):
        label = LABELS[batch.targets["label"][k]]
        for t in range(4):
            wanted, valid = class_map(batch.landmarks[k, t], (SIDE, SIDE), label, (4, 4))
            assert bool(valid) == (label != "neutral" and bool(batch.landmarks[k, t].isfinite().all()))
            for layer in (0, 1):
                attention = output.features[layer].vision[k, t, 1:17].mean(-1).view(4, 4)  # CLS before, prompts after
                cosine = ((attention * wanted).sum() / attention.norm() / wanted.norm()).detach()
                cosines += [float(cosine)] * bool(valid)
    assert float(found["loss"].detach()) == pytest.approx(1 - np.mean(cosines), abs=1e-5)
    assert float(found["cosine"]) == pytest.approx(np.mean(cosines), abs=1e-5)
    assert float(found["share"]) == pytest.approx(len(cosines) / 2 / 48)


def test_without_a_map_the_loss_is_0_and_moves_nothing(faces: Path) -> None:
    model, term, batch = _terms(aligning(faces))
    bare = replace(batch, landmarks=torch.full_like(batch.landmarks, torch.nan))
    found = term(model.detailed(batch.frames, batch.fbank, layers=term.layers), bare, None)
    assert {name: float(value.detach()) for name, value in found.items()} == {"loss": 0, "cosine": 0, "share": 0}
    found["loss"].backward()
    assert all(one.grad is None or not one.grad.any() for one in model.parameters())


def test_prompts_and_bottlenecks_learn_from_it(faces: Path) -> None:
    model, term, batch = _terms(aligning(faces))
    term(model.detailed(batch.frames, batch.fbank, layers=term.layers), batch, None)["loss"].backward()
    moved = {name for name, one in model.named_parameters() if one.grad is not None and one.grad.any()}
    assert {"vision.prompts.initial", "vision.positions", "fusion.0.vision.gate"} <= moved
    assert not any(name.startswith(("classifier.", "temporal.", "vision.blocks.", "vision.norm.")) for name in moved)


def test_attention_after_the_last_norm_would_be_the_same_everywhere(faces: Path) -> None:
    model, term, batch = _terms(aligning(faces))
    output: Output = model.detailed(batch.frames, batch.fbank, layers=term.layers)
    tokens = output.features[1].vision
    assert tokens is not None
    before, after = term.attention(tokens), term.attention(model.vision.norm(tokens))
    assert before.std(dim=(2, 3)).min() > 1e-3
    assert after.std(dim=(2, 3)).max() < 1e-6


@pytest.mark.slow
def test_nothing_of_it_is_exported(faces: Path, aligned_run: Path, tmp_path: Path) -> None:
    assert train(without(aligning(faces)), 1, tmp_path / "plain").finished
    one, other = (load(folder) for folder in (aligned_run, tmp_path / "plain"))
    assert one.state_dict().keys() == other.state_dict().keys()
    assert one.contract is not None
    assert other.contract is not None
    assert "align" not in one.contract.model_dump_json()
    other.load_state_dict(one.state_dict())
    graphs = [build_graph(model, model.contract).graph for model in (one, other)]
    assert graphs[0].SerializeToString() == graphs[1].SerializeToString()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "layer": (
        {"task": {"align": {"layers": [0, 2]}}},
        r"task\.align\.layers names layer 2, but the model has 2: .* 0 to 1",
    ),
    "twice": ({"task": {"align": {"layers": [1, "last"]}}}, r"task\.align\.layers names a layer twice: 1, last"),
    "negative": ({"task": {"align": {"layers": [-1]}}}, r"task\.align\.layers"),
    "none": ({"task": {"align": {"layers": []}}}, r"task\.align\.layers"),
    "kind": ({"task": {"align": {"kind": "cosine"}}}, r"task\.align\.kind"),
    "disgust": ({"task": {"align": {"disgust": "paper"}}}, r"task\.align\.disgust"),
    "mixup": (
        {"data": {"augment": {"mixup": 0.2}}},
        r"data\.augment\.mixup blends two faces: set data\.augment\.mixup 0",
    ),
    "branches": ({"model": {"branches": "audio", "fusion": "none"}}, r"model\.branches audio shows none"),
    "modalities": ({"data": {"modalities": "audio"}}, r"data\.modalities audio shows none"),
    "values": (
        {
            "task": {"name": "regression", "values": {"valence": [-1, 1]}},
            "model": {"head": {"name": "values", "range": [-1, 1]}},
        },
        r"task regression gives values: leave task\.align out",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(faces: Path, case: str) -> None:
    changes, told = REFUSED[case]
    tree = json.loads(json.dumps(aligning(faces).model_dump(mode="json", exclude_unset=True)))
    for section, values in changes.items():
        tree[section] = {**tree.get(section, {}), **values}
        if section == "task":
            tree[section].setdefault("align", {})
    with pytest.raises(ConfigError, match=told):
        parse(tree, "the test")


def test_a_store_without_landmarks_and_labels_without_units_are_refused(
    faces: Path, store: Path, tmp_path: Path
) -> None:
    bare = _rewritten(store, tmp_path / "bare.store", landmarks=False)
    with pytest.raises(DataError, match=r"bare\.store has no reliable landmarks of the clips that fold 1 trains on"):
        train(aligning(bare), 1, tmp_path / "bare")
    process = start(aligning(bare), tmp_path / "run")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2, out + err
    assert "has no reliable landmarks" in err
    assert "Traceback" not in err
    only_glad = aligning(store)
    tree = only_glad.model_dump(exclude_unset=True)
    tree["data"]["labels"] = ["glad", "calm"]
    with pytest.raises(ConfigError, match="none of the labels glad, calm has action units"):
        train(parse(tree, "the test"), 1, tmp_path / "glad")


def test_the_shipped_sweep() -> None:
    rows = sweep.read(sweep.find_table("alignment"), (), None)[1]
    found = {name: one.task.align for name, one in rows.items()}
    assert found.pop("lambda_0") is None
    assert {name: (one.weight, one.layers, one.kind, one.disgust) for name, one in found.items() if one} == {
        "lambda_1": (1, ("last",), "random_avg", "program"),
        "lambda_9": (9, ("last",), "random_avg", "program"),
        "layers_3_7_11": (9, (3, 7, 11), "random_avg", "program"),
        "std_cosine": (9, ("last",), "std_cosine", "program"),
        "disgust_facs10": (9, ("last",), "random_avg", "facs10"),
    }
