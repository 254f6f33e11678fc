"""What a contract refuses to say."""

import json

import pytest
from model_setup import contract

from mmadfer.contract import check_batch, inherited, loads, other_looks
from mmadfer.contract.description import describe_contract
from mmadfer.contract.facts import Looks
from mmadfer.errors import ConfigError, WeightsError


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("sad\nglad", "angry"), r"labels\.0: .*no control characters or line breaks"),
        (("sad", "\x1b[2Jglad"), r"labels\.1: "),
        (("sad", "\u202edalg"), r"labels\.1: "),
        (("sad", "glad", "sad"), "labels name 'sad' twice"),
    ],
)
def test_labels_are_lines_of_their_own(labels: tuple[str, ...], words: str) -> None:
    written = contract(labels=("a", "b")).model_copy(update={"labels": labels}).dumps()
    with pytest.raises(WeightsError, match=words):
        loads(written)


def test_labels_of_every_language_are_taken() -> None:
    labels = ("wütend", "怒り", "غاضب", "two words", "fear/surprise", "می\u200cترسد")
    assert loads(contract(labels=labels).dumps()).labels == labels


def test_a_student_is_bound_by_its_teachers_licences() -> None:
    own = {"mmadfer": "Apache-2.0", "MAE-Face": "MIT"}
    theirs = {"mmadfer": "Apache-2.0", "MAE-Face": "MIT", "AudioMAE": "CC BY-NC 4.0", "timm vit (teacher)": "MIT"}
    wanted = {**own, "AudioMAE (teacher)": "CC BY-NC 4.0", "timm vit (teacher)": "MIT"}
    assert inherited(own, theirs) == wanted
    assert inherited(own, wanted) == wanted, "the teacher of a teacher"


def test_batches_rise_from_one() -> None:
    check_batch((1, 1, 1))
    for batch in ((0, 1, 2), (1, 3, 2), (3, 2, 4)):
        with pytest.raises(ConfigError, match=rf"--batch {batch[0]} {batch[1]} {batch[2]}: .*rising from 1"):
            check_batch(batch)


def test_a_temperature_is_told_of_other_looks_than_its_own() -> None:
    plain = contract(labels=("a", "b")).model_copy(update={"temperature": 2.0})
    assert "looks" not in plain.dumps()
    assert other_looks(plain, 1, False) == ""
    assert other_looks(plain, 5, True) == (
        "calibrated by a temperature of other looks (1 index set of frames, not mirrored; here 5 index sets of frames, "
        "each also mirrored): it holds with --clips 1"
    )
    several = loads(plain.model_copy(update={"temperature_looks": Looks(clips=5, flips=True)}).dumps())
    assert several.temperature_looks == Looks(clips=5, flips=True)
    assert describe_contract(several)["temperature"] == "2.000 (5 index sets of frames, each also mirrored)"
    assert other_looks(several, 5, True) == ""
    assert other_looks(several, 1, True).endswith("it holds with --clips 5 --flips")
    with pytest.raises(WeightsError, match="temperature_looks needs temperature"):
        loads(several.model_copy(update={"temperature": None}).dumps())


LIES = {
    "model.vision.depth": 10**9,
    "model.audio.width": 2**40,
    "model.vision.heads": 10**6,
    "model.vision.mlp_ratio": 1e30,
    "model.vision.patch": 10**7,
    "model.vision.seed": 2**64,
    "model.vision.timm": "hf-hub:of/others\x1b",
    "model.image_size": 2**40,
    "model.frames": 10**12,
    "model.fbank": [2**40, 2**40],
    "model.fusion.latent": 10**9,
    "model.fusion.adapters": 4 * 10**9,
    "model.prompts": 10**9,
    "model.lora.rank": 10**9,
    "model.temporal.depth": 10**9,
    "model.joint.width": 10**9,
    "model.temporal.head_width": 10**9,
    "model.temporal.mlp_width": 2**60,
    "prepare.sound.frames": 10**12,
    "prepare.max_seconds": 1e300,
    "labels": [],
    "fold": -1,
    "epochs": 10**40,
    "batch": [1, 8, 10**9],
    "sound_rates": [0],
    "waveform_rate": 16000,
    "input": "waveform",
    "priors": [-1.0, 2.0],
    "data_set": "a\x1b]0;b",
    "encoder_hash": "a\nb",
}


@pytest.mark.parametrize(("key", "value"), LIES.items(), ids=LIES.keys())
def test_what_no_model_has_is_refused(key: str, value: object) -> None:
    tree = json.loads(contract(labels=("a", "b")).dumps())
    *parents, last = key.split(".")
    place = tree
    for name in parents:
        place = place[name]
    place[last] = value
    with pytest.raises(
        WeightsError, match=r"m\.onnx carries a contract that this version of mmadfer does not"
    ) as caught:
        loads(json.dumps(tree), "m.onnx")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "[" * 100_000, '{"labels": 1e999}', " " * (1 << 21), '{"a": "\\ud800"}', "\udcff"]
)
def test_what_is_no_contract_is_refused(text: str) -> None:
    with pytest.raises(WeightsError, match=r"m\.onnx carries a contract that this version of mmadfer does not"):
        loads(text, "m.onnx")
