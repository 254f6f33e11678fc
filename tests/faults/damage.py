"""Damage to a file's bytes: each a pure function of its draw. `index` is a word that stands in front of the index."""

import random
import re

Draw = random.Random


def _flip(draw: Draw, data: bytearray, start: int, stop: int) -> None:
    for _ in range(draw.randint(1, 64)):
        data[draw.randrange(start, min(stop, len(data)))] ^= 1 << draw.randrange(8)


def cut(draw: Draw, data: bytearray, index: bytes) -> None:
    del data[draw.randrange(len(data)) :]


def flip(draw: Draw, data: bytearray, index: bytes) -> None:
    _flip(draw, data, 0, len(data))


def flip_head(draw: Draw, data: bytearray, index: bytes) -> None:
    _flip(draw, data, 0, 4096)


def flip_index(draw: Draw, data: bytearray, index: bytes) -> None:
    start = max(data.find(index), 0)
    _flip(draw, data, start, start + 1500)


def zeros(draw: Draw, data: bytearray, index: bytes) -> None:
    start = draw.randrange(len(data))
    stop = min(len(data), start + draw.choice((16, 256, 4096)))
    data[start:stop] = bytes(stop - start)


def insert(draw: Draw, data: bytearray, index: bytes) -> None:
    start = draw.randrange(len(data))
    data[start:start] = draw.randbytes(draw.randint(1, 5000))


def double(draw: Draw, data: bytearray, index: bytes) -> None:
    start = draw.randrange(len(data))
    data[start:start] = data[start : start + draw.randint(1, 5000)]


def swap(draw: Draw, data: bytearray, index: bytes) -> None:
    size = draw.randint(1, len(data) // 3)
    one, two = draw.randrange(len(data) - 2 * size), draw.randrange(len(data) - size)
    data[one : one + size], data[two : two + size] = data[two : two + size], data[one : one + size]


def head_only(draw: Draw, data: bytearray, index: bytes) -> None:
    """Anything behind a video's first bytes."""
    start = draw.randint(8, 200)
    data[start:] = draw.randbytes(len(data) - start)


def flip_wav(draw: Draw, data: bytearray, index: bytes) -> None:
    _flip(draw, data, 0, 44)


def emptied(draw: Draw, data: bytearray, index: bytes) -> None:
    data.clear()


def gone(draw: Draw, data: bytearray, index: bytes) -> None:
    raise FileNotFoundError


def patched(data: bytes, box: bytes, offset: int, value: bytes) -> bytes:
    """Put `value` at `offset` behind every `box`."""
    out = bytearray(data)
    for found in re.finditer(re.escape(box), data):
        start = found.end() + offset
        out[start : start + len(value)] = value
    return bytes(out)
