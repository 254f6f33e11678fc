"""What the index of a store says, how it is written, and how what a stranger wrote is found out.

Every error here is a ValueError, LookupError or TypeError, which `Store` turns into a word to the user.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from sys import intern
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints
from zipfile import ZIP_STORED, ZipInfo

from pydantic import ValidationError

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.store import splits, targets
from mmadfer.data.store.record import LATER, NAME, Clip, is_storable
from mmadfer.data.store.source_files import Digest
from mmadfer.data.store.targets import Target
from mmadfer.errors import DataError
from mmadfer.utils.terminal import one_line

_FORMAT = "mmadfer-store"
_INDEX_VERSION = 4
LOCAL_HEADER = 30  # bytes before the name in a ZIP member; ours have nothing between the name and the content
PER_FRAME = 16
"""Bytes of a record that a frame takes at least: its checksum and where it starts."""
_INDEX_TYPES: Mapping[str, type] = {
    **dict.fromkeys(("format", "data_set", "root", "root_from_here", "fingerprint"), str),
    **dict.fromkeys(("labels", "clips"), list),
    **dict.fromkeys(("prepare", "targets", "left_out", "left_out_files", "stamps"), dict),
}
"""What the index has, and of which kind."""
_SELDOM = ("media_sha256", "numbered", "targets", "splits", "groups", "tensors", "landmarked")
"""Fields of a clip that the index has only where there is something."""
OF_CLIP = {
    name: {get_origin(kind)} if get_origin(kind) is dict else {*get_args(kind)} or {kind}
    for name, kind in get_type_hints(Clip).items()
}
"""Field of `Clip` -> the kinds that it may have; exactly these, a bool is no number."""
RANGES = {
    "fold": range(1, 10**6),
    "frames": range(1, 2**31),
    "landmarked": range(2**31),
    "rate": range(2**31),
    "size": range(2**63),
    "sound_frames": range(2**31),
}


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
    left_out_files: Mapping[str, Digest] = field(default_factory=dict)
    """Clip id -> what the files of a clip held that is not in the store."""
    targets: Mapping[str, Target] = field(default_factory=dict)
    """Name of a target other than `label` -> what it is."""
    landmarks: str = ""
    """What found the landmarks of the clips (`mmadfer.data.faces.landmarks.model_of`); empty where nothing looked for
    them."""
    stamps: Mapping[str, str] = field(default_factory=dict)
    """Clip id -> stamp of its files as `mmadfer.data.store.source_files.stamp` gives it; only in the parts of a
    preparation, since dates are no part of what a store is."""


class RecordPlace(NamedTuple):
    """Where a record lies in the file, and the checksums that the index has of it."""

    start: int
    size: int
    crc: int
    head: int
    head_crc: int


def to_text(path: Path, header: Header, clips: Mapping[str, Clip], heads: Mapping[str, tuple[int, int]]) -> str:
    """The index as JSON, with one line for each clip."""
    top = {
        "format": _FORMAT,
        "version": _INDEX_VERSION,
        "data_set": header.data_set,
        "labels": header.labels,
        "prepare": header.prepare.model_dump(mode="json"),
        "root": str(header.root),
        "root_from_here": os.path.relpath(header.root, path.absolute().parent),
        "fingerprint": header.fingerprint,
        "targets": {name: asdict(found) for name, found in header.targets.items()},
        "left_out": dict(header.left_out),
        "left_out_files": dict(header.left_out_files),
        "stamps": dict(header.stamps),
        **({"landmarks": header.landmarks} if header.landmarks else {}),
    }
    rows = ",\n".join(json.dumps(_row(clips[name]) | {"head": heads[name]}) for name in sorted(clips))
    return f'{json.dumps(top, indent=1)[:-2]},\n "clips": [\n{rows}\n]}}\n'


def _row(clip: Clip) -> dict[str, Any]:
    """The fields of a clip; a store may have a million of them, so what few clips have is left out where it is not."""
    return {name: value for name, value in asdict(clip).items() if value or name not in _SELDOM}


def check_index_version(index: Mapping[str, Any], path: Path) -> None:
    """Refuse what another version of this program wrote.

    Raises:
        DataError: a store, but not one of `_INDEX_VERSION`.
        ValueError: no store.
    """
    if index["format"] != _FORMAT:
        raise ValueError(f"format {index['format']!r:.60} is not {_FORMAT!r}")
    if type(index["version"]) is not int:
        raise ValueError(f"version {index['version']!r:.60} is no number")
    if index["version"] != _INDEX_VERSION:
        raise DataError(_of_another_time(path, index["version"]))


def _of_another_time(path: Path, version: int) -> str:
    old = version < _INDEX_VERSION
    cure = "delete it and run `mmadfer prepare` again" if old else "read it with that version, or prepare again"
    kind = "an older" if old else "a newer"
    return (
        f"{path} was prepared by {kind} version of mmadfer (store {version}, this one reads {_INDEX_VERSION}): {cure}"
    )


def header(index: Mapping[str, Any], here: Path) -> Header:
    """What an index in the folder `here` says of the whole store.

    Raises:
        ValueError, LookupError, TypeError: it is damaged.
    """
    for key, kind in _INDEX_TYPES.items():
        if type(index[key]) is not kind:
            raise ValueError(f"{key} is a {type(index[key]).__name__}, not a {kind.__name__}")
    _check_kind("labels", index["labels"], str)
    _check_kind("clips", index["clips"], dict)
    try:
        settings = PrepareConfig.model_validate(index["prepare"])
    except ValidationError as error:
        raise ValueError(f"its settings are not understood: {error}") from error
    labels, root = tuple(index["labels"]), _root(index, here)
    if len({*labels}) < len(labels) or not all(map(one_line, (index["data_set"], *labels))):
        raise ValueError("a label is there twice, or a name is no line of text")
    lost = {name: _digest(*found) for name, found in index["left_out_files"].items()}
    _check_kind("left_out", index["left_out"].values(), str)
    _check_kind("stamps", index["stamps"].values(), str)
    found = {name: targets.target(name, tree) for name, tree in index["targets"].items()}
    what = index["data_set"], labels, settings, root, index["fingerprint"], index["left_out"]
    return Header(*what, lost, found, _landmarks(index), index["stamps"])


def _landmarks(index: Mapping[str, Any]) -> str:
    found = index.get("landmarks", "")
    if type(found) is not str or not one_line(found):
        raise ValueError("landmarks is no line of text")
    return found


def _check_kind(what: str, values: Iterable[object], kind: type) -> None:
    if not {*map(type, values)} <= {kind}:
        raise ValueError(f"{what} holds something that is no {kind.__name__}")


def _digest(size: object, digest: object, media: object) -> Digest:
    if type(size) is not int or type(digest) is not str or type(media) is not str:
        raise ValueError("left_out_files holds something that is no size and checksums")
    return Digest(size, digest, media)


def _root(index: Mapping[str, Any], here: Path) -> Path:
    """Where the media are: at the same place relative to the store, if the first one is there, as after a common move.

    That this is a folder says little: of a store inside its own root, it is wherever the store was copied.
    """
    if "\0" in index["root"] + index["root_from_here"]:
        raise ValueError("root is no path")
    moved = Path(os.path.normpath(here / index["root_from_here"]))
    return moved if index["clips"] and os.path.exists(moved / index["clips"][0]["media"]) else Path(index["root"])


def clips(rows: Sequence[dict[str, Any]], about: Header) -> dict[str, Clip]:
    """Clip id -> what the index says of it; column by column, as a store may have a million.

    Raises:
        ValueError, TypeError: a field that is unknown, missing, of another kind or out of range, a label, target or
            split that the store does not have, an id that is there twice or cannot be stored.
    """
    found = [_clip(row) for row in rows]
    for name in OF_CLIP:
        _check_column(found, name)
    named = {clip.id: clip for clip in found}
    if odd := next((name for name in named if not is_storable(name)), None):
        raise ValueError(f"clip id {odd!r:.60} cannot be")
    if len(named) < len(found) or not {clip.label for clip in found} <= {*(about.labels or ("",))}:
        raise ValueError("a clip is there twice, or has a label that the store does not have")
    if any("\0" in clip.media or "\0" in (clip.sound or "") for clip in found):
        raise ValueError("media or sound of a clip is no path")
    if any(clip.landmarked > clip.frames for clip in found):
        raise ValueError("a clip has landmarks in more frames than it has")
    if not all(isfinite(clip.sound_start) for clip in found):
        raise ValueError("sound_start of a clip is no time")
    check_named(found, about)
    return named


def check_named(found: Iterable[Clip], about: Header) -> None:
    """Refuse targets, splits and named tensors that clips of a store cannot have.

    Raises:
        ValueError: names the first.
    """
    parts = defaultdict[str, set[str]](set)
    for clip in found:
        for name, value in clip.targets.items():
            if name not in about.targets:
                raise ValueError(f"clip {clip.id!r} has a target {name!r:.60}, which the store does not have")
            targets.check_value(name, about.targets[name], value)
        if not {type(value) for told in (clip.splits, clip.tensors, clip.groups) for value in told.values()} <= {str}:
            raise ValueError(f"clip {clip.id!r} has splits, groups or tensors that are no text")
        names = all(map(NAME.fullmatch, (*clip.splits, *clip.groups, *clip.tensors))) and LATER not in clip.tensors
        if not names or "\0" in str(clip.tensors):
            raise ValueError(f"clip {clip.id!r} has splits, groups or tensors of names that cannot be")
        if not all(map(one_line, clip.groups.values())):
            raise ValueError(f"clip {clip.id!r} has a group that is no line of text")
        for name, part in clip.splits.items():
            parts[name].add(part)
    splits.check_parts(parts)


def _check_column(found: Sequence[Clip], name: str) -> None:
    column = [getattr(clip, name) for clip in found]
    if not {*map(type, column)} <= OF_CLIP[name] or not _within(column, RANGES.get(name)):
        odd = next(k for k, value in enumerate(column) if not _may_be(name, value))
        raise ValueError(f"clip {found[odd].id!r:.60} has {name} {column[odd]!r:.60}, which cannot be")


def _within(column: Sequence[int], allowed: range | None) -> bool:
    return allowed is None or not column or (min(column) in allowed and max(column) in allowed)


def _may_be(name: str, value: Any) -> bool:
    return type(value) in OF_CLIP[name] and _within([value], RANGES.get(name))


def _clip(row: dict[str, Any]) -> Clip:
    row["label"] = intern(row["label"])  # a few words, shared by thousands of clips
    return Clip(**row)


def check_stored(member: ZipInfo, length: int) -> None:
    """Refuse a member that is packed, which could swell, or does not lie in a file of `length` bytes.

    Raises:
        ValueError: it is, or does not; names it.
    """
    end = member.header_offset + LOCAL_HEADER + len(member.filename.encode()) + member.file_size
    if member.compress_type != ZIP_STORED or member.compress_size != member.file_size:
        raise ValueError(f"{member.filename} is packed")
    if not 0 <= member.header_offset < end <= length:
        raise ValueError(f"{member.filename} does not lie within the file")


def record_place(member: ZipInfo, clip: Clip, head: Sequence[int], length: int) -> RecordPlace:
    """Where the record of a clip is: in this ZIP member of a file of `length` bytes, its head as in the index.

    Raises:
        ValueError, TypeError: there is no room for such a record.
    """
    check_stored(member, length)
    size, crc = head
    if type(size) is not int or type(crc) is not int or not 0 < size <= member.file_size:
        raise ValueError(f"the head of clip {clip.id!r} does not lie in its record")
    if clip.frames * PER_FRAME > member.file_size:
        raise ValueError(f"clip {clip.id!r} has {clip.frames} frames in {member.file_size} bytes, which cannot be")
    start = member.header_offset + LOCAL_HEADER + len(member.filename.encode())
    return RecordPlace(start, member.file_size, member.CRC, size, crc)
