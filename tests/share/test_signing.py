"""Signatures of models: what was signed is taken, and nothing else, before anything of it is read."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from export_setup import CONTRACT, awake
from hub_server import Hub
from keys import make_certificate, make_pair
from needs import needed
from onnx.helper import make_graph, make_model

import mmadfer
from mmadfer.cli.main import app, run
from mmadfer.errors import MmadferError, SignatureError, WeightsError
from mmadfer.model.weights.build import save_weights
from mmadfer.share.signing import sign_model, signature_path, verify_model

signing, hashing = needed("model_signing.signing"), needed("model_signing.hashing")
Keys = tuple[Path, Path]


DATA = "mine.onnx.1a2b3c4d5e6f.data"


def graph(*places: str) -> bytes:
    """An ONNX file with weights in these files."""
    tensors = [onnx.numpy_helper.from_array(np.zeros(2, np.float32), f"weights {k}") for k, _ in enumerate(places)]
    for tensor, place in zip(tensors, places, strict=True):
        onnx.external_data_helper.set_external_data(tensor, place)
    made: bytes = make_model(make_graph([], "graph", [], [], tensors)).SerializeToString()
    return made


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """A private key, and its public key."""
    return make_pair(tmp_path_factory.mktemp("keys"), "mine")


@pytest.fixture
def model(tmp_path: Path, keys: Keys) -> Path:
    """A signed file with all that may lie beside one."""
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "mine.onnx"
    for name in (DATA, "weights.bin", "mine.tokenizer.json", "mine.onnx.card.md", "mine.parity.json"):
        (folder / name).write_text(f"content of {name}")
    path.write_bytes(graph(DATA, "weights.bin"))
    (folder / "other.onnx").write_text("another model")
    assert run(app, ["sign", str(path), "--key", str(keys[0])]) == 0
    return path


@pytest.fixture
def shared(tmp_path: Path, keys: Keys) -> Path:
    """A signed folder as it is pushed."""
    folder = tmp_path / "shared"
    folder.mkdir()
    save_weights(folder / "model.safetensors", awake(1), CONTRACT, frozen=True)
    (folder / "contract.json").write_text(CONTRACT.dumps())
    (folder / "README.md").write_text("# card")
    sign_model(folder, keys[0])
    return folder


def test_what_was_signed_is_verified(model: Path, keys: Keys, capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(path.name for path in model.parent.iterdir() if "sig" in path.name) == ["mine.onnx.sig"]
    assert run(app, ["verify", str(model), "--key", str(keys[1])]) == 0
    told = capsys.readouterr().out
    assert DATA in told
    assert "weights.bin" in told
    assert "other.onnx" not in told
    (model.parent / "other.onnx").write_text("changed: it is another model")
    moved = model.parent.rename(model.parent.with_name("elsewhere"))
    verify_model(moved / model.name, keys[1])


def _append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a byte more": _append,
    "a bit": _flip,
    "weights": lambda path: _flip(path.parent / DATA),
    "weights of another name": lambda path: _flip(path.parent / "weights.bin"),
    "weights gone": lambda path: (path.parent / "weights.bin").unlink(),
    "a graph that takes other weights": lambda path: path.write_bytes(graph(DATA, "other.onnx")),
    "no graph": lambda path: path.write_bytes(b"no graph: it is not read"),
    "the card": lambda path: _append(path.parent / "mine.onnx.card.md"),
    "a file gone": lambda path: (path.parent / "mine.tokenizer.json").unlink(),
    "a file more": lambda path: (path.parent / "mine.onnx.ffffffffffff.data").write_text("more"),
    "a file in another's place": lambda path: (path.parent / DATA).replace(path),
    "no signature": lambda path: signature_path(path).unlink(),
    "an empty signature": lambda path: signature_path(path).write_text(""),
    "no JSON": lambda path: signature_path(path).write_bytes(b"\xff{"),
    "another's JSON": lambda path: signature_path(path).write_text("{}"),
    "deep JSON": lambda path: signature_path(path).write_text("[" * 100_000),
    "a large signature": lambda path: signature_path(path).write_text(" " * (5 << 20)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_anything_else_is_refused(model: Path, keys: Keys, change: str, capsys: pytest.CaptureFixture[str]) -> None:
    CHANGES[change](model)
    assert run(app, ["verify", str(model), "--key", str(keys[1])]) == 2
    told = capsys.readouterr().err
    assert "is not signed" in told if change == "no signature" else "is not what was signed in mine.onnx.sig" in told


def _sign_all_but(model: Path, key: Path, *left_out: str) -> None:
    """As the library does it: the signature says which files of the folder are to be left out."""
    paths = [*left_out, signature_path(model).name]
    config = hashing.Config().set_ignored_paths(paths=paths, ignore_git_paths=False)
    signer = signing.Config().set_hashing_config(config).use_elliptic_key_signer(private_key=key)
    signer.sign(model.parent, signature_path(model))


def test_what_a_signature_says_of_itself_is_not_believed(model: Path, keys: Keys) -> None:
    _sign_all_but(model, keys[0], DATA, "other.onnx")
    for change in (lambda: None, lambda: _flip(model.parent / DATA)):
        change()
        with pytest.raises(SignatureError, match=f"Extra files found in model .*{DATA}"):
            verify_model(model, keys[1])


def test_a_damaged_signature_is_of_nobody(model: Path, keys: Keys) -> None:
    told = json.loads(signature_path(model).read_text())
    payload = told["dsseEnvelope"]["payload"]
    told["dsseEnvelope"]["payload"] = payload[:-8] + "A" * 4 + payload[-4:]
    signature_path(model).write_text(json.dumps(told))
    with pytest.raises(SignatureError):
        verify_model(model, keys[1])


def test_weights_that_a_signature_leaves_out_are_refused(model: Path, keys: Keys) -> None:
    _sign_all_but(model, keys[0], "weights.bin", "other.onnx")
    with pytest.raises(SignatureError, match=r"in mine.onnx.sig: weights.bin \(not signed\)"):
        verify_model(model, keys[1])
    _sign_all_but(model, keys[0])
    with pytest.raises(SignatureError, match=r"other.onnx \(signed, but of no use to it\)"):
        verify_model(model, keys[1])


def test_weights_of_any_name_are_signed_in_a_shared_folder_too(shared: Path, keys: Keys) -> None:
    (shared / "weights.bin").write_bytes(bytes(8))
    (shared / "model.onnx").write_bytes(graph("weights.bin"))
    sign_model(shared, keys[0])
    assert shared / "weights.bin" in verify_model(shared, keys[1])
    _flip(shared / "weights.bin")
    with pytest.raises(SignatureError, match=r"Hash mismatch for 'weights.bin'"):
        verify_model(shared, keys[1])


def test_a_graph_without_its_weights_is_not_signed(model: Path, keys: Keys) -> None:
    (model.parent / "weights.bin").unlink()
    with pytest.raises(WeightsError, match=r"takes weights from weights.bin, which is not there"):
        sign_model(model, keys[0])


def test_only_the_key_that_signed_will_do(model: Path, tmp_path: Path, keys: Keys) -> None:
    other = make_pair(tmp_path, "other")
    with pytest.raises(SignatureError, match=r"or not by .*other\.pub: Key mismatch"):
        verify_model(model, other[1])
    told = json.loads(signature_path(model).read_text())
    sign_model(model, other[0])
    theirs = json.loads(signature_path(model).read_text())
    theirs["verificationMaterial"] = told["verificationMaterial"]  # says that it is of the first key
    signature_path(model).write_text(json.dumps(theirs))
    with pytest.raises(SignatureError):
        verify_model(model, keys[1])


def test_certificates(model: Path, tmp_path: Path) -> None:
    root, leaf, stranger = (make_pair(tmp_path, name) for name in ("root", "leaf", "stranger"))
    authority = make_certificate(tmp_path, "root", root[0])
    certificate = make_certificate(tmp_path, "leaf", leaf[0], (root[0], authority))
    words = ["sign", str(model), "--key", str(leaf[0]), "--certificate", str(certificate)]
    assert run(app, words) == 0
    assert run(app, ["verify", str(model), "--certificate", str(authority)]) == 0
    assert run(app, ["verify", str(model), "--certificate", str(make_certificate(tmp_path, "me", stranger[0]))]) == 2
    assert run(app, ["verify", str(model), "--key", str(leaf[1])]) == 2
    assert run(app, ["sign", str(model), "--key", str(root[0]), "--certificate", str(certificate)]) == 2, "not its key"
    _append(model)
    assert run(app, ["verify", str(model), "--certificate", str(authority)]) == 2


@pytest.mark.parametrize("words", [[], ["--key", "a.pem", "--certificate", "b.pem"], ["--key", "nowhere.pem"]])
def test_whom_a_signature_must_be_of_is_said_once(model: Path, words: list[str]) -> None:
    assert run(app, ["verify", str(model), *words]) == 2


def test_what_cannot_sign(model: Path, tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signature_path(model).read_bytes()
    locked, public = make_pair(tmp_path, "locked", b"word")
    for key in (keys[1], model, tmp_path / "nowhere", locked):
        with pytest.raises(SignatureError):
            sign_model(model, key)
    assert signature_path(model).read_bytes() == before
    monkeypatch.setenv("MMADFER_KEY_PASSWORD", "word")
    sign_model(model, locked)
    verify_model(model, public)
    with pytest.raises(SignatureError, match="no file or folder"):
        sign_model(tmp_path / "nothing.onnx", keys[0])


def test_a_folder_is_signed_with_all_that_is_in_it(tmp_path: Path, keys: Keys) -> None:
    folder = tmp_path / "repository"
    (folder / "a/1").mkdir(parents=True)
    (folder / "a/1/model.onnx").write_text("graph")
    (folder / ".gitignore").write_text("*")
    sign_model(folder, keys[0])
    verify_model(folder, keys[1])
    for name in ("a/1/model.py", ".gitattributes", ".git"):
        (folder / name).write_text("more")
        with pytest.raises(SignatureError, match="Extra files found"):
            verify_model(folder, keys[1])
        (folder / name).unlink()
    (folder / "b").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(SignatureError, match="is a link to a folder"):
        verify_model(folder, keys[1])


def test_nothing_is_loaded_before_it_is_verified(
    shared: Path, keys: Keys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mmadfer.load(shared, verify=keys[1]).contract.labels == CONTRACT.labels
    assert mmadfer.Recogniser(shared, "torch", verify=keys[1]).path == shared / "model.safetensors"
    (shared / "weights.pth").write_text("of another name: never read")
    mmadfer.load(shared, verify=keys[1])
    (shared / "model.safetensors").write_bytes(b"no model at all")
    for load in (mmadfer.load, mmadfer.Recogniser):
        with pytest.raises(SignatureError, match=r"Hash mismatch for .*model\.safetensors"):
            load(shared, verify=keys[1])
    words = ["predict", __file__, "--model", str(shared), "--verify"]
    assert run(app, [*words, str(keys[1])]) == 2
    assert run(app, [*words, str(tmp_path / "nowhere")]) == 2
    assert run(app, ["serve", "--model", str(shared), "--verify", str(keys[1]), "--port", "0"]) == 2
    assert "Hash mismatch" in capsys.readouterr().err


def test_a_model_of_the_hub_is_verified(hub: Hub, shared: Path, keys: Keys, tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in shared.iterdir()}
    hub.make("me/toy", {**files, ".gitattributes": b"*.onnx", "notes.txt": b"mine"})
    assert mmadfer.load("hub:me/toy", verify=keys[1]).contract.labels == CONTRACT.labels
    assert run(app, ["verify", "hub:me/toy", "--key", str(keys[1])]) == 0
    with pytest.raises(SignatureError, match="Key mismatch"):
        mmadfer.load("hub:me/toy", verify=make_pair(tmp_path, "other")[1])
    hub.make("me/more", {**files, "model.onnx": b"not signed"})
    for path in ("hub:me/more", _without_signature(hub, files)):
        with pytest.raises(MmadferError, match=r"Extra files found|is not signed"):
            mmadfer.Recogniser(path, "torch", verify=keys[1])
    hub.make("me/less", {name: data for name, data in files.items() if name != "README.md"})
    with pytest.raises(SignatureError, match=r"Missing files in model.*README\.md"):
        mmadfer.load("hub:me/less", verify=keys[1])


def _without_signature(hub: Hub, files: dict[str, bytes]) -> str:
    hub.make("me/bare", {name: data for name, data in files.items() if name != "model.sig"})
    return "hub:me/bare"
