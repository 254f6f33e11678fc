"""A run to the hub and back: what is sent, what is refused, and what a hub that breaks off leaves."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants as settings
import numpy as np
import pytest
import torch
from export_setup import CONTRACT, SETTINGS, awake, clips
from hub_server import Hub
from huggingface_hub import ModelCard
from keys import make_pair
from needs import needed
from traced_once import traced_once

import mmadfer
from mmadfer.cli.main import app, run
from mmadfer.config import schema as configs
from mmadfer.contract.facts import AdaptedFacts
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.sets import SourceClip, toy
from mmadfer.data.store.store import Header, write_store
from mmadfer.errors import HubError
from mmadfer.model.weights.build import save_weights
from mmadfer.run import directory as runs

FILES = ["DATA_CARD.md", "README.md", "contract.json", "model.onnx", "model.safetensors", "parity.json"]
LABELS = list(CONTRACT.labels)


@pytest.fixture(scope="module", autouse=True)
def _traced_once() -> Iterator[None]:
    with traced_once():
        yield


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("media") / "toy"
    toy.make(root, clips_per_class=1, jobs=1)
    return root


@pytest.fixture(scope="module")
def trained(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose first fold is finished, its second not, and its third failed."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "lost-000.mp4").write_bytes(b"no video")
    table = toy.table(media)
    lost = SourceClip("lost-000", folder / "lost-000.mp4", LABELS[0], 1)
    prepare(replace(table, clips=[*table.clips, lost]), folder / "toy.store", SETTINGS, jobs=1)
    config = configs.load("dfew_160", ["train.epochs=2", f"data.store={folder / 'toy.store'}"])
    made = runs.create(folder / "run", config)
    save_weights(made.fold(1) / "checkpoints/step-00000002/weights.safetensors", awake(1), CONTRACT, frozen=True)
    told = {"fold": 1, "epoch": 2, "epochs": 2, "uar": 0.25, "war": 0.25, "finished": True, "labels": LABELS}
    told |= {"confusion": [[1, 0, 0, 0]] * 4, "seconds": 1.0, "best": {"epoch": 1, "uar": 0.5, "war": 0.5}}
    (made.fold(1) / "result.json").write_text(json.dumps(told))
    made.fold(2).mkdir()
    (made.fold(3) / "failed.json").parent.mkdir()
    (made.fold(3) / "failed.json").write_text(json.dumps({"reason": "lost", "log": str(folder / "secret.log")}))
    return made.path


def test_a_run_goes_to_the_hub_and_comes_back_the_same(
    trained: Path, media: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, ["push", str(trained), "hub:me/toy"]) == 0
    told = capsys.readouterr().out
    (commit,) = (word.partition("@")[2] for word in told.split() if word.startswith("hub:me/toy@"))
    assert all(f"{name}  " in told for name in FILES), "what goes is listed"
    assert told.index("model.safetensors") < told.index("pushed")
    there = hub.repositories["me/toy"].commits[commit]
    assert sorted(there) == [".gitattributes", *FILES]
    assert len(hub.repositories["me/toy"].commits) == 2, "all in one commit"
    _check_private(there, trained)
    _check_card(there["README.md"].decode(), json.loads(there["parity.json"]))
    model = mmadfer.load(f"hub:me/toy@{commit}")
    inputs = [torch.from_numpy(array) for array in clips(2)]
    with torch.inference_mode():
        assert torch.equal(model(*inputs), awake(1).eval()(*inputs))
    _check_gate(commit)
    video = media / "sad" / "sad-000.mp4"
    from_hub = mmadfer.Recogniser("hub:me/toy")
    assert from_hub.backend_name == "onnxruntime"
    wanted = mmadfer.Recogniser(trained, fold=1)(video).probabilities
    np.testing.assert_allclose(list(from_hub(video).probabilities.values()), list(wanted.values()), atol=1e-3)
    _check_command(video, commit)
    assert run(app, ["predict", str(video), "--model", "hub:me/toy@v9"]) == 2
    assert "has no revision 'v9'" in capsys.readouterr().err


def _check_gate(commit: str) -> None:
    """Exports take a model of the hub, and `--commercial` looks at it before anything is written."""
    out = "made.safetensors"
    assert run(app, ["export", "weights", f"hub:me/toy@{commit}", "--out", out, "--licence", "me=own"]) == 2
    assert not Path(out).exists()


def _check_private(there: dict[str, bytes], trained: Path) -> None:
    """No file names this machine's folders or the clips' names."""
    for name, data in there.items():
        assert str(trained.parent).encode() not in data, name
        assert b"-000" not in data, name
    assert b"Left out: 1 clips (unreadable: 1)." in there["DATA_CARD.md"]


def _check_card(text: str, proof: dict[str, object]) -> None:
    assert 'Recogniser("hub:me/toy")' in text
    assert "| 1 | 4 | 25.00 | 25.00 |" in text
    assert "Fold 3 is failed: left out." in text
    assert "| model.onnx | fp32 | 4 of 4 |" in text
    assert proof["passed"] is True
    assert ModelCard(text).data.model_name == "toy"


def _check_command(video: Path, commit: str) -> None:
    """`mmadfer predict` in a process of its own, from the hub's cache, without a network."""
    base = [sys.executable, "-m", "mmadfer", "predict", str(video), "--model"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([*base, f"hub:me/toy@{commit}"], check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "surprise" in done.stdout
    assert f"is commit {commit}" not in done.stdout, "nothing was asked"


def test_a_dry_run_lists_and_sends_nothing(trained: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["push", str(trained), "hub:me/toy", "--dry-run", "--no-onnx"]) == 0
    told = capsys.readouterr().out
    assert "model.safetensors" in told
    assert "model.onnx" not in told
    assert "dry run: nothing was sent" in told
    assert hub.asked == []


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["--fold", "2"], "fold 2 of .* is not finished"),
        (["--fold", "7"], "fold 7 of .* is not finished"),
        (["--commercial", "--licence", "MTCNN=research only"], "MTCNN .weights.: research only"),
        (["--certificate", "c.pem"], "go with --key"),
    ],
)
def test_what_is_not_pushed(
    words: list[str], refused: str, trained: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, ["push", str(trained), "hub:me/toy", *words]) == 2
    assert re.search(refused, capsys.readouterr().err.replace("\n", " "))
    assert hub.asked == []


