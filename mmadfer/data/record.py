"""A prepared clip: what the store's index says of it, and its content as bytes."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from mmadfer.errors import DataError


@dataclass(frozen=True)
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
    """Of the media file."""
    silent: bool = False
    """Its sound is nothing but zeros, or missing and replaced by silence (`prepare.no_sound`)."""
    sound: str | None = None
    """The file with its sound, relative to the store's root, where that is not `media`."""
    rate: int = 0
    """Of the sound that the filter bank was computed from, in Hz; 0 where there was none."""


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
    parts = clip.split("/")
    if not clip.isprintable() or "\\" in clip or len(clip) > 200 or any(part in ("", ".", "..") for part in parts):
        raise DataError(
            f"clip id {clip!r} cannot be stored: use at most 200 printable characters, without a backslash, "
            "a leading or trailing '/', '.' or '..'. Rename the file."
        )
    return clip


def encode(record: Record) -> bytes:
    """The bytes of a record, as they lie in the store."""
    offsets = np.cumsum([0, *map(len, record.jpegs)], dtype=np.int64)
    jpeg = np.frombuffer(b"".join(record.jpegs), np.uint8)
    return save_tensors({"jpeg": jpeg, "offsets": offsets, "fbank": np.ascontiguousarray(record.fbank, np.float32)})


def decode(data: bytes) -> Record:
    """The record that `encode` made into `data`."""
    tensors = load_tensors(data)
    jpeg, offsets = tensors["jpeg"].tobytes(), tensors["offsets"].tolist()
    return Record([jpeg[a:b] for a, b in pairwise(offsets)], tensors["fbank"])
