"""A prepared clip: what the store's index says of it, and its content as bytes.

The bytes are a safetensors file whose tensors lie in this order, so that all but the frames is one short head:

    crcs     int64 (n,)               CRC-32 of each frame's JPEG
    offsets  int64 (n + 1,)           where each JPEG starts in `jpeg`, and where the last one ends
    times    float64 (n,)             when each frame is shown, in seconds
    fbank    float32 (frames, mels)   the first `prepare.sound.frames` of the sound, padded
    jpeg     uint8 (offsets[-1],)     the JPEGs of all frames, one after the other
    more     uint8                    named tensors, one after the other; the file's metadata says where each lies

`more` is there only where a clip has named tensors: the sound after the first frames, values for each step of time, or
what a data set brings (landmarks, text, features of another modality). Each is read by its name, all or some of its
rows, and has a checksum for every `BLOCK` bytes: a window of an hour of sound needs no more than its own blocks.
"""

import json
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save as save_tensors

from mmadfer.errors import DataError

LATER = "later_fbank"
"""The named tensor with the sound after `ClipRecord.fbank`: float32 (m, mels), normalised, without padding."""
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""What targets, splits and named tensors may be called."""
TEXT = "text"
"""In the place of a dtype: bytes of UTF-8."""
DTYPES = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool", TEXT)
DIMENSIONS = 8
BLOCK = 256 * 2**10
"""Bytes of a named tensor that have a checksum of their own."""
GAP = 16 * 2**10
"""Bytes between two frames that are read and thrown away rather than asked for around them."""


@dataclass(frozen=True, slots=True)
class Clip:
    """What the index says of a clip."""

    id: str
    label: str
    fold: int
    """The fold, from 1, in whose test set the clip is."""
    media: str
    """The video file, or the folder of frames, relative to the store's root."""
    frames: int
    subject: str | None = None
    sha256: str = ""
    """Of the files it was made of (`mmadfer.data.store.source_files.files_digest`)."""
    media_sha256: str = ""
    """Of `media` alone, where the clip is made of other files, too (`media_digest`)."""
    silent: bool = False
    """Its sound is nothing but zeros, or missing and replaced by silence (`prepare.no_sound`)."""
    sound: str | None = None
    """The file with its sound, relative to the store's root, where that is not `media`."""
    note: str = ""
    """What else is to be known of it, such as damage in places."""
    rate: int = 0
    """Of the sound that the filter bank was computed from, in Hz; 0 where there was none."""
    size: int = 0
    """Bytes of the files it was made of."""
    cropped: bool = False
    """Its frames were taken whole, as they show nothing but the face."""
    numbered: bool = False
    """`media` is a folder of crops of the video `sound`, named by frame (`mmadfer.data.media.frames.NumberedCrops`)."""
    targets: dict[str, Any] = field(default_factory=dict)
    """Name of a target other than `label` -> its value for this clip (`mmadfer.data.store.targets`)."""
    splits: dict[str, str] = field(default_factory=dict)
    """Name of a split other than `folds` -> the part that the clip is in (`mmadfer.data.store.splits`)."""
    groups: dict[str, str] = field(default_factory=dict)
    """Name of a column of the data set, such as sex or language -> what it says of the clip."""
    tensors: dict[str, str] = field(default_factory=dict)
    """Name of each named tensor -> the file that it is from, relative to the store's root; "" where it has none."""
    landmarked: int = 0
    """Frames with landmarks that can be relied on, of a clip that preparation has found landmarks of
    (`prepare.landmarks`)."""
    sound_frames: int = 0
    """Filter-bank frames of its sound, without padding, that the store holds."""
    sound_start: float = 0.0
    """When the first of them starts, in seconds on the clock of `ClipRecord.times`."""

    @property
    def media_digest(self) -> str:
        """SHA-256 of `media` alone, by which a clip is known under any name; empty where it is not known."""
        return self.media_sha256 or self.sha256


@dataclass(frozen=True)
class ClipRecord:
    """The content of a clip."""

    jpegs: list[bytes]
    """One face crop per video frame."""
    fbank: np.ndarray
    """float32 (frames, mels), padded and normalised (`mmadfer.data.media.fbank`)."""
    times: np.ndarray | None = None
    """float64 (n,): when each frame of the whole clip is shown, in seconds; None: 25 frames in a second."""
    tensors: Mapping[str, np.ndarray | str] = field(default_factory=dict)
    """Named tensors, and texts; of a clip that is read, those that were asked for."""


