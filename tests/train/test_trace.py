"""`mmadfer train --profile`: a trace of a few steps that Perfetto opens, and the same weights."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from setting import StopAt, make_config, start, weights

from mmadfer.train.loop import train
from mmadfer.train.trace import SKIPPED, STEPS


def ranges(folder: Path, name: str) -> list[dict[str, Any]]:
    """Events of this name that a user's program has marked."""
    found = json.loads(gzip.decompress((folder / "trace.json.gz").read_bytes()))["traceEvents"]
    return [event for event in found if event.get("cat") == "user_annotation" and event["name"] == name]


def test_a_profiled_training_has_a_trace_and_the_same_weights(store: Path, tmp_path: Path) -> None:
    config = make_config(store, epochs=3)
    assert train(config, 1, tmp_path / "plain").finished
    process = start(config, tmp_path / "run", "--profile")
    out, err = process.communicate(timeout=300)
    assert not process.returncode, err
    assert "ERROR" not in err
    folder = tmp_path / "run" / "fold-1"
    assert weights(folder) == weights(tmp_path / "plain")
    assert f"{STEPS} steps are recorded in {folder / 'trace.json.gz'}: open it at https://ui.perfetto.dev" in out
    for name in ("forward", "backward", "optimizer"):
        found = ranges(folder, name)
        assert len(found) == STEPS, name
        assert all(event["dur"] > 0 for event in found)
    assert len(ranges(folder, "data")) >= STEPS
    assert not list(folder.glob(".*.tmp"))


def test_what_there_is_of_a_training_that_ends_before_is_written(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, folder = make_config(store, batch_size=2, epochs=1), tmp_path / "some"
    assert not train(config, 1, folder, stop=StopAt(SKIPPED + 1), profile=True).finished
    assert "fold 1  2 steps are recorded" in capsys.readouterr().out
    assert len(ranges(folder, "forward")) == 2
    assert train(config, 1, folder, resume=True).finished
    assert train(config, 1, tmp_path / "plain").finished
    assert weights(folder) == weights(tmp_path / "plain")


def test_a_training_too_short_for_a_trace_says_so(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not train(make_config(store), 1, tmp_path / "fold", stop=StopAt(1), profile=True).finished
    assert "no trace: training ended after 2 steps, and the first 3 are not recorded" in capsys.readouterr().out
    assert not (tmp_path / "fold" / "trace.json.gz").exists()


def test_a_trace_that_cannot_be_written_does_not_end_training(
    straight: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "fold"
    (folder / "trace.json.gz").mkdir(parents=True)
    assert train(make_config(store), 1, folder, resume=True, profile=True).finished
    assert "WARNING: the trace" in capsys.readouterr().out
    assert weights(folder) == weights(straight)
