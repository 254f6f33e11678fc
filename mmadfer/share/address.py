"""Addresses of models on the hub: `hub:USER/NAME` or `hub:USER/NAME@REVISION`."""

import re
from pathlib import Path
from typing import NamedTuple

from mmadfer.errors import HubError

PREFIX = "hub:"
COMMIT = re.compile(r"[0-9a-f]{40}")
"""A revision that names one commit, and is no branch or tag."""
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")


class HubAddress(NamedTuple):
    """A repository on the hub, and a revision of it."""

    repo: str
    """`USER/NAME`."""
    revision: str | None = None
    """A commit, a tag or a branch; None: the newest of `main`."""

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}" + (f"@{self.revision}" if self.revision else "")


def is_address(path: Path | str) -> bool:
    """Whether it is an address on the hub, and no file."""
    return str(path).startswith(PREFIX)


def parse_address(text: Path | str) -> HubAddress:
    """The parts of an address.

    Raises:
        HubError: it has another form.
    """
    repo, at, revision = str(text).removeprefix(PREFIX).partition("@")
    fits = is_address(text) and _REPO.fullmatch(repo) and ".." not in str(text) and "--" not in repo
    if not fits or (at and not _REVISION.fullmatch(revision)):
        raise HubError(f"{str(text)!r:.200} is no address on the hub: it reads hub:USER/NAME or hub:USER/NAME@REVISION")
    return HubAddress(repo, revision or None)