def check_id(clip: str) -> str:
    """Return the id if it can name a member of an archive on any system.

    Raises:
        DataError: empty, absolute, too long, with `..`, a backslash or a control character.
    """
    check_ids([clip])
    return clip


def check_ids(clips: Iterable[str]) -> None:
    """As `check_id`, of many: the error has the first five that cannot be stored."""
    odd = [clip for clip in clips if not is_storable(clip)]
    if odd:
        named = ", ".join(f"{clip!r:.220}" for clip in odd[:5]) + (", …" if len(odd) > 5 else "")
        raise DataError(
            f"{'clip id' if len(odd) == 1 else f'{len(odd)} clip ids,'} {named} cannot be stored: use at most 200 "
            "printable characters, without a backslash, a leading or trailing '/', '.' or '..'. Rename the "
            f"file{'s' * (len(odd) > 1)}."
        )


def is_storable(clip: str) -> bool:
    """Whether an id can name a member of an archive on any system."""
    named = all(part not in ("", ".", "..") for part in clip.split("/"))
    return clip.isprintable() and "\\" not in clip and len(clip) <= 200 and named


class Part(NamedTuple):
    """Where a named tensor lies in a record, and what it is."""

    start: int
    """Bytes from the start of the record."""
    size: int
    crcs: list[int]
    """CRC-32 of each `BLOCK` bytes, and of what is left at the end."""
    dtype: str
    shape: tuple[int, ...]

    def value(self, data: bytes) -> np.ndarray | str:
        """What all of its bytes hold.

        Raises:
            ValueError: they do not have its checksums, or are no UTF-8.
        """
        self._check(data, 0)
        if self.dtype == TEXT:
            return data.decode()
        return np.frombuffer(data, self.dtype).reshape(self.shape).copy()

    def blocks(self, rows: range) -> range:
        """Bytes of the blocks that hold these rows, from the start of the tensor."""
        each = self._row_bytes()
        return range(rows.start * each // BLOCK * BLOCK, min(self.size, -(-rows.stop * each // BLOCK) * BLOCK))

    def rows(self, data: bytes, rows: range) -> np.ndarray:
        """Some rows of its first axis, out of the bytes of `blocks(rows)`.

        Raises:
            ValueError: they do not have their checksums.
        """
        at, each = self.blocks(rows).start, self._row_bytes()
        self._check(data, at // BLOCK)
        found = data[rows.start * each - at : rows.stop * each - at]
        return np.frombuffer(found, self.dtype).reshape(len(rows), *self.shape[1:]).copy()

    def _row_bytes(self) -> int:
        return self.size // max(1, self.shape[0])

    def _check(self, data: bytes, first: int) -> None:
        for k, start in enumerate(range(0, len(data), BLOCK), first):
            checked_bytes(data[start : start + BLOCK], self.crcs[k])


@dataclass(frozen=True)
class Head:
    """All of a record but its frames and named tensors."""

    size: int
    """Bytes before the first frame."""
    offsets: np.ndarray
    """int64 (n + 1,): where each frame starts after the head, and where the last one ends."""
    crcs: np.ndarray
    """int64 (n,)."""
    fbank: np.ndarray
    times: np.ndarray
    parts: dict[str, Part]
    """Named tensors."""


def encode_record(record: ClipRecord) -> bytes:
    """The bytes of a record, as they lie in the store.

    Raises:
        DataError: a named tensor of a kind that cannot be stored.
    """
    count = len(record.jpegs)
    times = np.arange(count) / 25 if record.times is None else record.times
    tensors = {
        "crcs": np.array([zlib.crc32(jpeg) for jpeg in record.jpegs], np.int64),
        "offsets": np.cumsum([0, *map(len, record.jpegs)], dtype=np.int64),
        "times": np.ascontiguousarray(times, np.float64),
        "fbank": np.ascontiguousarray(record.fbank, np.float32),
        "jpeg": np.frombuffer(b"".join(record.jpegs), np.uint8),
    }
    if not record.tensors:
        return save_tensors(tensors)  # which sorts them by the size of their numbers, and then by name
    rows, content = list[list[Any]](), b""
    for name, tensor in sorted(record.tensors.items()):
        dtype, shape, data = _plain(name, tensor)
        crcs = [zlib.crc32(data[start : start + BLOCK]) for start in range(0, len(data), BLOCK)]
        rows.append([name, len(content), len(data), crcs, dtype, shape])
        content += data
    return save_tensors({**tensors, "more": np.frombuffer(content, np.uint8)}, {"more": json.dumps(rows)})


def _plain(name: str, tensor: np.ndarray | str) -> tuple[str, list[int], bytes]:
    """A named tensor as dtype, shape and bytes."""
    if not NAME.fullmatch(name):
        raise DataError(f"{name!r:.80} cannot name a tensor: use small letters, digits and '_', at most 64")
    if isinstance(tensor, str):
        return TEXT, [], tensor.encode()
    if tensor.dtype.name not in DTYPES or tensor.ndim > DIMENSIONS:
        raise DataError(f"tensor {name!r} is {tensor.dtype.name} of {tensor.ndim} axes: store {', '.join(DTYPES)}")
    tensor = tensor.astype(tensor.dtype.newbyteorder("="), copy=False)  # a .npy file may be big-endian
    return tensor.dtype.name, [*tensor.shape], np.ascontiguousarray(tensor).tobytes()


def read_head(data: bytes, size: int) -> Head:
    """The head of a record of `size` bytes, of which `data` are the first.

    Raises:
        ValueError, KeyError, TypeError, struct.error: these bytes were not made by `encode_record`.
    """
    (length,) = struct.unpack_from("<Q", data)
    described, begin = json.loads(data[8 : 8 + length]), 8 + length

    def tensor(name: str, dtype: type[np.generic]) -> np.ndarray:
        first, last = described[name]["data_offsets"]
        return np.frombuffer(data[begin + first : begin + last], dtype).reshape(described[name]["shape"]).copy()

    head, offsets = begin + described["jpeg"]["data_offsets"][0], tensor("offsets", np.int64)
    crcs, times = tensor("crcs", np.int64), tensor("times", np.float64)
    end = head + int(offsets[-1])
    parts = _parts(json.loads(described["__metadata__"]["more"]), end, size) if "more" in described else {}
    if not (end == size or parts) or offsets[0] != 0 or np.any(np.diff(offsets) < 0) or len(crcs) + 1 != len(offsets):
        raise ValueError("its frames are not where its head says")
    if len(times) != len(crcs) or not np.isfinite(times).all():
        raise ValueError("its frames have no times")
    return Head(head, offsets, crcs, tensor("fbank", np.float32), times, parts)


def _parts(rows: Sequence[Sequence[Any]], start: int, size: int) -> dict[str, Part]:
    """Where the named tensors lie: one after the other, from `start` to the end of the record."""
    parts, at = dict[str, Part](), 0
    for name, first, length, crcs, dtype, shape in rows:
        if not {type(first), type(length), *map(type, crcs), *map(type, shape)} <= {int} or dtype not in DTYPES:
            raise ValueError("a named tensor is of no known kind")
        bytes_ = length if dtype == TEXT else int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
        if first != at or length != bytes_ or min((length, *shape)) < 0 or len(shape) > DIMENSIONS or name in parts:
            raise ValueError(f"tensor {name!r:.60} is not where its head says")
        if len(crcs) != -(-length // BLOCK):
            raise ValueError(f"tensor {name!r:.60} has {len(crcs)} checksums for {length} bytes")
        parts[name] = Part(start + first, length, crcs, dtype, tuple(shape))
        at += length
    if not parts or start + at != size or not all(map(NAME.fullmatch, parts)):
        raise ValueError("its named tensors are not where its head says")
    return parts


def decode_record(data: bytes) -> ClipRecord:
    """The record that `encode_record` made into `data`.

    Raises:
        ValueError, KeyError, TypeError, struct.error: these bytes were not made by `encode_record`.
    """
    head = read_head(data, len(data))
    jpegs = [data[head.size + a : head.size + b] for a, b in pairwise(head.offsets)]
    tensors = {name: part.value(data[part.start : part.start + part.size]) for name, part in head.parts.items()}
    return ClipRecord(jpegs, head.fbank, head.times, tensors)


def checked_bytes(data: bytes, crc: int) -> bytes:
    """The same bytes.

    Raises:
        ValueError: they do not have this CRC-32.
    """
    if zlib.crc32(data) != crc:
        raise ValueError(f"its checksum is {zlib.crc32(data):08x} instead of {crc:08x}")
    return data


def runs(frames: Sequence[int], offsets: np.ndarray) -> Iterator[Sequence[int]]:
    """Rising frame numbers, parted where more than `GAP` bytes lie between two."""
    first = 0
    for k in range(1, len(frames) + 1):
        if k == len(frames) or offsets[frames[k]] - offsets[frames[k - 1] + 1] > GAP:
            yield frames[first:k]
            first = k
