"""The store: one file with every prepared clip of a data set, read at random by clip id.

The container is a ZIP without compression: random access by name, a CRC-32 for each record, one file for the
cluster's file system instead of a million, written by the standard library, and any tool can list and check it.
LMDB and HDF5 need a library each and lock or corrupt on network file systems; WebDataset's tar has no index and no
checksum.

    index.json                    format, data set, labels, settings, fingerprint, clips, clips left out
    clips/<id>.safetensors        jpeg uint8 (all frames, concatenated), offsets int64 (n + 1), fbank float32
"""

import errno
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError

from mmadfer.config import PrepareConfig
from mmadfer.data.record import Clip, Record, check_id, decode, encode
from mmadfer.errors import DataError
from mmadfer.files import atomic

__all__ = ["Clip", "Header", "Record", "Store", "check_id", "write", "writing"]

FORMAT = "mmadfer-store"
VERSION = 1
INDEX = "index.json"
FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    LookupError,
    TypeError,
    RuntimeError,
    OSError,
    EOFError,
)
"""What `zipfile` and our own parsing raise on bytes that are not what they should be."""
LOCAL_HEADER = 30  # bytes before the name in a ZIP member; the lengths of name and extra field are its last four


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


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an operating system's "no" while writing `path` into a DataError that says what to do."""
    try:
        yield
    except OSError as error:
        cure = "Make room, or raise the quota or file size limit" if error.errno in FULL_DISK else "Mend that"
        raise DataError(
            f"{path} could not be written: {os.strerror(error.errno or 0)}. Nothing half-written was left there. "
            f"{cure}, and run the same command again."
        ) from error


def write(path: Path | str, header: Header, records: Iterable[tuple[Clip, Record | bytes]]) -> None:
    """Write a store atomically; the same input gives the same bytes.

    Args:
        path: the file to write; an existing one is replaced.
        header: what holds for all clips.
        records: clips with their content, or with the bytes that `encode` made of it.

    Raises:
        DataError: an id twice or not storable, a label that is not in the header, or a full disk.
    """
    path, clips = Path(path), dict[str, Clip]()
    with writing(path), atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for clip, content in records:
            _check(clip, header, clips)
            clips[clip.id] = clip
            archive.writestr(_member(clip.id), content if isinstance(content, bytes) else encode(content))
        archive.writestr(zipfile.ZipInfo(INDEX), json.dumps(_index(path, header, clips), indent=1))


def _check(clip: Clip, header: Header, seen: Mapping[str, Clip]) -> None:
    check_id(clip.id)
    if clip.id in seen:
        raise DataError(
            f"clip id {clip.id!r} occurs twice ({seen[clip.id].media} and {clip.media}); ids must be unique"
        )
    if clip.label not in header.labels:
        raise DataError(f"clip {clip.id!r} has label {clip.label!r}, which is none of {', '.join(header.labels)}")


