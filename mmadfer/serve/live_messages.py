"""What a client of the live socket may say: its greeting, its pictures and its sound, checked as they come.

greeting   text, JSON: {"token": words or null, "rate": of the sound in Hz or null, "cropped": true or false}
item       binary: 1 byte, 1 for a picture and 2 for sound; 8 bytes, float64 little-endian, its time in seconds on
           the client's clock; a JPEG, or float32 little-endian samples of one channel
"""

import math
import struct
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mmadfer.data.live_items import MOST_GAP_SECONDS
from mmadfer.errors import FileError
from mmadfer.utils.files import parse_json

PICTURE, SOUND = 1, 2
HEAD = struct.Struct("<Bd")
MOST_BYTES = 512 << 10
"""Of a message."""
MOST_PIXELS = 640 * 640
"""Of a picture; a window's pictures are held in memory."""
MOST_GREETING = 4 << 10
"""Letters of a greeting."""
RATES = (8_000, 192_000)
"""Lowest and highest of sound, in Hz."""
MOST_PICTURES, MOST_PIECES = 32, 500
"""In a second of the client's clock; a browser's audio worklet gives 375 pieces at 48 kHz."""
TOO_LARGE, REFUSED, BROKEN, TRY_LATER = 1009, 1008, 1011, 1013
"""Codes that a connection is closed with (RFC 6455): a message too large, one against the rules, our own fault, and too
many connections."""


class RefusedError(Exception):
    """What a client may not do; the words say the rule."""

    def __init__(self, words: str, code: int = REFUSED) -> None:
        super().__init__(words)
        self.code = code


class Item(NamedTuple):
    """A picture or a piece of sound, as it came."""

    time: float
    """In seconds on the client's clock."""
    kind: int
    data: bytes
    """A JPEG, or float32 samples."""

    @property
    def samples(self) -> np.ndarray:
        """float32 (1, n) in [-1, 1]."""
        return np.frombuffer(self.data, "<f4").astype(np.float32).clip(-1, 1)[None]


@dataclass(frozen=True)
class Greeting:
    """The first message."""

    token: str | None
    rate: int | None
    cropped: bool


def read_greeting(text: str | None) -> Greeting:
    """The first message's contents.

    Raises:
        RefusedError: it is none.
    """
    rule = (
        'the first message must be {"token": words or null, "rate": 8000 to 192000 or null, "cropped": true or false}'
    )
    try:
        found = parse_json((text or "")[: MOST_GREETING + 1].encode(), "the first message")
    except FileError as error:
        raise RefusedError(rule) from error
    if not isinstance(found, dict) or len(text or "") > MOST_GREETING or found.keys() - {"token", "rate", "cropped"}:
        raise RefusedError(rule)
    token, rate, cropped = found.get("token"), found.get("rate"), found.get("cropped", False)
    good_rate = rate is None or (type(rate) in (int, float) and rate % 1 == 0 and RATES[0] <= rate <= RATES[1])
    if not (token is None or isinstance(token, str)) or not good_rate or not isinstance(cropped, bool):
        raise RefusedError(rule)
    return Greeting(token, None if rate is None else int(rate), cropped)


class Checks:
    """Of one connection: items are well formed, in order of time, and not too many.

    Args:
        rate: of the sound in Hz; None: there is none.
    """

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._last: dict[int, float] = {}
        self._counts: dict[int, tuple[int, int, int]] = {}
        """By kind: the second of the client's clock, and items and samples in it."""

    def item(self, message: bytes | None) -> Item:
        """The picture or piece of sound in a message.

        Raises:
            RefusedError: it is none, or may not come now.
        """
        if message is None:
            raise RefusedError("messages after the first one must be binary: a byte for the kind, a time, and the data")
        if len(message) > MOST_BYTES:
            raise RefusedError(f"a message has {len(message)} bytes: send {MOST_BYTES} at most", TOO_LARGE)
        if len(message) <= HEAD.size:
            raise RefusedError(f"a message has {len(message)} bytes: a byte for the kind, 8 for the time, and the data")
        kind, time = HEAD.unpack_from(message)
        found = Item(time, kind, message[HEAD.size :])
        self._check_time(found)
        if kind == SOUND:
            self._check_sound(found)
        self._count(found)
        return found

    def _check_time(self, item: Item) -> None:
        if item.kind not in (PICTURE, SOUND):
            raise RefusedError(f"a message is of kind {item.kind}: 1 is a picture, 2 is sound")
        latest = max(self._last.values(), default=item.time)
        if not math.isfinite(item.time) or item.time > latest + MOST_GAP_SECONDS:
            raise RefusedError("a time must be a number of seconds, an hour behind the last one at most")
        if item.time < latest or item.time == self._last.get(item.kind):
            raise RefusedError("times must rise, also of a picture behind sound, which has that of its first sample")
        self._last[item.kind] = item.time

    def _check_sound(self, item: Item) -> None:
        if self._rate is None:
            raise RefusedError("sound has come, but the first message gave no rate")
        if len(item.data) % 4 or not np.isfinite(np.frombuffer(item.data, "<f4")).all():
            raise RefusedError("sound must be float32 numbers, little-endian, of one channel")

    def _count(self, item: Item) -> None:
        second = math.floor(item.time)
        before, items, samples = self._counts.get(item.kind, (second, 0, 0))
        items, samples = (items, samples) if before == second else (0, 0)
        items, samples = items + 1, samples + (len(item.data) // 4 if item.kind == SOUND else 0)
        self._counts[item.kind] = second, items, samples
        if items > {PICTURE: MOST_PICTURES, SOUND: MOST_PIECES}[item.kind] or samples > 2 * (self._rate or 0):
            raise RefusedError(
                f"more than {MOST_PICTURES} pictures, {MOST_PIECES} pieces of sound, or twice the sound that a second "
                "has, have the time of one second: send fewer"
            )
