"""The toy set's face: a public-domain portrait whose brows, lids and mouth move.

The portrait is scikit-image's `astronaut` (NASA, public domain). Every frame is one backward warp of it:
for each output pixel the head's pose gives a place in the portrait, the expression moves that place, and the
portrait is read there with fixed-point bilinear interpolation. Lengths are in pixels of the portrait.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmadfer.utils.optional import need

SIDE = 160
"""Width and height of a frame in pixels."""
TOY_FPS = 15

Field = NDArray[np.float32]
Image = NDArray[np.uint8]

_WINDOW = 172.0  # side of the square of the portrait that a frame shows
_CENTRE = (224.0, 116.0)  # its middle (x, y)
_EYES = ((205.0, 102.0), (247.0, 104.0))
_BROWS = ((202.0, 90.0), (250.0, 93.0))
_MOUTH = (223.0, 148.5)  # between the upper teeth and the lower lip
_RAISE, _WIDEN, _DROP, _CLOSE = 10.0, 0.5, 25.0, 6.0  # how far brows, lids, jaw and blink move at most


@dataclass(frozen=True)
class _ToyLook:
    """What varies between clips and says nothing about the class: times are shares of the clip."""

    brows: tuple[float, float, float]
    """Centre, half width and strength of the raised brows; they come first in forward order."""
    mouth: tuple[float, float, float]
    """The same for the open mouth, which comes second in forward order."""
    blink: float
    shift: tuple[float, float]
    scale: float
    tilt: float
    """Radians."""
    sway: tuple[float, float, float]
    """Size in pixels, turns per clip and phase of the head's slow movement."""
    gain: float
    gamma: float
    background: tuple[int, ...]
    """Red, green and blue."""
    cover: float
    """Share of the background that is replaced by the colour `background`."""


def draw_look(rng: np.random.RandomState) -> _ToyLook:
    """Draw a clip's look; brows and mouth get the same distribution, mirrored in time."""
    early, late = rng.uniform(0.22, 0.3), rng.uniform(0.7, 0.78)
    widths, strengths = rng.uniform(0.2, 0.25, 2), rng.uniform(0.85, 1.0, 2)
    return _ToyLook(
        brows=(early, widths[0], strengths[0]),
        mouth=(late, widths[1], strengths[1]),
        blink=rng.uniform(0.1, 0.9),
        shift=(rng.uniform(-7, 7), rng.uniform(-5, 5)),
        scale=rng.uniform(0.92, 1.1),
        tilt=rng.uniform(-0.12, 0.12),
        sway=(rng.uniform(0.5, 2.5), rng.uniform(0.5, 1.5), rng.uniform(0, 2 * np.pi)),
        gain=rng.uniform(0.85, 1.1),
        gamma=rng.uniform(0.9, 1.12),
        background=tuple(int(c) for c in rng.randint(30, 226, 3)),
        cover=rng.uniform(0.2, 0.7),
    )


def render_face(look: _ToyLook, frames: int, backward: bool) -> Image:
    """All frames of a clip, uint8 (frames, SIDE, SIDE, 3).

    Forward, the brows rise first and the mouth opens second. Backward is the same clip in reverse, so a bag of frames
    cannot tell the two apart.
    """
    times = [(k + 0.5) / frames for k in range(frames)]
    brows, mouth = ([_pulse(time, *curve) for time in times] for curve in (look.brows, look.mouth))
    clip = render_curves(look, brows, mouth)
    return clip[::-1] if backward else clip


def render_curves(
    look: _ToyLook, brows: Sequence[float] | NDArray[Any], mouth: Sequence[float] | NDArray[Any]
) -> Image:
    """A clip with brows and mouth as strong as given for each frame, in [0, 1]; uint8 (frames, SIDE, SIDE, 3)."""
    portrait, count = _light(look), len(brows)
    pairs = enumerate(zip(brows, mouth, strict=True))
    return np.stack([_frame(portrait, look, (k + 0.5) / count, float(b), float(m)) for k, (b, m) in pairs])


@cache
def _portrait() -> Image:
    image = need("skimage.data", extra="demo").astronaut().astype(np.float32)
    y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]].astype(np.float32)
    for brow in _BROWS:  # fair brows would be lost at the model's small image
        image *= 1 - 0.6 * _bump(x, y, brow, 11, 3)[..., None]
    return image.astype(np.uint8)