def _member(clip: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(
        f"clips/{clip}.safetensors"
    )  # with the ZIP epoch as its date, so that bytes are reproducible


def _index(path: Path, header: Header, clips: Mapping[str, Clip]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "data_set": header.data_set,
        "labels": header.labels,
        "prepare": header.prepare.model_dump(mode="json"),
        "root": str(header.root),
        "root_from_here": os.path.relpath(header.root, path.absolute().parent),
        "fingerprint": header.fingerprint,
        "left_out": dict(header.left_out),
        "clips": [asdict(clips[name]) for name in sorted(clips)],
    }


class Store:
    """A store opened for reading; safe in threads and after a fork, and pickled as its path.

    Attributes:
        clips: clip id -> what the index says of it, sorted by id.
        labels: class names, in class order.
        folds: the folds that have clips, in order.
        data_set: name of the set.
        prepare: the settings that the clips were prepared with.
        root: the folder where the media files lay.
        size: height and width of every frame.
        left_out: clip id -> why it is not in the store.

    Raises:
        DataError: no such file, not a store, cut off, or an index that is damaged.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).absolute()
        self._file = _open(self.path)
        try:
            self._members, index = self._directory()
            self.header = _header(index, self.path.parent)
            self.clips = {item["id"]: Clip(**item) for item in index["clips"]}
        except DAMAGE as error:
            self.close()
            raise DataError(_not_a_store(self.path, error)) from error
        self.labels, self.data_set, self.root = self.header.labels, self.header.data_set, self.header.root
        self.prepare, self.left_out = self.header.prepare, self.header.left_out
        self.size = (self.prepare.face_size, self.prepare.face_size)
        self.folds = tuple(sorted({clip.fold for clip in self.clips.values()}))

    def _directory(self) -> tuple[dict[str, zipfile.ZipInfo], dict[str, Any]]:
        with zipfile.ZipFile(self.path) as archive:
            index = json.loads(archive.read(INDEX))
            if index["format"] != FORMAT or index["version"] != VERSION:
                raise ValueError(f"format {index['format']!r} version {index['version']!r} is not {FORMAT!r} {VERSION}")
            return {info.filename: info for info in archive.infolist()}, index

    def __reduce__(self) -> tuple[type["Store"], tuple[Path]]:
        return Store, (self.path,)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.clips)

    def media(self, clip: str) -> Path:
        """The media file of a clip."""
        return self.root / self._clip(clip).media

    def fold(self, k: int) -> list[str]:
        """Ids of the test clips of fold `k` (from 1), sorted.

        Raises:
            DataError: no clip is in that fold.
        """
        ids = [name for name, clip in self.clips.items() if clip.fold == k]
        if not ids:
            raise DataError(f"{self.path} has no fold {k}; it has {', '.join(map(str, self.folds))}")
        return ids

    def read(self, clip: str) -> Record:
        """The content of a clip.

        Raises:
            DataError: no such clip, or its bytes do not have the checksum that they were written with.
        """
        with self._whole_record(clip):
            return decode(self._bytes(clip))

    def raw(self, clip: str) -> bytes:
        """Like `read`, but the bytes that `write` takes."""
        with self._whole_record(clip):
            return self._bytes(clip)

    def verify(self) -> list[str]:
        """Ids of the clips that cannot be read or do not have the frames that the index says."""
        return [name for name, clip in self.clips.items() if not self._whole(clip)]

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __del__(self) -> None:
        if getattr(self, "_file", -1) >= 0:
            self.close()

    def _clip(self, clip: str) -> Clip:
        if clip not in self.clips:
            raise DataError(f"{self.path} has no clip {clip!r}{_why(self.left_out.get(clip))}")
        return self.clips[clip]

    @contextmanager
    def _whole_record(self, clip: str) -> Iterator[None]:
        self._clip(clip)
        try:
            yield
        except (ValueError, KeyError, struct.error, SafetensorError) as error:
            raise DataError(
                f"clip {clip!r} in {self.path} is damaged ({error}). "
                "Copy the store again from where it is whole, or delete it and run `mmadfer prepare` again."
            ) from error

    def _bytes(self, clip: str) -> bytes:
        # pread has no shared position, so that threads and forked readers do not disturb each other
        info = self._members[_member(clip).filename]
        lengths = os.pread(self._file, 4, info.header_offset + LOCAL_HEADER - 4)
        start = info.header_offset + LOCAL_HEADER + sum(struct.unpack("<HH", lengths))
        data = os.pread(self._file, info.file_size, start)
        if zlib.crc32(data) != info.CRC:
            raise ValueError(f"its checksum is {zlib.crc32(data):08x} instead of {info.CRC:08x}")
        return data

    def _whole(self, clip: Clip) -> bool:
        try:
            return len(self.read(clip.id).jpegs) == clip.frames
        except DataError:
            return False


def _open(path: Path) -> int:
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "")
        return os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise DataError(f"no store at {path} ({reason}); make one with `mmadfer prepare`") from error


def _header(index: dict[str, Any], here: Path) -> Header:
    try:
        settings = PrepareConfig.model_validate(index["prepare"])
    except ValidationError as error:
        raise ValueError(f"its settings are not understood: {error}") from error
    moved = Path(os.path.normpath(here / index["root_from_here"]))  # store and media were moved together
    labels, root = tuple(index["labels"]), moved if moved.is_dir() else Path(index["root"])
    return Header(index["data_set"], labels, settings, root, index["fingerprint"], index["left_out"])


def _not_a_store(path: Path, error: Exception) -> str:
    return (
        f"{path} is not a whole mmadfer store ({error}): it is another file, or cut off or damaged. "
        "Copy it again from where it is whole, or delete it and run `mmadfer prepare` again."
    )


def _why(reason: str | None) -> str:
    return f": preparation left it out ({reason})" if reason else ""
