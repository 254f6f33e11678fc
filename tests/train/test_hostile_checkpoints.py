"""Checkpoints that are damaged, or lie: moved aside or refused in plain words, and nothing elsewhere is touched."""

import io
import json
import os
import pickle
import random
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from setting import StopAt, checkpoints, seal, weights

from mmadfer.config.schema import Config
from mmadfer.errors import FileError, RunError, TrainingError, WeightsError
from mmadfer.run import checkpoint_state
from mmadfer.train.loop import train

Tree = dict[str, Any]


@pytest.fixture(scope="module")
def stopped(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stopped after step 4, with a checkpoint of step 3 before."""
    folder = tmp_path_factory.mktemp("stopped") / "fold-1"
    train(config, 1, folder, stop=StopAt(6))
    return folder


@pytest.fixture
def half(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "fold-1"))


def test_one_bit_of_a_state_is_noticed_wherever_it_is(stopped: Path, tmp_path: Path) -> None:
    whole = (checkpoints(stopped)[-1] / "state.json").read_bytes()
    file, rng = tmp_path / "state.json", random.Random(1)
    file.write_bytes(whole)
    true, unseen = checkpoint_state.read(tmp_path), []
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << rng.randrange(8)
        file.write_bytes(data)
        with suppress(FileError):
            unseen += [place] * (checkpoint_state.read(tmp_path) != true)
    assert unseen == []


def test_after_a_bit_the_checkpoint_before_is_used(
    config: Config, straight: Path, half: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = checkpoints(half)[-1]
    text = (damaged / "state.json").read_text()
    assert '"step": 1,' in text
    (damaged / "state.json").write_text(text.replace('"step": 1,', '"step": 0,'))
    assert train(config, 1, half, resume=True).finished
    assert f"{damaged} is damaged ({damaged}/state.json has changed since it was written): moved aside" in (
        capsys.readouterr().out
    )
    assert weights(half) == weights(straight)


def test_a_checkpoint_of_another_format_is_no_whole_one(
    config: Config, half: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in checkpoints(half):
        tree = json.loads((path / "state.json").read_text())
        del tree["sha256"]
        (path / "state.json").write_text(json.dumps({**tree, "format": 1}))
    with pytest.raises(RunError, match=r"no checkpoint in .* is whole"):
        train(config, 1, half, resume=True)
    assert "state.json is of format 1, not 2): moved aside" in capsys.readouterr().out


VALUES = (None, "x", "", [], {}, [1], {"a": 1}, -1, -3, 10**9, 10**30, 0.5, True, "\u001b[31m", [[[]]])


def _spots(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = tree.items() if isinstance(tree, dict) else ()
    return [place for key, value in items for place in ((*path, key), *_spots(value, (*path, key)))]


def _put(path: tuple[Any, ...], value: Any) -> Callable[[Tree], None]:
    def change(tree: Tree) -> None:
        for key in path[:-1]:
            tree = tree[key]
        tree[path[-1]] = value

    return change


def test_a_state_that_lies_ends_in_no_other_error(half: Path) -> None:
    """Its hash is right. What is taken must hold together; what the run must match is asked by `Belonging.check`."""
    checkpoint = checkpoints(half)[-1]
    before = (checkpoint / "state.json").read_bytes()
    tree = json.loads(before)
    places = [p for p in _spots(tree) if p[:2] != ("belonging", "config") and p != ("sha256",)]
    taken = set()
    for place in places:
        for value in VALUES:
            (checkpoint / "state.json").write_bytes(before)
            seal(checkpoint, _put(place, value))
            if checkpoint_state.damage(checkpoint) is None:
                taken.add((*place, json.dumps(value)))
    free = {
        "loss",
        "seconds",
        "metrics",
        "uar",
        "war",
        "fold",
        "data",
        "labels",
        "encoder_hash",
        "world",
        "weights_hash",
    }
    assert {place for place in taken if not free & {*place}} <= {("format", "true"), ("progress", "losses", "true")}
    for name in ("epoch", "step", "total", "files", "config"):
        assert not [place for place in taken if name == place[-2]]


LIES: dict[str, Callable[[Tree], object]] = {
    "epoch is a text": _put(("progress", "epoch"), "x"),
    "epoch -5": _put(("progress", "epoch"), -5),
    "epoch 10^9": _put(("progress", "epoch"), 10**9),
    "one epoch more": lambda tree: tree["progress"].update(epoch=2, total=7),
    "losses of no steps": _put(("progress", "losses"), 9),
    "best later than now": _put(("progress", "best"), {"epoch": 2, "uar": 1, "war": 1}),
    "files is a list": lambda tree: tree.update(files=[*tree["files"]]),
    "encoder_hash is a number": _put(("belonging", "encoder_hash"), 5),
    "no configuration": _put(("belonging", "config"), {}),
    "another key": _put(("progress", "more"), 1),
}


@pytest.mark.parametrize("name", LIES)
def test_a_state_that_cannot_be_is_moved_aside(half: Path, name: str) -> None:
    checkpoint = checkpoints(half)[-1]
    assert checkpoint_state.damage(checkpoint) is None
    seal(checkpoint, LIES[name])
    assert checkpoint_state.damage(checkpoint)


def _archive(data: bytes, how: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as made:
        for name, part in (("data.pkl", data), ("byteorder", b"little"), ("version", b"3\n")):
            made.writestr(f"archive/{name}", part)
    return file.getvalue()


PICKLES = {
    "pops from nothing": _archive(b"\x80\x02R."),
    "remembers nothing": _archive(b"\x80\x02h\x05."),
    "an empty dict": _archive(b"\x80\x02}."),
    "a dict of other things": _archive(pickle.dumps({"module": 3, "optimizer": "x"}, 2)),
    "None": _archive(b"\x80\x02N."),
    "packed": _archive(pickle.dumps({"module": {}}, 2), zipfile.ZIP_DEFLATED),
    "a text": _archive(pickle.dumps("x", 2)),
    "a list": _archive(pickle.dumps([1], 2)),
    "cut": _archive(b"\x80\x02"),
    "bare": pickle.dumps({"module": {}}),
    "empty": b"",
    "nothing that is known": b"\x00" * 100,
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_that_is_no_checkpoint_is_refused(config: Config, half: Path, name: str) -> None:
    (file,) = (checkpoints(half)[-1] / "deepspeed").iterdir()
    file.write_bytes(PICKLES[name])
    seal(checkpoints(half)[-1], lambda tree: None)
    with pytest.raises(WeightsError, match="was refused"):
        train(config, 1, half, resume=True)


def test_pipes_and_links_in_a_checkpoint_are_damage_and_not_waited_for(half: Path) -> None:
    checkpoint = checkpoints(half)[-1]
    (weights_file, state_file) = checkpoint / "weights.safetensors", checkpoint / "state.json"
    kept = weights_file.rename(half / "kept")
    os.mkfifo(weights_file)
    assert "is a link or no regular file" in (checkpoint_state.damage(checkpoint) or "")
    weights_file.unlink()
    weights_file.symlink_to(kept)
    assert "is a link or no regular file" in (checkpoint_state.damage(checkpoint) or "")
    state_file.unlink()
    os.mkfifo(state_file)
    assert "device or a named pipe" in (checkpoint_state.damage(checkpoint) or "")


def test_nothing_is_deleted_through_a_link(config: Config, half: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "old").mkdir(parents=True)
    (mine / "old" / "precious").write_text("precious")
    for name in ("step-00000001", "step-00000002.tmp", "step-00000009.damaged"):
        (half / "checkpoints" / name).symlink_to(mine)
    (half / ".x.tmp").symlink_to(mine / "old" / "precious")
    assert train(config, 1, half, resume=True).finished
    assert (mine / "old" / "precious").read_text() == "precious"


@pytest.mark.parametrize("name", ["checkpoints", "tensorboard", "."])
def test_a_runs_own_folder_that_is_a_link_is_refused(config: Config, half: Path, tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine"
    os.rename(half / name if name != "." else half, mine)
    (half / name if name != "." else half).symlink_to(mine)
    before = sorted(path.name for path in mine.iterdir())
    with pytest.raises((FileError, TrainingError), match="is a link, but a run's own folders must lie in it"):
        train(config, 1, half, resume=True)
    assert sorted(path.name for path in mine.iterdir()) == before


def test_all_damaged_is_an_error(config: Config, half: Path) -> None:
    for path in checkpoints(half):
        seal(path, _put(("progress", "epoch"), -5))
    with pytest.raises(RunError, match="is whole"):
        train(config, 1, half, resume=True)
