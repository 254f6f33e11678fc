"""A model from the hub into its cache: one pinned commit, files of known names, compared with the hub's hashes."""

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmadfer.errors import HubError
from mmadfer.share import names
from mmadfer.share.address import COMMIT, HubAddress
from mmadfer.share.client import UnreachableError, api, client, endpoint, in_words, offline
from mmadfer.utils.files import sha256
from mmadfer.utils.logs import logger

LOGGER = logger(__name__)


class Fetched(NamedTuple):
    """A model in the cache."""

    folder: Path
    commit: str
    """The commit that the address stood for."""
    files: list[str]
    """Those of a shared model that are in the folder."""


def fetch(address: HubAddress, forms: Sequence[str], whole: bool = False) -> Fetched:
    """Fetch a model, or take it from the cache where that has it.

    Args:
        address: of the model.
        forms: `onnx`, `weights`: the first that is there is fetched.
        whole: all files of the model, as a signature is of all.

    Raises:
        HubError: no such repository or revision; no model of mmadfer, or pickles alone; a file that is too large, or
            other than the hub says.
        UnreachableError: there is no network, and the cache does not have it.
        OSError: the disk is full.
        MissingDependencyError: huggingface_hub is not installed.
    """
    with in_words(address):
        try:
            info = None if offline() else _info(address)
        except client("httpx2").TransportError:
            LOGGER.warning(f"{address}: the hub cannot be reached; what the cache has is used")
            info = None
        if info is None:
            return _cached(address, _commit(address, cached=True), forms)
        return _fetch(address, info, forms, whole)


def _fetch(address: HubAddress, info: Any, forms: Sequence[str], whole: bool) -> Fetched:
    siblings = list(info.siblings or ())
    found = [one.rfilename for one in siblings]
    if names.CONTRACT not in found:
        raise HubError(f"{address} holds no model that `mmadfer push` wrote: it has no {names.CONTRACT}")
    form = _form(address, found, forms)
    kept = {*(names.allowed(found) if whole else names.needed(found, form))}
    wanted = [one for one in siblings if one.rfilename in kept]
    _check_sizes(address, wanted, info.sha)
    commit = _commit(address)
    if commit != info.sha:
        raise HubError(f"{address} has changed while it was fetched, or the hub errs: fetch it again")
    for one in wanted:
        _fetch_one(address, commit, one)
    LOGGER.info(f"{address} is commit {commit}")
    return _cached(address, commit, [form])


def _info(address: HubAddress) -> Any:
    """What the hub says of a revision: its commit, and its files with sizes and hashes."""
    return api().model_info(address.repo, revision=address.revision, files_metadata=True)


def _commit(address: HubAddress, cached: bool = False) -> str:
    """The commit that an address stands for; the cache remembers it for when there is no network."""
    path = Path(_download(address.repo, names.CONTRACT, address.revision or "main", cached=cached))
    commit = path.parent.name
    if not COMMIT.fullmatch(commit) or (COMMIT.fullmatch(address.revision or "") and commit != address.revision):
        raise HubError(f"{address}: the hub calls its commit {commit!r:.80}, which is none: check HF_ENDPOINT")
    return commit


def _form(address: HubAddress, found: Sequence[str], forms: Sequence[str]) -> str:
    for form in forms:
        if names.FORMS[form] in found:
            return form
    wanted = " or ".join(names.FORMS[form] for form in forms)
    if odd := names.pickles(found):
        raise HubError(
            f"{address} has no {wanted}, but {', '.join(odd[:3])}: a pickle is a program to whoever loads it, and is "
            "never fetched. Ask its owner for safetensors (`mmadfer push` writes them)"
        )
    raise HubError(f"{address} has no {wanted}: give another repository or revision")


def _check_sizes(address: HubAddress, wanted: Iterable[Any], commit: str) -> None:
    """Before anything is fetched: whether each file may be as large, and there is room for those that are not here."""
    total = 0
    for one in wanted:
        most, size = names.most_bytes(one.rfilename) or 0, one.size
        if not isinstance(size, int) or not 0 <= size <= most:
            raise HubError(
                f"{address}: {one.rfilename} has {size} bytes, of at most {most}: it is not what its name says"
            )
        here = client().try_to_load_from_cache(address.repo, one.rfilename, revision=commit)
        total += 0 if isinstance(here, str) else size
    place = Path(client("huggingface_hub.constants").HF_HUB_CACHE)
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    if (free := shutil.disk_usage(there).free) < total:
        raise HubError(
            f"{address} has {total >> 20} MiB more, but {place} has {free >> 20} MiB left: make room, or set HF_HOME"
        )


def _fetch_one(address: HubAddress, commit: str, one: Any) -> None:
    """Fetch a file unless the cache has it, and compare it with the hub's hash; one that differs is removed."""
    path = Path(_download(address.repo, one.rfilename, commit, one.size))
    told, found = (one.lfs.sha256, sha256(path)) if one.lfs else (one.blob_id, _git_hash(path))
    if told != found:
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise HubError(
            f"{address}: {one.rfilename} has the hash {found[:12]}, but the hub says {told!s:.12}: it was damaged on "
            "its way, or in the cache. Fetch it again"
        )


def _git_hash(path: Path) -> str:
    """As git names a file's content."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _download(repo: str, name: str, revision: str, size: int | None = None, cached: bool = False) -> str:
    most = names.most_bytes(name) if size is None else size
    how = {"endpoint": endpoint(), "tqdm_class": _bounded(name, most), "local_files_only": cached}
    return str(client().hf_hub_download(repo, name, revision=revision, **how))


def _bounded(name: str, most: int | None) -> type:
    """The client's progress bar, which stops where more comes than was said."""
    plain: type = client("huggingface_hub.utils").tqdm

    class Bounded(plain):
        def update(self, n: float | None = 1) -> Any:
            self.come = getattr(self, "come", 0) + (n or 0)
            if most is not None and self.come > most:
                raise HubError(
                    f"{name} goes on after the {most} bytes that the hub says it has: it is not fetched further"
                )
            return super().update(n)

    return Bounded


def _cached(address: HubAddress, commit: str, forms: Sequence[str]) -> Fetched:
    """What the cache has of a commit."""
    path = client().try_to_load_from_cache(address.repo, names.CONTRACT, revision=commit)
    folder = Path(str(path)).parent
    found = names.allowed(one.name for one in folder.iterdir()) if isinstance(path, str) else []
    if not any(names.FORMS[form] in found for form in forms):
        wanted = " or ".join(names.FORMS[form] for form in forms)
        raise UnreachableError(f"{address}: the cache has no {wanted} of commit {commit}: fetch it once with a network")
    return Fetched(folder, commit, found)