def _light(look: _ToyLook) -> Image:
    """The portrait under the clip's light and before its background."""
    curve = 255 * look.gain * (np.arange(256) / 255) ** look.gamma
    image = np.clip(curve, 0, 255)[_portrait()]
    y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]].astype(np.float32)
    away = np.hypot((x - 228) / 80, (y - 100) / 95)
    cover = look.cover * np.clip((away - 1) * 5, 0, 1)[..., None]
    return (image + (np.array(look.background) - image) * cover).astype(np.uint8)


def _frame(portrait: Image, look: _ToyLook, time: float, brows: float, mouth: float) -> Image:
    x, y = _pose(look, time)
    hollow = _hollow(x, y, mouth)
    y = y + _brow_shift(x, y, brows) - _jaw_shift(x, y, mouth) - _lid_shift(x, y, _pulse(time, look.blink, 0.05, 1.0))
    return (_read(portrait, x, y) * (1 - hollow[..., None])).astype(np.uint8)


def _pulse(time: float, centre: float, width: float, strength: float) -> float:
    phase = min(1.0, abs(time - centre) / (1.5 * width))
    return float(strength * np.cos(phase * np.pi / 2) ** 2)


def _pose(look: _ToyLook, time: float) -> tuple[Field, Field]:
    """Where each output pixel lies in the portrait: x and y, float32 (SIDE, SIDE)."""
    size, turns, phase = look.sway
    swing = 2 * np.pi * turns * time + phase
    step = _WINDOW / SIDE / look.scale
    v, u = (np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) - (SIDE - 1) / 2) * np.float32(step)
    tilt = look.tilt + 0.01 * size * np.sin(swing)
    cos, sin = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
    dx = np.float32(_CENTRE[0] - look.shift[0] - size * np.cos(swing))
    dy = np.float32(_CENTRE[1] - look.shift[1] - 0.5 * size * np.sin(swing))
    return cos * u + sin * v + dx, cos * v - sin * u + dy


def _bump(x: Field, y: Field, centre: tuple[float, float], width: float, height: float) -> Field:
    return np.exp(-(((x - centre[0]) / width) ** 2) - ((y - centre[1]) / height) ** 2)


def _brow_shift(x: Field, y: Field, strength: float) -> Field:
    """Brows go up and lids open: how far below an output pixel its content lies."""
    if not strength:
        return np.zeros_like(x)
    shift = np.zeros_like(x)
    for cx, cy in _BROWS:
        shift += _RAISE * _bump(x, y, (cx, cy - _RAISE), 22, 11)
    for cx, cy in _EYES:
        shift += _WIDEN * (cy - y) * _bump(x, y, (cx, cy), 12, 8)
    return strength * shift


def _jaw_shift(x: Field, y: Field, strength: float) -> Field:
    """The lower lip and the jaw go down: how far above an output pixel its content lies."""
    if not strength:
        return np.zeros_like(x)
    drop = _DROP * strength
    below = np.clip((y - _MOUTH[1]) / drop, 0, 1) * np.exp(-(np.maximum(y - _MOUTH[1] - drop - 8, 0) ** 2) / 700)
    return drop * below * np.exp(-(((x - _MOUTH[0]) / 38) ** 4))


def _lid_shift(x: Field, y: Field, strength: float) -> Field:
    """The upper lids come down over the eyes: how far above an output pixel its content lies."""
    if not strength:
        return np.zeros_like(x)
    return strength * _CLOSE * (_bump(x, y, _EYES[0], 13, 6) + _bump(x, y, _EYES[1], 13, 6))


def _hollow(x: Field, y: Field, strength: float) -> Field:
    """How dark the open mouth is, in [0, 1]."""
    if not strength:
        return np.zeros_like(x)
    half = _DROP * strength / 2
    away = np.hypot((x - _MOUTH[0]) / (14 + 6 * strength), (y - _MOUTH[1] - half) / half)
    return 0.88 * np.clip((1.15 - away) * 3, 0, 1)


def _read(image: Image, x: Field, y: Field) -> NDArray[np.int32]:
    """Bilinear interpolation in 1/64 pixel: integers, so that the same places give the same bytes anywhere."""
    height, width = image.shape[:2]
    x64 = np.clip(np.rint(x * 64), 0, (width - 2) * 64 + 63).astype(np.int32)
    y64 = np.clip(np.rint(y * 64), 0, (height - 2) * 64 + 63).astype(np.int32)
    at = (y64 >> 6) * width + (x64 >> 6)
    right, down = (x64 & 63)[..., None], (y64 & 63)[..., None]
    pixels = image.reshape(-1, 3).astype(np.int32)
    top = pixels[at] * (64 - right) + pixels[at + 1] * right
    bottom = pixels[at + width] * (64 - right) + pixels[at + width + 1] * right
    return (top * (64 - down) + bottom * down + 2048) >> 12
