"""Where a model lies: a path as it is, or for an address on the hub a file of its cache; signed where that is asked."""

from collections.abc import Sequence
from pathlib import Path

from mmadfer.errors import HubError
from mmadfer.share import names
from mmadfer.share.address import is_address, parse_address

BOTH = tuple(names.FORMS)


def model_path(path: Path | str, verify: Path | str | None = None, forms: Sequence[str] = BOTH) -> Path:
    """The model that `path` means; one on the hub is fetched.

    Args:
        path: a model file, a run or fold directory, a folder with the files of a shared model, or an address on the
            hub, `hub:USER/NAME@REVISION`.
        verify: a public key or certificates (PEM): the model's signature is checked before anything of it is read.
        forms: `onnx`, `weights`: what can be used of a shared model, the best first.

    Raises:
        HubError: as `mmadfer.share.fetch.fetch`.
        SignatureError: the signature is missing, of another key, or not of these files.
    """
    if is_address(path):
        from mmadfer.share.fetch import fetch

        fetched = fetch(parse_address(path), forms, whole=verify is not None)
        if verify is not None:
            _verify(fetched.folder, verify, fetched.files)
        return _file(fetched.folder, forms)
    found = Path(path)
    if verify is not None:
        _verify(found, verify)
    return _file(found, forms) if is_shared(found) else found


def local_model(path: Path, form: str) -> Path:
    """A path as it is, and for an address on the hub its file of a form: asked once, so that it stays the same model.

    Raises:
        HubError: as `model_path`.
    """
    return model_path(path, forms=(form,)) if is_address(path) else path


def is_shared(folder: Path) -> bool:
    """Whether it is a folder with the files of a shared model."""
    return (folder / names.CONTRACT).is_file() and any((folder / file).is_file() for file in names.FORMS.values())


def _file(folder: Path, forms: Sequence[str]) -> Path:
    there = [folder / names.FORMS[form] for form in forms if (folder / names.FORMS[form]).is_file()]
    if not there:
        wanted = " or ".join(names.FORMS[form] for form in forms)
        raise HubError(f"{folder} has no {wanted}: give another model, or another backend")
    return there[0]


def _verify(path: Path, key: Path | str, files: Sequence[str] | None = None) -> None:
    from mmadfer.share.signing import verify_model

    verify_model(path, Path(key), files)
