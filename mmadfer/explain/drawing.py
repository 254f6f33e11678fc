"""Heat over frames and spectrogram, and one sheet of a clip.

Heat is drawn over what lies below it the more strongly the higher it is, so that places of no importance stay as they
are. The scale is that of the clip: 0 at its lowest place, 1 at its highest.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmadfer.data.media.fbank import SHIFT
from mmadfer.evaluation.explanation_scores import resized
from mmadfer.explain.part import ExplainedPart
from mmadfer.utils.files import atomic
from mmadfer.utils.optional import need

FRAME_SECONDS = SHIFT / 1000
"""From one filter-bank frame to the next."""
_STRENGTH = 0.75
"""How much of a pixel is heat where it is highest."""
_LINE = (200, 200, 200)
_LEAST_SIDE = 224
"""Of a picture that is written, in pixels."""
_ROW = 8
"""Frames beside each other on a sheet."""
_THUMB, _GAP = 144, 6
"""Pixels of a frame on a sheet, and between two."""
_MOST_BARS = 12
"""Probabilities that a sheet has room for."""


@cache
def colours(name: str) -> np.ndarray:
    """A colour map of matplotlib's, uint8 (256, 3).

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    maps: Any = need("matplotlib", extra="explain").colormaps
    return np.asarray((maps[name](np.arange(256))[:, :3] * 255).round().astype(np.uint8))


