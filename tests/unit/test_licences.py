"""What parts of a model may be used for, and who is refused."""

import json

import pytest
from model_setup import contract

from mmadfer.contract import Contract, encoder_licences, loads, origins_of, teacher_facts
from mmadfer.contract.licences import NOT_KNOWN, licence_table, parse_stated
from mmadfer.contract.parts import hub_licence, parts_of, refuse_non_commercial
from mmadfer.data.sets import DATA_SETS
from mmadfer.errors import ConfigError, LicenceError

FREE = {"mmadfer": "Apache-2.0", "MAE-Face": "MIT"}


def model(data_set: str, licences: dict[str, str] | None = None, **changes: object) -> Contract:
    return contract().model_copy(update={"data_set": data_set, "licences": licences or FREE, **changes})


def verdicts(found: Contract, **stated: str) -> dict[str, bool | None]:
    return {part.name: part.commercial for part in parts_of(found, stated)}


def test_every_set_that_has_a_name_has_its_terms_and_all_licences_are_known() -> None:
    table = licence_table()
    assert set(DATA_SETS.own) - {"folder", "csv"} == set(table.data_sets)
    named = [facts.licence for facts in (*table.parts.values(), *table.data_sets.values()) if facts.licence]
    assert set(named) <= set(table.licences)
    assert encoder_licences() == {"MAE-Face": "MIT", "AudioMAE": "CC BY-NC 4.0"}


@pytest.mark.parametrize(
    ("data_set", "allowed"),
    [("crema_d", True), ("toy", True), ("dfew", False), ("ravdess", False), ("affwild2", False), ("meld", None)],
)
def test_data_bind_the_model(data_set: str, allowed: bool | None) -> None:
    assert verdicts(model(data_set)) == {"mmadfer": True, "MAE-Face": True, "MTCNN": True, data_set: allowed}


def test_all_that_is_in_the_way_is_named() -> None:
    licences = {**FREE, "AudioMAE": "CC BY-NC 4.0", "timm vit": "see the model card of its weights"}
    with pytest.raises(LicenceError) as refused:
        refuse_non_commercial(parts_of(model("my clips", licences)), "mine.onnx")
    told = str(refused.value)
    assert "mine.onnx cannot be exported for commercial use" in told
    assert "AudioMAE (weights): CC BY-NC 4.0, commercial use not allowed" in told
    assert f"timm vit (weights): {NOT_KNOWN}, commercial use not known" in told
    assert f"my clips (data): {NOT_KNOWN}" in told
    assert "--licence 'AudioMAE=own'" in told
    assert "MTCNN" not in told


def test_what_a_contract_says_of_a_known_part_does_not_count() -> None:
    assert verdicts(model("toy", {**FREE, "AudioMAE": "MIT", "timm vit": "MIT"}))["AudioMAE"] is False
    assert verdicts(model("toy", {**FREE, "timm vit": "MIT"}))["timm vit"] is True


def test_licences_that_are_stated_count_and_are_marked() -> None:
    licences = {**FREE, "AudioMAE": "CC BY-NC 4.0"}
    stated = parse_stated(["AudioMAE=own", "my clips = CC BY 4.0"])
    parts = parts_of(model("my clips", licences), stated)
    refuse_non_commercial(parts, "mine.onnx")
    assert [part.name for part in parts if part.stated] == ["AudioMAE", "my clips"]


@pytest.mark.parametrize(
    ("line", "words"),
    [("AudioMAE", "must read PART=LICENCE"), ("=own", "must read"), ("a=CC BY-NC 4", "did you mean 'CC BY-NC 4.0'")],
)
def test_licences_that_cannot_be_stated(line: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_stated([line])


def test_a_licence_of_no_part_is_a_slip() -> None:
    with pytest.raises(
        ConfigError, match="'AudioMae', which is no part of this model: its parts are mmadfer, MAE-Face"
    ):
        parts_of(model("toy"), {"AudioMae": "own"})


def test_released_weights_and_teachers_bind_too() -> None:
    assert verdicts(model("dfew", {**FREE, "weights": "as the data set's (dfew)"}))["weights"] is False
    assert verdicts(model("unknown", {**FREE, "weights": "as the data set's (unknown)"}))["weights"] is None
    student = model("toy", {**FREE, "AudioMAE (teacher)": "CC BY-NC 4.0"}, teacher=teacher_facts("t", model("dfew")))
    found = verdicts(student)
    assert (found["AudioMAE (teacher)"], found["dfew"], found["toy"]) == (False, False, True)


def test_what_a_model_began_with_binds_it_too() -> None:
    films = model("dfew", {**FREE, "AudioMAE": "CC BY-NC 4.0"})
    own = model("my clips")
    tuned = own.model_copy(update={"origins": origins_of(own, films, None)})
    with pytest.raises(LicenceError, match=r"(?s)AudioMAE \(weights\).*dfew \(data\)"):
        refuse_non_commercial(parts_of(tuned, {"my clips": "own"}), "mine.onnx")
    refuse_non_commercial(parts_of(tuned, {"my clips": "own", "AudioMAE": "own", "dfew": "own"}), "mine.onnx")
    names = [part.name for part in parts_of(tuned)]
    assert len(names) == len(set(names)) == 6, "none is told twice"
    again = model("toy")
    chained = again.model_copy(update={"origins": origins_of(again, tuned, None)})
    assert {"dfew", "my clips", "AudioMAE"} <= set(verdicts(chained))
    student = model("toy", teacher=teacher_facts("t", tuned))
    assert [one.data_set for one in origins_of(student, None, tuned)] == ["dfew"], "its teacher began with it"
    taught = model("crema_d", teacher=teacher_facts("t", model("dfew")))
    assert {one.data_set for one in origins_of(again, taught, model("toy", teacher=teacher_facts("t", films)))} == {
        "crema_d",
        "dfew",
    }, "the teachers of both"


def test_a_contract_of_what_began_with_nothing_else_is_written_as_before() -> None:
    own = model("toy")
    assert origins_of(own, model("toy"), None) == ()
    assert "origins" not in json.loads(own.dumps())
    told = own.model_copy(update={"origins": origins_of(own, model("dfew"), None)})
    assert json.loads(told.dumps())["origins"] == [{"data_set": "dfew", "licences": FREE}]
    assert loads(told.dumps()) == told


def test_the_hubs_name_is_that_of_the_one_licence_that_binds() -> None:
    nc = {**FREE, "AudioMAE": "CC BY-NC 4.0"}
    assert hub_licence(parts_of(model("crema_d", nc))) == "cc-by-nc-4.0"
    assert hub_licence(parts_of(model("ravdess", nc))) is None, "two bind"
    assert hub_licence(parts_of(model("dfew", nc))) is None, "the hub has no name of one"
    assert hub_licence(parts_of(model("meld", nc))) is None, "one is not known"
    assert hub_licence(parts_of(model("toy"))) is None, "nobody has said what the weights are under"
