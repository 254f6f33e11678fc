"""The store: one file with every prepared clip of a data set, read at random by clip id, or by clip and frame.

The container is a ZIP without compression: random access by name, a CRC-32 for each record, one file for the cluster's
file system instead of a million, written by the standard library, and any tool can list and check it. Records are
safetensors (`mmadfer.data.store.record`), which any framework reads and nobody has to unpickle. LMDB and HDF5 need a
library each and lock or corrupt on network file systems; WebDataset's tar has no index and no checksum; Parquet and
Arrow read rows by the group, and a JPEG gains nothing from columns; array formats (Zarr, NumPy) want items of one size.

    clips/<id>.safetensors        a record; its head (all but frames and named tensors) has a checksum in the index
    index.json                    format, data set, labels, targets, settings, fingerprint, clips, clips left out

So the frames that training draws are read and checked without the others: the head first, whose length the index knows,
then the frames, where neighbours are fetched together, each with its checksum from the head. Named tensors, or some of
their rows, are read when they are asked for.
"""

import errno
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from mmadfer.data.store import index as indexes
from mmadfer.data.store import splits, targets
from mmadfer.data.store.index import Header, RecordPlace
from mmadfer.data.store.record import (
    LATER,
    Clip,
    ClipRecord,
    Head,
    Part,
    check_id,
    checked_bytes,
    decode_record,
    encode_record,
    read_head,
    runs,
)
from mmadfer.data.store.source_files import Digest, Files
from mmadfer.data.store.targets import LABEL, Target
from mmadfer.errors import DataError
from mmadfer.utils.files import atomic

__all__ = ["Clip", "ClipRecord", "Header", "Store", "check_id", "write_store", "writing_store"]

Rows = Callable[[np.ndarray, int], range | np.ndarray]
"""When each frame of a clip is shown, float64 seconds, and the rows of a named tensor -> those wanted, int64 (k,)."""
INDEX = "index.json"
_MAX_SHOWN_CHARACTERS = 400
"""Characters of what is wrong that are shown, as it may be text of a stranger."""
FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
ODD = (ValueError, LookupError, TypeError, RuntimeError, OSError, EOFError, OverflowError)
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, *ODD)
"""What `zipfile` and our own parsing raise on bytes that are not what they should be."""


@contextmanager
def writing_store(path: Path) -> Iterator[None]:
    """Turn an operating system's "no" while writing `path` into a DataError that says what to do."""
    try:
        yield
    except OSError as error:
        cure = "Make room, or raise the quota or file size limit" if error.errno in FULL_DISK else "Mend that"
        raise DataError(
            f"{path} could not be written: {os.strerror(error.errno or 0)}. Nothing half-written was left there. "
            f"{cure}, and run the same command again."
        ) from error


def write_store(
    path: Path | str,
    header: Header,
    records: Iterable[tuple[Clip, ClipRecord | bytes]],
    complete: Callable[[Header], Header] = lambda header: header,
) -> None:
    """Write a store atomically; the same input gives the same bytes.

    Args:
        path: the file to write; an existing one is replaced.
        header: what holds for all clips.
        records: clips with their content, or with the bytes that `encode_record` made of it; one is held at a time.
        complete: makes the header that is written, when all records are.

    Raises:
        DataError: an id twice or not storable, a label that is not in the header, or a full disk.
    """
    path, clips = Path(path), dict[str, Clip]()
    heads = dict[str, tuple[int, int]]()
    with writing_store(path), atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for clip, content in records:
            _check(clip, header, clips)
            data = content if isinstance(content, bytes) else encode_record(content)
            size = read_head(data, len(data)).size
            clips[clip.id], heads[clip.id] = clip, (size, zlib.crc32(data[:size]))
            archive.writestr(_member(clip.id), data)
        _check_named(path, clips.values(), header)
        archive.writestr(zipfile.ZipInfo(INDEX), indexes.to_text(path, complete(header), clips, heads))