def heated(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Heat (H, W) in [0, 1] over an image uint8 (H, W, 3)."""
    heat = np.clip(heat, 0, 1)
    colour = colours("inferno")[(heat * 255).astype(np.uint8)]
    share = _STRENGTH * heat[..., None]
    return np.asarray(((1 - share) * image + share * colour).round().astype(np.uint8))


def heat_square(picture: np.ndarray, heat: np.ndarray, square: tuple[float, float, float, float]) -> None:
    """Draw heat (h, w) in [0, 1], and a line around it, into a square of a picture uint8 (H, W, 3).

    The square is x0, y0, x1, y1 in pixels; what of it lies outside is cut.
    """
    x0, y0, x1, y1 = map(round, square)
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
    whole, line = resized(heat[None], (y1 - y0, x1 - x0))[0], np.ones((y1 - y0, x1 - x0), bool)
    line[1:-1, 1:-1] = False
    (top, bottom), (left, right) = (max(0, y0), min(picture.shape[0], y1)), (max(0, x0), min(picture.shape[1], x1))
    seen, inside = (slice(top - y0, bottom - y0), slice(left - x0, right - x0)), picture[top:bottom, left:right]
    inside[:] = heated(inside, whole[seen])
    inside[line[seen]] = _LINE


def heated_frames(part: ExplainedPart, side: int) -> list[np.ndarray]:
    """The frames that the model saw, each uint8 (side, side, 3), with heat."""
    heat = resized(part.heat["vision"], (side, side))
    return [heated(sized(image, (side, side)), one) for image, one in zip(part.images, heat, strict=True)]


def spectrogram(part: ExplainedPart, size: tuple[int, int]) -> np.ndarray:
    """The filter bank that the model heard, time to the right, low bands below, uint8 (height, width, 3)."""
    assert part.fbank is not None
    low, high = np.percentile(part.fbank, (1, 99.5))
    grey = np.clip((part.fbank - low) / max(high - low, 1e-6), 0, 1).T[::-1]
    image = sized(np.repeat((grey * 255).astype(np.uint8)[..., None], 3, axis=2), size)
    if "audio" not in part.heat:
        return image
    return heated(image, resized(part.heat["audio"].T[None, ::-1].copy(), size)[0])


def sized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image uint8 (H, W, 3) as (height, width, 3)."""
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def write_png(path: Path, image: np.ndarray) -> None:
    """Write an image uint8 (H, W, 3), atomically."""
    with atomic(path) as temporary:
        Image.fromarray(image).save(temporary, "PNG")


def write_pictures(folder: Path, prefix: str, part: ExplainedPart) -> list[str]:
    """Write a picture of each frame and of the spectrogram; returns their names."""
    names = []
    if "vision" in part.heat:
        for k, image in enumerate(heated_frames(part, max(_LEAST_SIDE, part.images[0].shape[0])), 1):
            names.append(f"{prefix}frame-{k:02d}.png")
            write_png(folder / names[-1], image)
    if "audio" in part.heat:
        assert part.fbank is not None
        names.append(f"{prefix}sound.png")
        write_png(folder / names[-1], spectrogram(part, (2 * part.fbank.shape[1], 2 * part.fbank.shape[0])))
    return names


def write_sheet(path: Path, title: str, part: ExplainedPart) -> None:
    """Write frames with and without heat, the spectrogram below them, and what the model says, atomically.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    need("matplotlib", extra="explain")
    from matplotlib.figure import Figure

    strip = _strip(part) if "vision" in part.heat else None
    heights = [*([10 * strip.shape[0] / strip.shape[1]] if strip is not None else []), *[1.9] * ("audio" in part.heat)]
    figure = Figure(figsize=(10, 1.2 + 1.9 + sum(heights)), layout="constrained", facecolor="white")
    rows = list(figure.subplots(len(heights) + 1, 1, squeeze=False, height_ratios=[*heights, 1.9])[:, 0])
    figure.suptitle(title, fontsize=11, x=0.01, ha="left", parse_math=False)
    if strip is not None:
        _show_strip(rows.pop(0), strip, part)
    if "audio" in part.heat:
        _show_sound(rows.pop(0), part)
    _show_answer(rows.pop(0), part)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _strip(part: ExplainedPart) -> np.ndarray:
    """Rows of frames, each with its row of heat below."""
    plain = [sized(image, (_THUMB, _THUMB)) for image in part.images]
    warm = heated_frames(part, _THUMB)
    wide = min(_ROW, len(plain))
    lines = [_line(kind[at : at + wide], wide) for at in range(0, len(plain), wide) for kind in (plain, warm)]
    return np.concatenate(lines)


def _line(images: list[np.ndarray], wide: int) -> np.ndarray:
    line = np.full((_THUMB + _GAP, wide * (_THUMB + _GAP), 3), 255, np.uint8)
    for k, image in enumerate(images):
        line[:_THUMB, k * (_THUMB + _GAP) :][:, :_THUMB] = image
    return line


def _show_strip(axes: Any, strip: np.ndarray, part: ExplainedPart) -> None:
    axes.imshow(strip, interpolation="none")
    axes.set_axis_off()
    wide = min(_ROW, len(part.images))
    for k, time in enumerate(part.times):
        row, column = divmod(k, wide)
        place = (column * (_THUMB + _GAP) + 4, row * 2 * (_THUMB + _GAP) + 4)
        box = {"facecolor": "black", "alpha": 0.55, "pad": 1.2, "linewidth": 0}
        axes.text(*place, f"{time:.2f} s", fontsize=7, color="white", va="top", bbox=box)


def _show_sound(axes: Any, part: ExplainedPart) -> None:
    assert part.fbank is not None
    frames, bands = part.fbank.shape
    end = part.sound_start + frames * FRAME_SECONDS
    image = spectrogram(part, (2 * bands, 2 * frames))
    axes.imshow(image, extent=(part.sound_start, end, 0, bands), aspect="auto", interpolation="none")
    axes.set(xlabel="seconds", ylabel="mel band")


def _show_answer(axes: Any, part: ExplainedPart) -> None:
    """Bars of probabilities, the most probable above; or values."""
    numbers = sorted(part.answer.items(), key=lambda item: -item[1])[:_MOST_BARS] if part.label else part.answer.items()
    names, values = zip(*numbers, strict=True)
    places = range(len(names), 0, -1)
    colour = ["#3b82c4" if name == part.target else "#b8c4cf" for name in names]
    axes.barh(places, values, color=colour)
    for place, name, value in zip(places, names, values, strict=True):
        told = f"{name} {value:.1%}" if part.label else f"{name} {value:.3f}"
        axes.text(0.005, place, told, va="center", transform=axes.get_yaxis_transform(), fontsize=8, parse_math=False)
    axes.set_yticks([])
    axes.set_xlabel(("probability" if part.label else "value") + f"; in blue {part.about_target}" * bool(part.target))
    axes.spines[["top", "right"]].set_visible(False)
    if part.label:
        axes.set_xlim(0, 1)
