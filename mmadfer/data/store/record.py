"""A prepared clip: what the store's index says of it, and its content as bytes.

The bytes are a safetensors file whose tensors lie in this order, so that all but the frames is one short head:

    crcs     int64 (n,)               CRC-32 of each frame's JPEG
    offsets  int64 (n + 1,)           where each JPEG starts in `jpeg`, and where the last one ends
    fbank    float32 (frames, mels)
    jpeg     uint8 (offsets[-1],)     the JPEGs of all frames, one after the other
"""

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from safetensors.numpy import save as save_tensors

from mmadfer.errors import DataError

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
    """Of the files it was made of (`mmadfer.data.store.source_files.digest`)."""
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


@dataclass(frozen=True)
class Record:
    """The content of a clip."""

    jpegs: list[bytes]
    """One face crop per video frame."""
    fbank: np.ndarray
    """float32 (frames, mels), padded and normalised (METHOD "Sound")."""


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


@dataclass(frozen=True)
class Head:
    """All of a record but its frames."""

    size: int
    """Bytes before the first frame."""
    offsets: list[int]
    """Where each frame starts after the head, and where the last one ends."""
    crcs: list[int]
    fbank: np.ndarray


def encode(record: Record) -> bytes:
    """The bytes of a record, as they lie in the store."""
    tensors = {
        "crcs": np.array([zlib.crc32(jpeg) for jpeg in record.jpegs], np.int64),
        "offsets": np.cumsum([0, *map(len, record.jpegs)], dtype=np.int64),
        "fbank": np.ascontiguousarray(record.fbank, np.float32),
        "jpeg": np.frombuffer(b"".join(record.jpegs), np.uint8),
    }
    return save_tensors(tensors)  # which sorts them by the size of their numbers, and then by name


def read_head(data: bytes, size: int) -> Head:
    """The head of a record of `size` bytes, of which `data` are the first.

    Raises:
        ValueError, KeyError, TypeError, struct.error: these bytes were not made by `encode`.
    """
    (length,) = struct.unpack_from("<Q", data)
    described, begin = json.loads(data[8 : 8 + length]), 8 + length

    def tensor(name: str, dtype: type[np.generic]) -> np.ndarray:
        first, last = described[name]["data_offsets"]
        return np.frombuffer(data[begin + first : begin + last], dtype).reshape(described[name]["shape"]).copy()

    head, offsets = begin + described["jpeg"]["data_offsets"][0], tensor("offsets", np.int64)
    crcs = tensor("crcs", np.int64)
    if offsets[0] != 0 or head + offsets[-1] != size or np.any(np.diff(offsets) < 0) or len(crcs) + 1 != len(offsets):
        raise ValueError("its frames are not where its head says")
    return Head(head, offsets.tolist(), crcs.tolist(), tensor("fbank", np.float32))


def decode(data: bytes) -> Record:
    """The record that `encode` made into `data`.

    Raises:
        ValueError, KeyError, TypeError, struct.error: these bytes were not made by `encode`.
    """
    head = read_head(data, len(data))
    return Record([data[head.size + a : head.size + b] for a, b in pairwise(head.offsets)], head.fbank)


def checked(data: bytes, crc: int) -> bytes:
    """The same bytes.

    Raises:
        ValueError: they do not have this CRC-32.
    """
    if zlib.crc32(data) != crc:
        raise ValueError(f"its checksum is {zlib.crc32(data):08x} instead of {crc:08x}")
    return data


def runs(frames: Sequence[int], offsets: Sequence[int]) -> Iterator[Sequence[int]]:
    """Rising frame numbers, parted where more than `GAP` bytes lie between two."""
    first = 0
    for k in range(1, len(frames) + 1):
        if k == len(frames) or offsets[frames[k]] - offsets[frames[k - 1] + 1] > GAP:
            yield frames[first:k]
            first = k
