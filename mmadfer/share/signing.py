"""Signatures of models by model-signing (OpenSSF): of every file that belongs to a model, with a key or a certificate.

`mine.onnx.sig` lies beside `mine.onnx`, `model.sig` in a folder. A signature is of the names and the SHA-256 of the
files: one that is changed, missing or there as well is refused.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmadfer.errors import SignatureError
from mmadfer.share import names
from mmadfer.utils import onnx_file
from mmadfer.utils.files import atomic, read_bytes, read_object
from mmadfer.utils.optional import need

PASSWORD = "MMADFER_KEY_PASSWORD"
"""Environment variable with the password of an encrypted private key."""
_MAX_KEY_BYTES = 1 << 20
_AGAIN = "Get it again from who made it, or give their key"
_FIT = "Give a private key of P-256, P-384 or P-521 (PEM), and its own certificate"
_COMPANIONS = (".card.md", ".card.data.md", ".json")
"""Behind a model file's name: its cards, and the sidecar of an engine."""
_BESIDE = (".tokenizer.json", ".parity.json")
"""In the place of its suffix."""


def signature_path(path: Path) -> Path:
    """Where the signature of a model file or folder lies."""
    return path / names.SIGNATURE if path.is_dir() else path.with_name(f"{path.name}.sig")


def model_files(path: Path) -> list[Path]:
    """The files that a signature is of: of a file with all that belongs to it, of a shared model, or of any folder.

    What an ONNX file says of its weights is read.

    Raises:
        SignatureError: there is no such file or folder, or links to folders are in it.
        WeightsError: as `mmadfer.utils.onnx_file.facts`.
    """
    found, graph = _named_files(path), _graph(path)
    return sorted({*found, *(_weights(graph) if graph else ())})


def _graph(path: Path) -> Path | None:
    """The ONNX file of a model file or shared folder, whose weights may lie in files of any name."""
    graph = path / names.ONNX if (path / names.CONTRACT).is_file() else path
    return graph if graph.suffix.lower() == ".onnx" and graph.is_file() else None


def _weights(graph: Path) -> list[Path]:
    return [graph.parent / name for name in onnx_file.facts(graph).places]


def _named_files(path: Path) -> list[Path]:
    """Those that belong to a model by their names."""
    if path.is_dir():
        shared = names.allowed(one.name for one in path.iterdir()) if (path / names.CONTRACT).is_file() else None
        found = [path / name for name in shared] if shared is not None else list(_below(path))
        return sorted(file for file in found if file != signature_path(path))
    if not path.is_file():
        raise SignatureError(f"no file or folder {path}: give a model")
    around = [path.with_name(path.name + end) for end in _COMPANIONS] + [path.with_suffix(end) for end in _BESIDE]
    data = [one for one in path.parent.iterdir() if one.name.startswith(f"{path.name}.") and one.suffix == ".data"]
    return sorted({path, *data, *(file for file in around if file.is_file())})


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        for name in folders:
            if (Path(place) / name).is_symlink():
                raise SignatureError(
                    f"{Path(place) / name} is a link to a folder: a signature cannot be of what it leads to"
                )
        yield from (Path(place) / name for name in files)


def sign_model(path: Path, key: Path, certificate: Path | None = None, chain: Sequence[Path] = ()) -> Path:
    """Sign a model; an earlier signature is replaced in one step.

    Args:
        path: a model file, or a folder.
        key: the private key, PEM, of an elliptic curve (P-256, P-384, P-521).
        certificate: of that key, PEM; without one, who verifies needs the public key.
        chain: certificates between it and the root.

    Returns:
        The signature's file.

    Raises:
        SignatureError: no such model, or a key or certificate that cannot sign.
        WeightsError: an ONNX file that cannot be read, or whose weights are not beside it.
        MissingDependencyError: model-signing is not installed.
    """
    signing, files, out = _library("signing"), model_files(path), signature_path(path)
    for file in (key, *filter(None, [certificate]), *chain):
        _pem(file)
    with _in_words(f"{path} cannot be signed with {key}", _FIT):
        config = signing.Config().set_hashing_config(_hashing(files))
        if certificate is None:
            config.use_elliptic_key_signer(private_key=key, password=_password())
        else:
            config.use_certificate_signer(
                private_key=key, signing_certificate=certificate, certificate_chain=chain or [certificate]
            )
    with atomic(out) as temporary, _in_words(f"{path} cannot be signed with {key}", _FIT):
        config.sign(_root(path), temporary)
    return out


