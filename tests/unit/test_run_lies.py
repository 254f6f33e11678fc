"""Small files of a run with values that no run has: told in plain words, whatever they are, and never waited for."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from test_report import make_run, told

from mmadfer.errors import FileError, MmadferError, RunError
from mmadfer.evaluation.compare import compare
from mmadfer.launch import status as states
from mmadfer.run import directory as runs
from mmadfer.run import launch_record
from mmadfer.run.lease import lease
from mmadfer.run.owner import this_process

DEEP = "[" * 100_000
RAW = ("", "{", "null", "5", "[]", '"x"', DEEP, '{"a":' * 100_000, "\xff", '{"finished": true}')
VALUES = (
    *(None, "x", "", "\u001b[31m<b>", [], {}, [1], ["x"], {"a": 1}, [[[1]]], -1, 0, 10**9, 10**30, 10**400, 0.5),
    *(True, float("nan"), float("inf"), -1e308),
)
LAUNCH = {
    "folds": [1, 2],
    "options": {
        **{"cluster": "local", "gpus": 0, "nodes": 1, "cpus": 1, "parallel": 2, "time": "5", "partition": None},
        "export": False,
    },
    "jobs": {"fold 1": "7_0", "report": "8"},
    "launcher": vars(this_process()),
    "logs": "",
}


def _changes(tree: Any) -> Iterator[Any]:
    """The tree with each value of it in turn replaced by each of VALUES."""
    yield from VALUES
    for key in tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        for change in _changes(tree[key]):
            if isinstance(tree, dict):
                yield {**tree, key: change}
            else:
                yield [*tree[:key], change, *tree[key + 1 :]]


def _texts(tree: Any) -> Iterator[str]:
    yield from RAW
    yield from (json.dumps(change) for change in _changes(tree))


def _reported(run: Path) -> None:
    told(run)


def _shown(run: Path) -> None:
    with open(os.devnull, "w") as nowhere:
        states.show_status(states.read_status(run), Console(file=nowhere))


EPOCH = {"event": "epoch", "epoch": 1, "step": 3, "loss": 1.0, "uar": 0.5, "war": 0.5, "seconds": 2.0}
FAILED = {"reason": "x", "plain": True, "log": None, "at": "now"}
FILES: dict[str, tuple[Any, tuple[Callable[[Path], object], ...]]] = {
    "jobs/launch.json": (LAUNCH, (_shown,)),
    "fold-2/metrics.jsonl": (EPOCH, (_shown,)),
    "fold-2/failed.json": (FAILED, (_shown,)),
    "fold-2/.lease-1": (vars(this_process()), (_shown,)),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("lies") / "run", (1, 2), "data.folds=3")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.slow
def test_status_is_shown_or_the_file_is_named_whatever_it_holds(run: Path, name: str) -> None:
    tree, acts = FILES[name]
    path = run / name
    path.parent.mkdir(exist_ok=True)
    before = path.read_bytes() if path.exists() else None
    whole = run / "fold-2" / "result.json"
    result = whole.read_bytes()
    whole.unlink()
    done = list[bool]()
    for text in _texts(tree):
        path.write_text(text + "\n")
        done += [_plain(act, run, path) for act in acts]
    path.unlink()
    if before is not None:
        path.write_bytes(before)
    whole.write_bytes(result)
    assert any(done), "some of it is shown"
    assert len(done) > 10


def _plain(act: Callable[[Path], object], run: Path, path: Path) -> bool:
    """Whether it was done; else it must have been refused with the file's name."""
    try:
        act(run)
        return True
    except MmadferError as error:
        words = str(error)
    assert path.name in words
    return False


@pytest.mark.slow
def test_a_result_is_damaged_or_holds_together_whatever_it_holds(run: Path) -> None:
    path = run / "fold-2" / "result.json"
    before = path.read_text()
    try:
        for text in _texts(json.loads(before)):
            path.write_text(text)
            found = told(run)[0]["folds"][1] if text in RAW else _gathered(run)
            assert found["state"] in ("finished", "damaged", "unfinished")
            _shown(run)
            if text in RAW:
                with pytest.raises(RunError, match="fold 2"):
                    compare(run, run)
    finally:
        path.write_text(before)


def _gathered(run: Path) -> dict[str, Any]:
    from mmadfer.report.summary import gather

    gathered = gather(run)
    json.dumps(gathered.to_dict(), allow_nan=False)
    return gathered.folds[1].to_dict()


@pytest.mark.slow
def test_an_origin_is_told_or_its_file_is_named_whatever_it_holds(run: Path) -> None:
    from mmadfer.report import page
    from mmadfer.report.summary import gather

    path = run / "run.json"
    before = path.read_text()
    told_of = 0
    for text in _texts({**json.loads(before), "git": {"commit": "c", "dirty": True, "diff": None}}):
        path.write_text(text)
        told_of += _plain(lambda run: page._facts(gather(run)), run, path)
    path.write_text(before)
    assert told_of > 10


@pytest.mark.parametrize(
    ("name", "done"),
    [
        ("run.json", [False, True]),
        ("jobs/launch.json", [True, False]),
        ("fold-2/metrics.jsonl", [True, False]),
        ("fold-2/result.json", [True, True]),
        ("fold-2/.lease-7", [True, False]),
    ],
)
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str, done: list[bool]) -> None:
    """The report is made, the status is shown; or else it is refused with the file's name."""
    run = make_run(tmp_path / "run", (1, 2), "data.folds=3")
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    assert [_plain(act, run, run / name) for act in (_reported, _shown)] == done


@pytest.mark.parametrize("target", ["mine", "nowhere"])
def test_a_lease_that_is_a_link_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "fold-1").mkdir()
    (tmp_path / "fold-1" / ".lease-3").symlink_to(tmp_path / target)
    with pytest.raises(FileError, match=r"\.lease-3 is a link"), lease(tmp_path / "fold-1"):
        pass
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_report_is_not_written_through_a_link(run: Path, tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to(run)  # the run itself may be one
    (run / "report").rename(tmp_path / "mine") if (run / "report").exists() else (tmp_path / "mine").mkdir()
    (run / "report").symlink_to(tmp_path / "mine")
    with pytest.raises(FileError, match="report is a link"):
        told(tmp_path / "run")
    (run / "report").unlink()


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    asked = launch_record.LaunchOptions(cluster="slurm", gpus=1, time="5", export=True)
    made = launch_record.LaunchRecord([1, 2], asked, {"fold 1": "7_0"}, this_process())
    made.write(tmp_path)
    assert launch_record.read(tmp_path) == made
    assert runs.result(tmp_path) is None
