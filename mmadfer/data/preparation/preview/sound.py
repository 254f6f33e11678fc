"""The sound of a clip for the contact sheet: waveform above, filter bank below, on one time axis, as one SVG."""

import io
from base64 import b64encode

import numpy as np
from PIL import Image

from mmadfer.data.media.fbank import SHIFT, SILENCE
from mmadfer.data.preparation.preview.clip_view import ClipView

WIDTH, WAVE, BANDS = 480, 64, 64
"""Of the drawing, and heights of its two parts, in pixels."""
MAX_AXIS_FACTOR = 3
"""The time axis ends after this many times what the model hears."""
_SILENT_PEAK = 1e-3
"""A peak below this share of full scale, -60 dB, can hardly be heard."""
_LENGTH_TOLERANCE_SECONDS = 0.1
"""Seconds that waveform and filter bank may differ in length."""


def remarks(view: ClipView) -> list[str]:
    """What a person should look at: silence, hardly any sound, or a filter bank that has another length."""
    return [words for words in (_silence(view), _lengths(view)) if words]


def _silence(view: ClipView) -> str:
    peak = 0.0 if view.clip.silent else 1.0 if view.waveform is None else _peak(view)
    if peak >= _SILENT_PEAK or view.sound.startswith("no sound"):
        return ""
    return "nearly silent" if peak else "silence: nothing but zeros"


def loudness(view: ClipView) -> str:
    """The peak of the channel that is heard, in words; full scale is 0 dB."""
    peak = _peak(view)
    return f"peak {20 * np.log10(peak):.0f} dB" if peak else "peak 0"


def _lengths(view: ClipView) -> str:
    if view.bands is None or view.waveform is None:
        return ""
    kept, most = (len(bands) * SHIFT / 1000 for bands in (_filled(view.bands), view.bands))
    sound = view.seconds
    if abs(min(sound, most) - kept) <= _LENGTH_TOLERANCE_SECONDS:
        return ""
    return f"the filter bank has {kept:.2f} s, the file's sound {sound:.2f} s: is it of another sound?"


def drawing(view: ClipView, seconds: float) -> str:
    """Waveform and filter bank as one `<svg>`; the first `seconds`, which the model hears, are shaded."""
    long = view.seconds
    end = max(seconds, min(long, MAX_AXIS_FACTOR * seconds))
    bands = _filled(view.bands)
    middle = WAVE + 4
    parts = [
        f'<rect class="heard" width="{_x(seconds, end)}" height="{middle + BANDS}"/>',
        _wave(None if view.waveform is None else view.waveform[view.channel], view.rate, end),
        _picture(bands, end, middle),
        _axis(end, middle + BANDS),
        "" if long <= end else _words(WIDTH - 2, middle + BANDS - 4, f"goes on to {long:.1f} s", "end"),
        "" if view.bands is None or len(bands) else _words(4, middle + BANDS - 4, "filter bank: padding only"),
    ]
    return (
        f'<svg viewBox="0 0 {WIDTH} {middle + BANDS + 18}" role="img" aria-label="waveform and filter bank" '
        f'fill="currentColor">{"".join(parts)}</svg>'
    )


def _x(seconds: float, end: float) -> float:
    return round(WIDTH * seconds / end, 1)


def _peak(view: ClipView) -> float:
    return 0.0 if view.waveform is None else _loudest(view.waveform[view.channel])


def _loudest(samples: np.ndarray) -> float:
    return float(np.abs(samples).max(initial=0.0))


def _words(x: float, y: float, words: str, anchor: str = "start") -> str:
    """Words of ours, with nothing to escape."""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{words}</text>'


def _wave(waveform: np.ndarray | None, rate: int, end: float) -> str:
    """Lowest and highest sample of each pixel's time, the loudest one filling the height."""
    if waveform is None:
        return ""
    samples = np.nan_to_num(waveform[: round(end * rate)])
    columns = max(1, min(WIDTH, round(len(samples) * WIDTH / end / rate), len(samples)))
    starts = np.arange(columns) * len(samples) // columns
    scale, middle = (WAVE / 2 - 1) / (_loudest(samples) or 1.0), WAVE / 2
    low = middle - scale * np.minimum.reduceat(samples, starts) + 0.4  # a line where there is silence
    high = middle - scale * np.maximum.reduceat(samples, starts) - 0.4
    x = starts / rate / end * WIDTH
    points = [*zip(x, high, strict=True), *zip(x[::-1], low[::-1], strict=True)]
    return f'<polygon class="wave" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>'


def _filled(bands: np.ndarray | None) -> np.ndarray:
    """The filter bank without the padding at its end."""
    if bands is None:
        return np.empty((0, 1), np.float32)
    used = np.flatnonzero((np.abs(bands - SILENCE) > 1e-4).any(axis=1))
    return bands[: used[-1] + 1 if len(used) else 0]


def _picture(bands: np.ndarray, end: float, top: float) -> str:
    if not len(bands):
        return ""
    values = np.nan_to_num(bands).T[::-1]  # time to the right, frequency up
    dark, bright = np.percentile(values, [2, 99.8])
    grey = (255 * (values - dark) / max(bright - dark, 1e-6)).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).resize((max(1, len(bands) // 2), BANDS), Image.Resampling.BOX).save(buffer, "PNG")
    data = b64encode(buffer.getvalue()).decode()
    width = _x(len(bands) * SHIFT / 1000, end)
    return (
        f'<image x="0" y="{top}" width="{width}" height="{BANDS}" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{data}"/>'
    )


def _axis(end: float, y: float) -> str:
    step = next(step for step in (0.5, 1, 2, 5, 10, 20, 60, 600, end) if end / step <= 8)
    marks = np.arange(0, end, step)
    lines = "".join(f'<path d="M{_x(at, end)} {y}v4" stroke="currentColor"/>' for at in marks)
    texts = [_words(_x(at, end), y + 16, f"{at:g} s", "middle") for at in marks[1:] if _x(at, end) < WIDTH - 8]
    return f'<path d="M0 {y}H{WIDTH}" stroke="currentColor"/>{lines}{_words(0, y + 16, "0 s")}{"".join(texts)}'
