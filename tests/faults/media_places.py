"""Where in time a sound has what another one has: by how much they are apart, piece by piece."""

from collections.abc import Iterator

import numpy as np

ALIKE = 2e-3
"""By which samples may be off; lossy codecs' decoders round."""
PIECE, REACH = 0.1, 0.5
"""Seconds of a piece, and how far around its place it is looked for."""
SURE, LIKELY = 0.9, 0.5
"""Correlation of pieces that are the same, and of those that may be, with a splice in them."""


def places(got: np.ndarray, wanted: np.ndarray, rate: int, near: float) -> Iterator[tuple[float, float]]:
    """Look for each piece of one sound (channels, samples) in another.

    Args:
        got: in which.
        wanted: of which.
        rate: in Hz.
        near: seconds around a piece's own place that are looked at first.

    Yields:
        its time, and by how much later `got` has it; infinite: it has something else there, and next to it.
    """
    before = 0.0
    for start, place in _places(got, wanted, rate, near):
        if not (near and np.isinf(place) and not np.isinf(before)):  # a splice, of which two makers have two
            yield start, place
        before = place


def _places(got: np.ndarray, wanted: np.ndarray, rate: int, near: float) -> Iterator[tuple[float, float]]:
    size, reach = round(PIECE * rate), round(REACH * rate)
    for start in range(0, wanted.shape[1] - size + 1, size):
        begin = max(0, start - reach)
        around = got[:, begin : start + size + reach]
        if around.shape[1] < size:
            yield start / rate, float("inf")
        else:
            yield start / rate, _place(wanted[:, start : start + size], around, start - begin, near * rate) / rate


def _place(piece: np.ndarray, around: np.ndarray, expected: int, near: float) -> float:
    here = around[:, expected : expected + piece.shape[1]]
    if here.shape == piece.shape and np.abs(here - piece).max() <= ALIKE:
        return 0.0
    silent = np.abs(piece).max(0) < 1e-5
    if silent.mean() > 0.05:  # a gap, or an edge of one
        return 0.0 if not silent.all() or not np.any(here) else float("inf")
    channel = int(np.abs(piece).sum(1).argmax())
    score = _likeness(piece[channel].astype(float), around[channel].astype(float))
    best, first = int(score.argmax()), max(0, expected - round(near))
    there = score[first : expected + round(near) + 1]
    if there.size and there.max() >= min(SURE, score.max() - 0.1):  # of a piece with a splice none is whole
        best = first + int(there.argmax())
    return float(best - expected) if score[best] > LIKELY else float("inf")


def lag_of(got: np.ndarray, wanted: np.ndarray, most: int) -> int:
    """By how many samples, of `most`, `got` is later than `wanted` as a whole."""
    size = min(got.shape[1], wanted.shape[1]) - 2 * most
    channel = int(np.abs(wanted).sum(1).argmax())
    piece = wanted[channel, most : most + size].astype(float)
    if size <= 0 or not np.any(piece):
        return 0
    return int(_likeness(piece, got[channel, : size + 2 * most].astype(float)).argmax()) - most


def _likeness(piece: np.ndarray, around: np.ndarray) -> np.ndarray:
    """The normalised correlation of a piece with each place."""
    size = 1 << int(np.ceil(np.log2(len(piece) + len(around))))
    match = np.fft.irfft(np.fft.rfft(around, size) * np.conj(np.fft.rfft(piece, size)), size)
    power = np.concatenate([[0], np.cumsum(around**2)])
    many = len(around) - len(piece) + 1
    there = power[len(piece) :] - power[:many]
    return np.asarray(match[:many] / np.sqrt(np.maximum(there * (piece**2).sum(), 1e-9)))