def test_an_unproven_onnx_file_is_not_pushed(
    trained: Path, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mmadfer.export.graph.to_onnx import to_onnx

    file = to_onnx(trained, tmp_path / "mine.onnx", 1)
    assert run(app, ["push", str(file), "hub:me/toy"]) == 2
    assert "is not proven" in capsys.readouterr().err
    proof = {"passed": True, "clips": 4, "of": 4, "forms": [{"name": "mine.onnx", "sha256": "0" * 64}]}
    (tmp_path / "mine.parity.json").write_text(json.dumps(proof))
    assert run(app, ["push", str(file), "hub:me/toy"]) == 2, "the proof is of another file"
    assert hub.asked == []


@pytest.mark.parametrize("broken", ["/lfs/", "/commit/", "/preupload/"])
def test_a_push_that_breaks_off_changes_nothing_that_is_seen(trained: Path, hub: Hub, broken: str) -> None:
    before = hub.make("me/toy", {"contract.json": b"{}", "model.onnx": b"old", "notes.txt": b"mine"})
    hub.refuse = broken
    with pytest.raises(HubError, match="me/toy"):
        _push(trained)
    assert hub.repositories["me/toy"].branches == {"main": before}
    hub.refuse = ""
    _push(trained)
    there = hub.repositories["me/toy"].commits[hub.repositories["me/toy"].branches["main"]]
    assert "model.onnx" not in there, "what an earlier push left, and this one does not have, goes"
    assert there["notes.txt"] == b"mine", "what is no file of a model stays"


def _push(trained: Path, data: Path | None = None) -> None:
    from mmadfer.export.to_hub import Push, push

    push(Push(trained, data=data, onnx=False), "hub:me/toy")


def test_the_card_of_the_data_is_not_of_a_store_that_only_proves(trained: Path, hub: Hub, tmp_path: Path) -> None:
    write_store(tmp_path / "other.store", Header("crema_d", ("sad", "glad"), SETTINGS, fingerprint="f" * 64), [])
    _push(trained, tmp_path / "other.store")
    found = hub.repositories["me/toy"]
    assert b"# toy: data card" in found.commits[found.branches["main"]]["DATA_CARD.md"]


def test_a_model_of_people_is_pushed_with_their_names_only_where_that_is_asked(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = AdaptedFacts(people=("ann", "bob"), clips=3, name="tiny")
    path = tmp_path / "mine.safetensors"
    save_weights(path, awake(1), CONTRACT.model_copy(update={"adapted": facts}), frozen=True)
    words = ["push", str(path), "hub:me/toy", "--no-onnx"]
    assert run(app, words) == 2
    told = capsys.readouterr().err
    assert "was adapted to ann, bob: these names would be in its card" in told
    assert "its weights are personal data" in told
    assert "--with-people" in told
    assert hub.asked == []
    assert run(app, [*words, "--with-people"]) == 0
    assert "note    it was adapted to ann, bob" in capsys.readouterr().err
    assert hub.repositories["me/toy"].commits


def test_a_push_that_is_killed_changes_nothing_that_is_seen(trained: Path, hub: Hub) -> None:
    before = hub.make("me/toy", {"contract.json": b"{}"})
    hub.hold = "/lfs/"
    command = [sys.executable, "-m", "mmadfer", "push", str(trained), "hub:me/toy", "--no-onnx"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        assert hub.held.wait(120)
        process.kill()
    hub.go.set()
    hub.hold = ""
    assert hub.repositories["me/toy"].branches == {"main": before}
    _push(trained)
    assert hub.repositories["me/toy"].branches["main"] != before


def test_without_a_network_nothing_is_pushed(
    trained: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(settings, "ENDPOINT", "http://127.0.0.1:9")
    assert run(app, ["push", str(trained), "hub:me/toy", "--no-onnx"]) == 2
    assert "hub:me/toy (http://127.0.0.1:9) cannot be reached: mend the network" in capsys.readouterr().err
    assert hub.asked == []


def test_what_is_to_be_private_does_not_go_to_a_public_repository(
    trained: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hub.make("me/toy", {"notes.txt": b"mine"})
    words = ["push", str(trained), "hub:me/toy@v1", "--no-onnx", "--private"]
    assert run(app, words) == 2
    assert "hub:me/toy@v1 is public, and --private was asked" in capsys.readouterr().err
    assert hub.repositories["me/toy"].branches == {"main": before}, "not even the branch is made"
    assert not hub.blobs
    hub.repositories["me/toy"].private = True
    assert run(app, words) == 0


def test_a_branch_and_a_private_repository_are_made_and_signed(trained: Path, hub: Hub, tmp_path: Path) -> None:
    needed("model_signing.signing")
    key, public = make_pair(tmp_path, "mine")
    words = ["push", str(trained), "hub:me/new@v1", "--private", "--no-onnx", "--key", str(key)]
    assert run(app, words) == 0
    found = hub.repositories["me/new"]
    assert found.private
    assert found.branches["v1"] != found.branches["main"]
    assert list(found.commits[found.branches["main"]]) == [".gitattributes"]
    assert (
        mmadfer.load("hub:me/new@v1", verify=public).contract
        == mmadfer.load(f"hub:me/new@{found.branches['v1']}").contract
    )
    with pytest.raises(HubError, match="has no contract"):
        mmadfer.load("hub:me/new")
