"""`mmadfer train --profile`: a trace of a few steps that Perfetto opens, and the same weights."""

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from setting import StopAt, make_config, start, weights
from torch.profiler import ProfilerActivity, profile

from mmadfer.config.schema import Config
from mmadfer.train.loop import train
from mmadfer.train.profiler import PROFILED_STEPS, SKIPPED, pack


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
    assert (
        f"{PROFILED_STEPS} steps are recorded in {folder / 'trace.json.gz'}: open it at https://ui.perfetto.dev" in out
    )
    for name in ("forward", "backward", "optimizer"):
        found = ranges(folder, name)
        assert len(found) == PROFILED_STEPS, name
        assert all(event["dur"] > 0 for event in found)
    assert len(ranges(folder, "data")) >= PROFILED_STEPS
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


def test_a_finished_fold_says_that_it_has_no_trace(
    straight: Path, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(config, 1, straight, resume=True, profile=True).finished
    assert "fold 1  no trace: the fold is finished" in capsys.readouterr().out
    assert train(config, 1, straight, resume=True).finished
    assert "trace" not in capsys.readouterr().out


def test_a_trace_is_compressed_a_piece_at_a_time(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.json", tmp_path / "packed.gz"
    plain.write_text("{\n" + 400_000 * '  {"name": "forward", "args": [1, 2, 3]},\n' + "  {}\n}")
    tracemalloc.start()
    pack(plain, packed)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    assert most < plain.stat().st_size / 4


@pytest.mark.parametrize("cut", [1, 2, 9, 1000])
def test_a_trace_that_is_cut_is_not_taken(tmp_path: Path, cut: int) -> None:
    plain = tmp_path / "plain.json"
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as running:
        torch.rand(8, 8) @ torch.rand(8, 8)
    running.export_chrome_trace(str(plain))
    pack(plain, tmp_path / "whole.gz")
    assert json.loads(gzip.decompress((tmp_path / "whole.gz").read_bytes()))["traceEvents"]
    plain.write_bytes(plain.read_bytes()[:-cut])
    with pytest.raises(OSError, match="its end is missing"):
        pack(plain, tmp_path / "cut.gz")
    plain.write_bytes(b"")
    with pytest.raises(OSError, match="its end is missing"):
        pack(plain, tmp_path / "cut.gz")


def test_a_trace_that_cannot_be_written_does_not_end_training(
    straight: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "fold"
    (folder / "trace.json.gz").mkdir(parents=True)
    assert train(make_config(store), 1, folder, resume=True, profile=True).finished
    assert "WARNING: the trace" in capsys.readouterr().out
    assert weights(folder) == weights(straight)
