"""What a hub may send: nothing goes outside its cache, nothing is taken that is not what it says, and no pickle."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants as settings
import pytest
from hub_server import Hub

from mmadfer.cli.main import app, run
from mmadfer.errors import HubError
from mmadfer.share.address import HubAddress, parse_address
from mmadfer.share.client import UnreachableError
from mmadfer.share.fetch import fetch
from mmadfer.share.source import model_path

WEIGHTS = bytes(range(256)) * 4096
FILES = {"contract.json": b"{}\n", "model.safetensors": WEIGHTS, "README.md": b"# card\n"}
HERE = HubAddress("me/x")
FETCH = "from mmadfer.share.source import model_path; print(model_path('hub:me/x', forms=('weights',)))"


def fetched(address: HubAddress = HERE, whole: bool = False) -> dict[str, bytes]:
    found = fetch(address, ["weights"], whole)
    return {name: (found.folder / name).read_bytes() for name in found.files}


@pytest.fixture
def released(hub: Hub) -> Iterator[Hub]:
    """A hub that holds back what a test says, and lets go of it at the end."""
    yield hub
    hub.go.set()


def test_a_commit_is_pinned_and_only_what_is_needed_is_fetched(hub: Hub) -> None:
    first = hub.make(
        "me/x", {**FILES, "model.onnx": b"graph", "setup.py": b"import os", "pytorch_model.bin": b"pickle"}
    )
    assert fetched() == {name: FILES[name] for name in ("contract.json", "model.safetensors")}
    assert not any(name in "".join(hub.asked) for name in ("setup.py", "pytorch_model.bin", "model.onnx"))
    hub.repositories["me/x"].commit({**FILES, "model.safetensors": b"newer"})
    assert fetched(HubAddress("me/x", first))["model.safetensors"] == WEIGHTS
    assert fetched()["model.safetensors"] == b"newer"
    assert sorted(fetched(HubAddress("me/x", first), whole=True)) == sorted([*FILES, "model.onnx"])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hub:me/toy", HubAddress("me/toy")),
        ("hub:me/toy-2@v1.0", HubAddress("me/toy-2", "v1.0")),
        ("hub:me/t@refs/pr/1", HubAddress("me/t", "refs/pr/1")),
    ],
)
def test_addresses(text: str, parts: HubAddress) -> None:
    assert parse_address(text) == parts
    assert str(parts) == text
    assert parse_address(Path(text)) == parts


@pytest.mark.parametrize(
    "text",
    [
        "hub:",
        "hub:toy",
        "hub:me/toy/x",
        "hub:../x",
        "hub:me/..",
        "hub:me/x@",
        "hub:me/x@../../x",
        "hub:me/x@-f",
        "me/x",
    ],
)
def test_what_is_no_address(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(HubError, match=r"is no address on the hub: it reads hub:USER/NAME"):
        parse_address(text)
    if text.startswith("hub:"):
        assert run(app, ["predict", __file__, "--model", text]) == 2
        assert "is no address on the hub" in capsys.readouterr().err


def test_names_from_the_hub_are_no_paths(hub: Hub, tmp_path: Path) -> None:
    hub.make("me/x", {**FILES, "model.onnx.1a2b3c4d5e6f.data": b"data"})
    hub.told_names = [
        "../../../evil",
        "/tmp/evil",
        "model.onnx.0123456789ab.data/../../evil",
        "..\\model.onnx",
        "model.onnx\n",
    ]
    assert sorted(fetched(whole=True)) == sorted([*FILES, "model.onnx.1a2b3c4d5e6f.data"])
    assert not list(tmp_path.rglob("*evil*"))
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.parametrize("told", ["../../../evil", "..", "/tmp/mmadfer-evil", "x/../../../../evil", "..\\evil"])
@pytest.mark.parametrize("what", ["told_commit", "told_etag"])
def test_what_the_hub_calls_a_file_leads_nowhere(hub: Hub, tmp_path: Path, what: str, told: str) -> None:
    hub.make("me/x", FILES)
    setattr(hub, what, told)
    with pytest.raises(HubError, match="which is a path: check HF_ENDPOINT"):
        fetched()
    assert not [*tmp_path.rglob("*evil*"), *Path("/tmp").glob("mmadfer-evil*")]
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}


def test_a_repository_of_pickles_is_refused(hub: Hub) -> None:
    hub.make("me/x", {"contract.json": b"{}", "model.pth": b"pickle", "pytorch_model.bin": b"pickle"})
    with pytest.raises(
        HubError, match=r"has no model.safetensors, but model.pth, pytorch_model.bin: a pickle is a program"
    ):
        fetched()
    assert not any("resolve" in line and "contract" not in line for line in hub.asked)


def test_sizes_are_looked_at_before_anything_is_fetched(hub: Hub) -> None:
    hub.make("me/x", FILES)
    for told in (1 << 40, -1):
        hub.told_sizes = {"model.safetensors": told}
        with pytest.raises(HubError, match="it is not what its name says"):
            fetched()
    hub.told_sizes = {"model.safetensors": 30 << 30, "README.md": 5 << 20}
    with pytest.raises(HubError, match=r"README.md has 5242880 bytes, of at most 4194304"):
        fetched(whole=True)
    assert not any(line.startswith("GET") and line.endswith("model.safetensors") for line in hub.asked)


def test_room_is_needed_for_what_is_not_here_alone(hub: Hub, tmp_path: Path) -> None:
    most = 32 << 30
    parts = {f"model.onnx.{k:012x}.data": b"data" for k in range(shutil.disk_usage(tmp_path).free // most + 1)}
    hub.make("me/x", {**FILES, **parts})
    hub.told_sizes = dict.fromkeys(parts, most)
    with pytest.raises(HubError, match="MiB left: make room, or set HF_HOME"):
        fetched(whole=True)
    hub.told_sizes = {}
    fetched(whole=True)
    hub.told_sizes = dict.fromkeys(parts, most)
    assert sorted(fetched(whole=True)) == sorted([*FILES, *parts]), "all of it is in the cache"


def test_a_file_that_does_not_end_is_given_up(hub: Hub, tmp_path: Path) -> None:
    hub.make("me/x", FILES)
    hub.sent = {"model.safetensors": WEIGHTS * 64}
    with pytest.raises(HubError, match=r"model.safetensors goes on after the 1048576 bytes"):
        fetched()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 32 << 20
    hub.sent = {}
    assert fetched()["model.safetensors"] == WEIGHTS


@pytest.mark.parametrize("name", ["model.safetensors", "contract.json"])
def test_other_content_than_the_hub_says_is_not_kept(hub: Hub, name: str) -> None:
    hub.make("me/x", FILES)
    hub.sent = {name: FILES[name][::-1]}
    with pytest.raises(HubError, match=rf"{name} has the hash .*, but the hub says"):
        fetched()
    hub.sent = {}
    assert fetched()[name] == FILES[name]


def test_what_is_not_there_is_said(hub: Hub) -> None:
    hub.make("me/x", {"README.md": b"# nothing"})
    with pytest.raises(HubError, match=r"hub:me/y \(http://127.0.0.1:\d+\) is not there, or you may not see it"):
        fetched(HubAddress("me/y"))
    with pytest.raises(HubError, match="has no revision 'v3': give a commit, tag or branch"):
        fetched(HubAddress("me/x", "v3"))
    with pytest.raises(HubError, match="has no revision"):
        fetched(HubAddress("me/x", "0" * 40))
    with pytest.raises(HubError, match=r"holds no model that `mmadfer push` wrote: it has no contract.json"):
        fetched()
    hub.make("me/x", {"contract.json": b"{}"})
    with pytest.raises(HubError, match=r"has no model.safetensors: give another repository"):
        fetched()


def test_without_a_network_the_cache_serves(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.make("me/x", FILES)
    monkeypatch.setattr(settings, "HF_HUB_OFFLINE", True)
    with pytest.raises(UnreachableError, match="is not in the cache in full"):
        fetched()
    monkeypatch.setattr(settings, "HF_HUB_OFFLINE", False)
    fetched()
    monkeypatch.setattr(settings, "HF_HUB_OFFLINE", True)
    asked = len(hub.asked)
    for address in (HERE, HubAddress("me/x", commit)):
        assert fetched(address)["model.safetensors"] == WEIGHTS
    assert len(hub.asked) == asked
    with pytest.raises(UnreachableError, match=r"the cache has no model.onnx of commit"):
        fetch(HERE, ["onnx"])
    assert model_path("hub:me/x").name == "model.safetensors", "of two, what is there"


def test_a_hub_that_is_away_is_told_and_the_cache_serves(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub.make("me/x", FILES)
    fetched()
    monkeypatch.setattr(settings, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        settings, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    )
    assert fetched()["model.safetensors"] == WEIGHTS
    assert "the hub cannot be reached; what the cache has is used" in caplog.text
    with pytest.raises(UnreachableError, match=r"hub:me/y \(http://127.0.0.1:9\) cannot be reached"):
        fetched(HubAddress("me/y"))


def test_a_download_that_is_killed_is_done_again(released: Hub, tmp_path: Path) -> None:
    released.make("me/x", FILES)
    released.hold = "model.safetensors"
    with subprocess.Popen([sys.executable, "-c", FETCH], stderr=subprocess.DEVNULL) as process:
        assert released.held.wait(120)
        process.kill()
    released.hold = ""
    assert not list((tmp_path / "cache").glob("models--me--x/snapshots/*/model.safetensors"))
    assert fetched()["model.safetensors"] == WEIGHTS


def test_a_full_disk_is_told(hub: Hub) -> None:
    hub.make("me/x", FILES)
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); {FETCH}"
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr.splitlines()[-1]
    assert fetched()["model.safetensors"] == WEIGHTS


def test_many_threads_fetch_one_model(hub: Hub) -> None:
    hub.make("me/x", FILES)
    found = list[dict[str, bytes]]()
    threads = [threading.Thread(target=lambda: found.append(fetched())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(one["model.safetensors"] == WEIGHTS for one in found)
