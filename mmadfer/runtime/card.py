"""A prediction as a piece of HTML for a notebook: what is said, bars, and a small drawing over time.

It has no script, fetches nothing, and takes the notebook's own colour of text, so that it is read on light and on dark.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from math import ceil
from statistics import fmean
from typing import Any

from mmadfer.runtime.stretches import Stretch, by_person, said, stretches
from mmadfer.utils.colours import PALETTE
from mmadfer.utils.terminal import shown

MOST_BARS = 12
"""Classes that get a bar, those with the highest probabilities."""
MOST_PIECES = 400
"""Pieces of a drawing over time; of more, neighbours share one."""
MOST_NOTES = 10
_WIDTH, _HEIGHT = 640, 48
"""Of the drawing over time, in its own units."""
_OTHERS = "currentColor"
"""The colour of classes or values behind those that the palette has one for."""


def card(prediction: Mapping[str, Any]) -> str:
    """The HTML of a prediction as `Prediction.to_dict` gives it; whatever its words hold is escaped.

    Several people have a row each.
    """
    people, segments = prediction.get("people", []), prediction["segments"]
    wholes: Sequence[Mapping[str, Any]] = people or [prediction]
    span = _span(segments)
    rows = [
        _row(whole, own, span, prediction.get("series", {}))
        for whole, own in zip(wholes, by_person(people, segments).values(), strict=True)
    ]
    parts = [f'<div style="opacity:.7"><bdi>{_text(prediction["video"])}</bdi></div>', *rows, *_notes(prediction)]
    return f'<div style="font-family:sans-serif;max-width:42em">{"".join(parts)}</div>'


def _text(words: object) -> str:
    """Words of any origin, with nothing in them that HTML reads or that is hidden."""
    return escape(shown(str(words)))


def _span(segments: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    return min((one["start"] for one in segments), default=0.0), max((one["end"] for one in segments), default=0.0)


def _row(
    whole: Mapping[str, Any], segments: Sequence[dict[str, Any]], span: tuple[float, float], series: Mapping[str, Any]
) -> str:
    """What is said of the whole, or of one person."""
    numbers: Mapping[str, float] = whole.get("values") or whole.get("probabilities") or {}
    ranked = sorted(numbers, key=lambda name: numbers[name], reverse=True)
    colours = dict(zip(ranked, PALETTE, strict=False))
    who = f"person {whole['person']}: " if "person" in whole else ""
    head = f'<div style="margin-top:.5em">{_text(who)}<b>{_text(said(dict(whole)) or "no prediction")}</b></div>'
    bars = "" if "values" in whole else "".join(_bar(name, numbers[name], colours) for name in ranked[:MOST_BARS])
    return head + bars + _drawing(segments, span, colours, series)


def _bar(name: str, share: float, colours: Mapping[str, str]) -> str:
    line = "display:flex;align-items:center;gap:.5em;font-size:85%"
    width = f"width:{100 * share:.1f}%;height:.7em;background:{colours.get(name, _OTHERS)}"
    return (
        f'<div style="{line}"><span style="width:10em;overflow-wrap:anywhere"><bdi>{_text(name)}</bdi></span>'
        f'<span style="flex:1;border:1px solid;border-radius:2px"><span style="display:block;{width}"></span></span>'
        f'<span style="width:3.5em;text-align:right">{share:.1%}</span></div>'
    )


def _drawing(
    segments: Sequence[dict[str, Any]],
    span: tuple[float, float],
    colours: Mapping[str, str],
    series: Mapping[str, Any],
) -> str:
    """The time from left to right; nothing of a single segment, which the bars say all of."""
    begin, end = span
    told = _fewer(stretches(segments))
    if end <= begin or (len(told) < 2 and not series):
        return ""
    scale = _WIDTH / (end - begin)
    if any("values" in one.segment for one in told):
        drawn = _lines(told, series, colours, begin, scale)
    else:
        drawn = (_label(one, colours, begin, scale) for one in told)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="over time" preserveAspectRatio="none" '
        f'style="display:block;width:100%;height:3em;margin-top:.3em;border-bottom:1px solid">{"".join(drawn)}</svg>'
        f'<div style="display:flex;justify-content:space-between;font-size:75%;opacity:.7"><span>{begin:.1f} s</span>'
        f"<span>{end:.1f} s</span></div>"
    )


def _fewer(told: Sequence[Stretch]) -> list[Stretch]:
    """As many as can be drawn: of neighbours, the one in their middle stands for all."""
    step = max(1, ceil(len(told) / MOST_PIECES))
    groups = [told[k : k + step] for k in range(0, len(told), step)]
    return [Stretch(some[0].start, some[-1].end, some[len(some) // 2].segment) for some in groups]


def _label(one: Stretch, colours: Mapping[str, str], begin: float, scale: float) -> str:
    """A stretch in the colour of its label, as high as that is probable; of one without, its reason in an empty box."""
    label = one.segment["label"]
    share = one.segment["probabilities"][label] if label else 1.0
    fill = colours.get(label, _OTHERS) if label else "none"
    told = said(one.segment) or "; ".join(map(str, one.segment["notes"])) or "no prediction"
    x, y, width, height = (one.start - begin) * scale, (1 - share) * _HEIGHT, (one.end - one.start) * scale, _HEIGHT
    return (
        f'<rect x="{x:.2f}" y="{y:.2f}" width="{max(0.0, width):.2f}" height="{share * height:.2f}" fill="{fill}">'
        f"<title>{one.start:.2f} to {one.end:.2f} s: {_text(told)}</title></rect>"
    )


def _lines(
    told: Sequence[Stretch], series: Mapping[str, Any], colours: Mapping[str, str], begin: float, scale: float
) -> Iterator[str]:
    """A line for each value, from the lowest number of all to the highest."""
    points = {name: list(_points(name, told, series)) for name in colours}
    numbers = [value for line in points.values() for _, value in line]
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    for name, line in points.items():
        at = " ".join(
            f"{(time - begin) * scale:.2f},{_HEIGHT * (1 - (value - low) / ((high - low) or 1.0)):.2f}"
            for time, value in line
        )
        yield (
            f'<polyline points="{at}" fill="none" stroke="{colours[name]}" stroke-width="2" '
            f'vector-effect="non-scaling-stroke"><title>{_text(name)}</title></polyline>'
        )


def _points(name: str, told: Sequence[Stretch], series: Mapping[str, Any]) -> Iterable[tuple[float, float]]:
    """Times and values; of a value at each step, the means of neighbours."""
    if not series:
        some = ((one, one.segment["values"]) for one in told)
        return [((one.start + one.end) / 2, values[name]) for one, values in some if values]
    times, values = series["seconds"], series["values"][name]
    step = max(1, ceil(len(times) / MOST_PIECES))
    return [(fmean(times[k : k + step]), fmean(values[k : k + step])) for k in range(0, len(times), step)]


def _notes(prediction: Mapping[str, Any]) -> Iterator[str]:
    notes, sentence = list(prediction["notes"]), prediction.get("sentence")
    if sentence:
        yield f'<div style="font-size:85%"><i><bdi>{_text(sentence)}</bdi></i></div>'
    if len(notes) > MOST_NOTES:
        notes[MOST_NOTES:] = [f"and {len(notes) - MOST_NOTES} more"]
    if notes:
        listed = "".join(f"<li><bdi>{_text(note)}</bdi></li>" for note in notes)
        yield f'<ul style="font-size:85%;opacity:.8;margin:.3em 0">{listed}</ul>'