def _check(clip: Clip, header: Header, seen: Mapping[str, Clip]) -> None:
    check_id(clip.id)
    if clip.id in seen:
        raise DataError(
            f"clip id {clip.id!r} occurs twice ({seen[clip.id].media} and {clip.media}); ids must be unique"
        )
    if clip.label not in (header.labels or ("",)):
        raise DataError(f"clip {clip.id!r} has label {clip.label!r}, which is none of {', '.join(header.labels)}")


def _check_named(path: Path, clips: Iterable[Clip], header: Header) -> None:
    try:
        for name, found in header.targets.items():
            targets.checked(name, found)
        indexes.check_named(clips, header)
    except ValueError as error:
        raise DataError(f"{path} cannot be written: {error}") from error


def _member(clip: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(
        f"clips/{clip}.safetensors"
    )  # with the ZIP epoch as its date, so that bytes are reproducible


class Store:
    """A store opened for reading; safe in threads and after a fork, and pickled as its path.

    Attributes:
        clips: clip id -> what the index says of it, sorted by id.
        labels: class names of the target `label`, in class order; none where the store has no such target.
        targets: name -> what it is, of all targets.
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
            length = os.fstat(self._file).st_size
            index, members = self._directory(length)
            self.header = indexes.header(index, self.path.parent)
            heads = [row.pop("head") for row in index["clips"]]
            self.clips = indexes.clips(index["clips"], self.header)
            self._places = {
                name: indexes.record_place(members[_member(name).filename], clip, head, length)
                for (name, clip), head in zip(self.clips.items(), heads, strict=True)
            }
        except DAMAGE as error:
            self.close()
            raise DataError(_not_a_store(self.path, error)) from error
        self.labels, self.data_set, self.root = self.header.labels, self.header.data_set, self.header.root
        self.prepare, self.left_out = self.header.prepare, self.header.left_out
        own = {LABEL: Target(LABEL, self.labels)} if self.labels else {}
        self.targets: dict[str, Target] = {**own, **self.header.targets}
        self.size = (self.prepare.face_size, self.prepare.face_size)
        self.folds = tuple(sorted({clip.fold for clip in self.clips.values()}))
        self._splits = dict[tuple[str, int], splits.Split]()

    def _directory(self, length: int) -> tuple[dict[str, Any], dict[str, zipfile.ZipInfo]]:
        with os.fdopen(os.dup(self._file), "rb") as file, zipfile.ZipFile(file) as archive:
            indexes.check_stored(archive.getinfo(INDEX), length)
            index = json.loads(archive.read(INDEX))
            indexes.check_index_version(index, self.path)
            return index, archive.NameToInfo

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

    @property
    def digests(self) -> dict[str, Digest]:
        """Clip id -> what its files held when it was prepared; of clips left out, too."""
        kept = {name: Digest(clip.size, clip.sha256, clip.media_digest) for name, clip in self.clips.items()}
        return {**kept, **self.header.left_out_files}

    def files(self, clip: str) -> Files:
        """Where the files of a clip lie."""
        found = self._clip(clip)
        more = tuple(self.root / path for _, path in sorted(found.tensors.items()) if path)
        return Files(self.media(clip), None if found.sound is None else self.root / found.sound, more)

    def split(self, name: str = splits.FOLDS, folds: int = 0) -> splits.Split:
        """A split by its name, `by_subject` with so many folds; found once.

        Raises:
            DataError: the store has no such split, or clips without a subject where it is by subject, or too few
                subjects.
        """
        if (name, folds) not in self._splits:
            try:
                self._splits[name, folds] = splits.split(name, self.clips, folds)
            except DataError as error:
                raise DataError(f"{self.path}: {error}") from error
        return self._splits[name, folds]

    def fold(self, k: int, split: str = splits.FOLDS, folds: int = 0) -> list[str]:
        """Ids of the test clips of fold `k` (from 1) of a split, sorted; `folds` as in `split`.

        Raises:
            DataError: no clip is in that fold, or there is no such split.
        """
        found = self.split(split, folds)
        if k not in found.folds:
            where = "" if split == splits.FOLDS else f" of the split {split}"
            raise DataError(f"{self.path} has no fold {k}{where}; it has {', '.join(map(str, found.folds))}")
        return found.test(k)

    def read(
        self,
        clip: str,
        frames: Sequence[int] | None = None,
        tensors: Sequence[str] = (),
        rows: Mapping[str, Rows] = MappingProxyType({}),
    ) -> ClipRecord:
        """The content of a clip.

        Args:
            clip: its id.
            frames: which frames, from 0, in the order in which they are wanted; one may be wanted more than once.
                Only what they need is read and checked. None: all, and all named tensors.
            tensors: which named tensors, where frames are asked for; those that the clip lacks are left out.
            rows: named tensors of which some rows are wanted, likewise; no other blocks of them are read.

        Raises:
            DataError: no such clip, or what was read does not have the checksum that it was written with.
            IndexError: the clip has no such frame.
        """
        place = self._place(clip)
        with self._whole_record(clip):
            if frames is None:
                data = self._bytes(place.start, place.size, place.crc)
                self._check_shape(clip, read_head(data, len(data)))
                return decode_record(data)
            head = read_head(self._bytes(place.start, place.head, place.head_crc), place.size)
            self._check_shape(clip, head)
        if any(not 0 <= k < len(head.crcs) for k in frames):
            raise IndexError(f"clip {clip!r} has {len(head.crcs)} frames, and was asked for {list(frames)}")
        with self._whole_record(clip):
            values = {
                name: self._tensor(place.start, part, rows[name](head.times, part.shape[0]) if name in rows else None)
                for name, part in head.parts.items()
                if name in tensors or name in rows
            }
            return ClipRecord(self._frames(place.start + head.size, head, frames), head.fbank, head.times, values)

    def raw(self, clip: str) -> bytes:
        """Like `read`, but the bytes that `write_store` takes."""
        place = self._place(clip)
        with self._whole_record(clip):
            return self._bytes(place.start, place.size, place.crc)

    def verify(self, step: Callable[[], object] = bool) -> list[str]:
        """Ids of the clips that cannot be read or are not what the index says; `step` is called after each clip."""
        return [name for name in self.clips if (not self._is_whole(name), step())[0]]

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __del__(self) -> None:
        if os and getattr(self, "_file", -1) >= 0:  # at the interpreter's end, modules may be gone already
            self.close()

    def _clip(self, clip: str) -> Clip:
        if clip not in self.clips:
            why = f": preparation left it out ({self.left_out[clip]})" if clip in self.left_out else ""
            raise DataError(f"{self.path} has no clip {clip!r}{why}")
        return self.clips[clip]

    def _place(self, clip: str) -> RecordPlace:
        return self._places[self._clip(clip).id]

    @contextmanager
    def _whole_record(self, clip: str) -> Iterator[None]:
        try:
            yield
        except DAMAGE as error:
            what = "cannot be read" if isinstance(error, OSError) else "is damaged"
            raise DataError(
                f"clip {clip!r} in {self.path} {what} ({error}). "
                "Copy the store again from where it is whole, or delete it and run `mmadfer prepare` again."
            ) from error

    def _check_shape(self, clip: str, head: Head) -> None:
        """Refuse a record that is another than the index says; raises ValueError."""
        found, bands = self.clips[clip], (self.prepare.sound.frames, self.prepare.sound.mels)
        frames, fbank = len(head.crcs), head.fbank
        if frames != found.frames or fbank.shape != bands:
            told = f"the index says {found.frames} and {bands}"
            raise ValueError(f"it has {frames} frames and {fbank.shape} filter bank, {told}")
        if {*head.parts} - {LATER} != {*found.tensors}:
            raise ValueError(f"it has the tensors {', '.join(head.parts):.100}, the index says otherwise")
        later, due = head.parts.get(LATER), max(0, found.sound_frames - bands[0])
        if (later is None) != (due == 0) or (later and (later.dtype, later.shape) != ("float32", (due, bands[1]))):
            raise ValueError(f"its sound does not have the {found.sound_frames} frames that the index says")
        for name in (name for name, one in self.targets.items() if one.kind == "steps" and name in head.parts):
            part, wide = head.parts[name], len(self.targets[name].names)
            if part.dtype != "float32" or len(part.shape) != 2 or part.shape[1] != wide or not part.shape[0]:
                raise ValueError(f"its target {name} is {part.dtype} {part.shape}, not float32 (steps, {wide})")

    def _tensor(self, start: int, part: Part, rows: range | np.ndarray | None) -> np.ndarray | str:
        """A named tensor of the record at `start`, or some of its rows."""
        if rows is None:
            return part.value(self._read(part.size, start + part.start))
        if isinstance(rows, np.ndarray):
            return np.asarray(self._tensor(start, part, range(int(rows.min()), int(rows.max()) + 1)))[rows - rows.min()]
        within = range(min(rows.start, part.shape[0]), min(max(rows.start, rows.stop), part.shape[0]))
        place = part.blocks(within)
        return part.rows(self._read(len(place), start + part.start + place.start), within)

    def _bytes(self, start: int, size: int, crc: int) -> bytes:
        return checked_bytes(self._read(size, start), crc)

    def _read(self, size: int, start: int) -> bytes:
        if self._file < 0:
            raise DataError(f"{self.path} is closed: open it again to read it")
        # pread has no shared position, so that threads and forked readers do not disturb each other
        data = os.pread(self._file, size, start)
        while len(data) < size and (more := os.pread(self._file, size - len(data), start + len(data))):
            data += more  # a system may give less than it was asked for
        return data

    def _frames(self, start: int, head: Head, frames: Sequence[int]) -> list[bytes]:
        found = dict[int, bytes]()
        for run in runs(sorted(set(frames)), head.offsets):
            first = int(head.offsets[run[0]])
            data = self._read(int(head.offsets[run[-1] + 1]) - first, start + first)
            for k in run:
                found[k] = checked_bytes(data[head.offsets[k] - first : head.offsets[k + 1] - first], head.crcs[k])
        return [found[k] for k in frames]

    def _is_whole(self, clip: str) -> bool:
        """Whether any way of reading it would give what was written."""
        place, member = self._places[clip], _member(clip)
        member.CRC, member.file_size, member.compress_size = place.crc, place.size, place.size
        try:
            local = member.FileHeader(zip64=False)
            data = self.raw(clip)
            head = read_head(data, len(data))
            self._check_shape(clip, head)
            checked_bytes(data[: place.head], place.head_crc)
            for part in head.parts.values():
                part.value(data[part.start : part.start + part.size])
            for (a, b), crc in zip(pairwise(head.offsets), head.crcs, strict=True):
                checked_bytes(data[head.size + a : head.size + b], crc)
            named = self._read(len(local), place.start - len(local)) == local
        except (DataError, *DAMAGE):
            return False
        return named and head.size == place.head


def _open(path: Path) -> int:
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "")
        if path.exists() and not path.is_file():  # a named pipe would be waited for
            raise OSError(errno.EINVAL, "")
        return os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise DataError(f"no store at {path} ({reason}); make one with `mmadfer prepare`") from error


def _not_a_store(path: Path, error: Exception) -> str:
    return (
        f"{path} is not a whole mmadfer store ({str(error)[:_MAX_SHOWN_CHARACTERS]}): it is another file, or cut off "
        "or damaged. Copy it again from where it is whole, or delete it and run `mmadfer prepare` again."
    )