def verify_model(path: Path, key: Path, files: Sequence[str] | None = None) -> list[Path]:
    """Whether a model is what was signed, by whom the key or the certificates stand for; returns its files.

    Args:
        path: a model file, or a folder.
        key: a public key, or the certificates that are trusted (PEM).
        files: of a folder, the names of those that are its model; by default as `model_files`.

    Raises:
        SignatureError: there is no signature, it is of another key, or a file is changed, missing or not in it.
        MissingDependencyError: model-signing is not installed.
    """
    verifying, text = _library("verifying"), _pem(key)
    found = _named_files(path) if files is None else [path / name for name in files if name != names.SIGNATURE]
    graph, hashing, signature = _graph(path) if files is None else None, _hashing(found), signature_path(path)
    if not signature.is_file():
        raise SignatureError(f"{path} is not signed: there is no {signature}. `mmadfer sign` writes one")
    config = verifying.Config().set_hashing_config(hashing).set_ignore_unsigned_files(graph is not None)
    with _in_words(f"{path} is not what was signed in {signature.name}, or not by {key}", _AGAIN):
        read_object(
            signature, names.most_bytes(names.SIGNATURE) or 0
        )  # small, and not deep: the library reads it as it is
        if b"BEGIN CERTIFICATE" in text:
            config.use_certificate_verifier(certificate_chain=[key])
        else:
            config.use_elliptic_key_verifier(public_key=key)
        config.verify(_root(path), signature)
    if graph is not None:  # as it was signed: now what it says of its weights can be read
        _check_same(path, hashing.hashed, {*found, *_weights(graph)})
    return sorted(hashing.hashed)


def _check_same(path: Path, signed: set[Path], found: set[Path]) -> None:
    wrong = {"not signed": found - signed, "signed, but of no use to it": signed - found}
    told = [f"{', '.join(sorted(file.name for file in files))} ({why})" for why, files in wrong.items() if files]
    if told:
        raise SignatureError(
            f"{path} is not what was signed in {signature_path(path).name}: {'; '.join(told)}. {_AGAIN}"
        )


def _root(path: Path) -> Path:
    """The folder that names in a signature are relative to."""
    return path if path.is_dir() else path.parent


def _hashing(files: Sequence[Path]) -> Any:
    """What hashes these files, whatever a signature says of files to leave out, and in their folder those that it
    names. `hashed` is which they were."""
    hashing = _library("hashing")

    class OwnFiles(hashing.Config):  # type: ignore[name-defined]
        def hash(self, model_path: Any, *, files_to_hash: Any = None) -> Any:
            signed = {file for file in files_to_hash or () if file.parent == model_path and file.is_file()}
            self.hashed = {*files, *signed}
            return super().hash(model_path, files_to_hash=sorted(self.hashed))

        def add_ignored_paths(self, *, model_path: Any, paths: Any) -> None:
            pass

    config = (
        OwnFiles()
        .use_file_serialization(hashing_algorithm="sha256")
        .set_ignored_paths(paths=[], ignore_git_paths=False)
    )
    return config.set_allow_symlinks(
        True
    )  # the hub's cache has links to its files; what is hashed is what they lead to


def _library(module: str) -> Any:
    return need(f"model_signing.{module}", extra="sign")


def _password() -> bytes | None:
    word = os.environ.get(PASSWORD)
    return word.encode() if word else None


def _pem(path: Path) -> bytes:
    """A key or certificate as it is.

    Raises:
        SignatureError: it is not there, or none.
    """
    try:
        text = read_bytes(path, _MAX_KEY_BYTES)
    except OSError as error:
        raise SignatureError(f"{path} cannot be read ({error.strerror}): give a key or a certificate (PEM)") from error
    if b"-----BEGIN " not in text:
        raise SignatureError(f"{path} is no key and no certificate: PEM begins with -----BEGIN")
    return text


@contextmanager
def _in_words(what: str, cure: str) -> Iterator[None]:
    """Whatever goes wrong in the block is a refusal: the library raises errors of many kinds."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise SignatureError(f"{what}: {told[:500]}. {cure}") from error
