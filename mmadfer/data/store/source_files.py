"""Whether a clip's files are still those that it was made of: size and SHA-256 decide, dates only say where to look.

A clip is made of one file, or of a folder of frames, and in some sets of a sound file beside them. Hidden files in a
folder are none of its frames.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mmadfer.utils.files import is_clutter, sha256

THREADS = 8
"""Clips that are looked at together; a cluster's file system takes its time for each file."""


@dataclass(frozen=True)
class Files:
    """Where a clip's files lie."""

    media: Path
    sound: Path | None = None
    """One that is not there is a clip without sound."""
    more: tuple[Path, ...] = ()
    """Of named tensors."""

    def listed(self) -> list[Path]:
        """The files, frames in the order of their names, the sound and then all others; sound may be missing."""
        sound = [self.sound] if self.sound is not None and os.path.lexists(self.sound) else []
        return [*self.pictures(), *sound, *self.more]

    def pictures(self) -> list[Path]:
        """Those of `media`."""
        if self.media.is_dir():
            return [self.media / name for name in sorted(os.listdir(self.media)) if not is_clutter(name)]
        return [self.media]


class Digest(NamedTuple):
    """What a clip's files hold."""

    size: int
    """Bytes, of all of them together."""
    sha256: str
    """Of the bytes of a single file, or of what `sha256sum` prints for several; empty where one cannot be read."""
    media: str
    """The same of the video file or the frames alone: a clip is known by it under any name and in any data set."""


UNREAD = Digest(0, "", "")


def files_digest(files: Files) -> Digest:
    """Read a clip's files; `UNREAD` where one cannot be read."""
    try:
        listed, pictures = files.listed(), len(files.pictures())
        if not all(path.is_file() for path in listed):  # a named pipe would be waited for without end
            return UNREAD
        sums = [(sha256(path), path.name) for path in listed]
        size = _size(listed)
    except OSError:
        return UNREAD
    return Digest(size, _together(sums), _together(sums[:pictures]))


def _together(sums: Sequence[tuple[str, str]]) -> str:
    if len(sums) == 1:
        return sums[0][0]
    lines = "".join(f"{found}  {name}\n" for found, name in sums)
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()


def stamp(files: Files) -> str:
    """A word that changes with the names, sizes, dates and rights of a clip's files, without reading them."""
    try:
        rows = [[path.name, *_seen(path)] for path in files.listed()]
    except OSError as error:
        rows = [["", error.errno]]
    return hashlib.blake2b(json.dumps(rows).encode(), digest_size=16).hexdigest()


def difference(files: Files, was: Digest) -> str:
    """In what a clip's files are not what they were, in a few words; empty where they are the same."""
    if was == UNREAD:
        return "" if files_digest(files) == UNREAD else "can be read now"
    try:
        size = _size(files.listed())
    except OSError as error:
        return "is gone" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
    if size != was.size:
        return f"has {size} bytes instead of {was.size}"
    now = files_digest(files)
    return "" if now == was else "cannot be read" if now == UNREAD else "has other content of the same size"


def changed_files(
    clips: Mapping[str, Files], were: Mapping[str, Digest], then: Mapping[str, str], step: Callable[[], object] = bool
) -> tuple[dict[str, str], dict[str, str]]:
    """Find the clips whose files are not what they were.

    Args:
        clips: where the files are.
        were: what they held.
        then: their stamps when they held it; files that still have theirs are not read.
        step: called after each clip.

    Returns:
        Clip id -> `difference`, of those that have one, and clip id -> `stamp`, of all.
    """

    def look(name: str) -> tuple[str, str]:
        now = stamp(clips[name])
        return "" if then.get(name) == now else difference(clips[name], were.get(name, UNREAD)), now

    changed, stamps = dict[str, str](), dict[str, str]()
    with ThreadPoolExecutor(THREADS) as threads:
        for name, (how, now) in zip(clips, threads.map(look, clips), strict=True):
            changed |= {name: how} if how else {}
            stamps[name] = now
            step()
    return changed, stamps


def _size(paths: list[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def _seen(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError as error:
        return (error.errno or -1,)
    return found.st_size, found.st_mtime_ns, found.st_mode, os.access(path, os.R_OK)
