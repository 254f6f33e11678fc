"""What the index of a store says, and how it is written."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from sys import intern
from typing import Any, NamedTuple
from zipfile import ZipInfo

from pydantic import ValidationError

from mmadfer.config import PrepareConfig
from mmadfer.data.record import Clip
from mmadfer.errors import DataError

FORMAT = "mmadfer-store"
VERSION = 2
LOCAL_HEADER = 30  # bytes before the name in a ZIP member; ours have nothing between the name and the content


@dataclass(frozen=True)
class Header:
    """What holds for the whole store."""

    data_set: str
    labels: tuple[str, ...]
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    root: Path = Path()
    fingerprint: str = ""
    """Of settings and sources; equal fingerprints mean that preparing again would give the same store."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Clip id -> why it is not in the store."""
    left_out_files: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    """Clip id -> size and SHA-256 of the files of a clip that is not in the store."""
    stamps: Mapping[str, str] = field(default_factory=dict)
    """Clip id -> stamp of its files as `mmadfer.data.stamp.stamp` gives it; only in the parts of a preparation, since
    dates are no part of what a store is."""


class Place(NamedTuple):
    """Where a record lies in the file, and the checksums that the index has of it."""

    start: int
    size: int
    crc: int
    head: int
    head_crc: int


def to_text(path: Path, header: Header, clips: Mapping[str, Clip], heads: Mapping[str, tuple[int, int]]) -> str:
    """The index as JSON, with one line for each clip."""
    top = {
        "format": FORMAT,
        "version": VERSION,
        "data_set": header.data_set,
        "labels": header.labels,
        "prepare": header.prepare.model_dump(mode="json"),
        "root": str(header.root),
        "root_from_here": os.path.relpath(header.root, path.absolute().parent),
        "fingerprint": header.fingerprint,
        "left_out": dict(header.left_out),
        "left_out_files": dict(header.left_out_files),
        "stamps": dict(header.stamps),
    }
    rows = ",\n".join(json.dumps(asdict(clips[name]) | {"head": heads[name]}) for name in sorted(clips))
    return f'{json.dumps(top, indent=1)[:-2]},\n "clips": [\n{rows}\n]}}\n'


def check_version(index: Mapping[str, Any], path: Path) -> None:
    """Refuse what another version of this program wrote.

    Raises:
        DataError: a store, but not one of `VERSION`.
        ValueError: no store.
    """
    if index["format"] != FORMAT:
        raise ValueError(f"format {index['format']!r} is not {FORMAT!r}")
    if index["version"] != VERSION:
        raise DataError(_of_another_time(path, index["version"]))


def _of_another_time(path: Path, version: object) -> str:
    old = isinstance(version, int) and version < VERSION
    cure = "delete it and run `mmadfer prepare` again" if old else "read it with that version, or prepare again"
    kind = "an older" if old else "a newer"
    return f"{path} was prepared by {kind} version of mmadfer (store {version}, this one reads {VERSION}): {cure}"


def header(index: Mapping[str, Any], here: Path) -> Header:
    """What an index in the folder `here` says of the whole store.

    Raises:
        ValueError, LookupError, TypeError: it is damaged.
    """
    try:
        settings = PrepareConfig.model_validate(index["prepare"])
    except ValidationError as error:
        raise ValueError(f"its settings are not understood: {error}") from error
    labels, root = tuple(index["labels"]), _root(index, here)
    lost = {name: (size, digest) for name, (size, digest) in index["left_out_files"].items()}
    what = index["data_set"], labels, settings, root, index["fingerprint"], index["left_out"]
    return Header(*what, lost, index["stamps"])


def _root(index: Mapping[str, Any], here: Path) -> Path:
    """Where the media are: at the same place relative to the store, if the first one is there, as after a common move.

    That this is a folder says little: of a store inside its own root, it is wherever the store was copied.
    """
    moved = Path(os.path.normpath(here / index["root_from_here"]))
    return moved if index["clips"] and os.path.exists(moved / index["clips"][0]["media"]) else Path(index["root"])


def clip(row: dict[str, Any]) -> Clip:
    """What the index says of one clip."""
    row["label"] = intern(row["label"])  # a few words, shared by thousands of clips
    return Clip(**row)


def place(member: ZipInfo, head: int, head_crc: int) -> Place:
    """Where the record of a ZIP member is, whose head has this size and checksum."""
    start = member.header_offset + LOCAL_HEADER + len(member.filename.encode())
    return Place(start, member.file_size, member.CRC, head, head_crc)
