"""bench/same.py: values are compared bit for bit, renamed ones too, and what cannot be compared is told."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from needs import needed

PROGRAM = Path(__file__).parents[2] / "bench" / "same.py"
pytestmark = pytest.mark.usefixtures("_programs")


@pytest.fixture
def _programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PROGRAM.parent))


@pytest.mark.parametrize(
    ("old", "new", "equal"),
    [
        (0.1, 0.1, True),
        (0.1, np.nextafter(0.1, 1).item(), False),
        (0.0, -0.0, False),
        (float("nan"), float("nan"), True),
        (1, 1.0, True),
        (1, True, False),
        (1.0, "1.0", False),
        (None, None, True),
        (None, 0.0, False),
        (np.zeros(2), np.zeros(2), True),
        (np.zeros(2), -np.zeros(2), False),
        (np.zeros(2), np.zeros((2, 1)), False),
        (np.zeros(2), np.zeros(2, np.float32), False),
        (np.full(2, np.nan), np.full(2, np.nan), True),
    ],
)
def test_two_values_are_the_same_only_bit_for_bit(old: object, new: object, equal: bool) -> None:
    from _same_values import same

    assert same(old, new) is equal


def test_the_first_difference_is_told_with_its_place() -> None:
    from _same_values import compare

    old = {"a": np.zeros((2, 3), np.float32), "b": np.arange(6, dtype=np.float32).reshape(2, 3), "c": 1.0}
    new = old | {"b": old["b"].copy(), "c": 2.0}
    new["b"][1, 2] = np.nextafter(np.float32(5), np.float32(6))
    found = compare(old, new)
    assert found.equal == 1
    assert found.differences == ["b: [1, 2] 5.0 in OLD, 5.0000005 in NEW (1 of 6 numbers)", "c: 1.0 in OLD, 2.0 in NEW"]


def test_a_renamed_value_is_still_compared() -> None:
    from _same_values import compare, flat

    old, new = flat({"mean": {"uar": 0.5, "war": 0.6}}), flat({"mean": {"scores": {"uar": 0.5, "war": 0.7}}})
    found = compare(old, new, [r"^mean\.uar$"])
    assert found.equal == 1
    assert found.differences == ["mean.war: 0.6 in OLD, 0.7 in NEW"]
    with pytest.raises(ValueError, match="two values are called uar"):
        compare(flat({"uar": 1.0, "scores": {"uar": 0.5}}), {})


def test_what_one_side_lacks_is_told_and_what_is_needed_must_be_there() -> None:
    from _same_values import compare, flat

    old = flat({"folds": [{"uar": 0.5, "gone": 1}, {"uar": 0.5, "gone": 2}]})
    new = flat({"folds": [{"uar": 0.5}, {"uar": 0.5}], "more": None})
    found = compare(old, new, [r"\buar$"])
    assert not found.differences
    assert found.notes == ["only in OLD: folds.*.gone", "only in NEW: more"]
    assert compare(old, new, whole=True).differences == found.notes
    assert ["confusion" in text for text in compare(old, new, ["^confusion"]).differences] == [True]


def test_a_list_that_grows_differs() -> None:
    from _same_values import compare, flat

    assert compare(flat({"faults": []}), flat({"faults": ["NaN"]})).differences == ["faults.length: 0 in OLD, 1 in NEW"]


def test_times_and_paths_are_not_compared_and_prose_is_noted() -> None:
    from _same_values import compare

    old = {"run": "a", "about.git": "1", "folds.0.seconds": 1.0, "label": "sad", "note": "two words"}
    found = compare(old, {"run": "b", "about.git": "2", "folds.0.seconds": 2.0, "label": "sad", "note": "other words"})
    assert (found.equal, found.differences, found.ignored) == (1, [], {"run", "git", "seconds"})
    assert found.notes == ["note: 'two words' in OLD, 'other words' in NEW (text)"]
    assert compare(old, old | {"label": "happy"}).differences == ["label: 'sad' in OLD, 'happy' in NEW"]


def test_every_kind_of_file_becomes_one_table(tmp_path: Path) -> None:
    from _same_values import of_events, of_metadata, of_rows, of_tensors
    from safetensors.numpy import save_file

    rows, events, tensors = tmp_path / "rows.csv", tmp_path / "events.jsonl", tmp_path / "model.safetensors"
    rows.write_text("id,p_sad\nx,0.5\ny,\n")
    events.write_text("\n".join(map(json.dumps, [{"event": "step", "loss": 1.5}, {"event": "step", "loss": 0.5}])))
    save_file({"bias": np.ones(2, np.float32)}, tensors, {"contract": '{"labels": ["sad"]}', "hash": "12e"})
    assert of_rows(rows) == {"length": 2, "0.id": "x", "0.p_sad": 0.5, "1.id": "y", "1.p_sad": ""}
    assert of_events(events) == {"step.0.loss": 1.5, "step.1.loss": 0.5, "step.length": 2}
    assert of_tensors(tensors)["bias"].tolist() == [1, 1]
    assert of_metadata(tensors) == {"contract.labels.length": 1, "contract.labels.0": "sad", "hash": "12e"}


def test_two_graphs_get_the_same_inputs_whatever_these_are_called(tmp_path: Path) -> None:
    onnx, _ = needed("onnx"), needed("onnxruntime")
    from _same_values import compare, of_answers

    def answers(name: str, input_: str, factor: float) -> dict[str, np.ndarray]:
        helper, kind = onnx.helper, onnx.TensorProto.FLOAT
        made = helper.make_graph(
            [helper.make_node("Mul", [input_, "factor"], ["logits"])],
            "graph",
            [helper.make_tensor_value_info(input_, kind, ["batch", 3])],
            [helper.make_tensor_value_info("logits", kind, ["batch", 3])],
            [helper.make_tensor("factor", kind, [1], [factor])],
        )
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.save(model, tmp_path / name)
        return of_answers(tmp_path / name)

    old = answers("old.onnx", "fbank", 2.0)
    assert old["logits"].shape == (4, 3)
    assert not compare(old, answers("new.onnx", "sound", 2.0), ["^logits$"], whole=True).differences
    changed = compare(old, answers("changed.onnx", "fbank", np.nextafter(np.float32(2), np.float32(3)).item()))
    assert changed.differences[0].startswith("logits: [0, 0] ")


def test_a_lost_file_and_another_video_differ(tmp_path: Path) -> None:
    from same import THINGS, compared, files_compared, line

    sides = [tmp_path / "old", tmp_path / "new"]
    for side, text in zip(sides, ("one", "two"), strict=True):
        side.mkdir()
        (side / "same.mp4").write_text("video")
        (side / "other.mp4").write_text(text)
    videos = files_compared(*sides)
    assert (videos.equal, videos.differences) == (1, ["other.mp4"])
    assert line("videos", videos).split() == ["videos", "DIFFERS", "other.mp4;", "1", "of", "2"]
    for thing in THINGS:
        assert compared(thing, *sides).differences[0].startswith("not found: ")


def test_only_its_own_folders_are_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from same import make

    theirs = tmp_path / "old"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        make(theirs, "0" * 40, [], None, [])
    assert (theirs / "thesis.txt").exists()
    assert "was not made by this program" in capsys.readouterr().err


def test_a_commit_that_is_not_there_is_no_difference() -> None:
    command = [sys.executable, str(PROGRAM), "no-such-commit", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no-such-commit: no such commit" in done.stderr
