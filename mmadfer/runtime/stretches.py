"""Segments of a prediction as stretches of time that do not overlap, person by person, and in words."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

MOST_PEOPLE = 8
"""That a timeline has room for."""


class Stretch(NamedTuple):
    """The part of a video that one segment is shown for."""

    start: float
    """Seconds."""
    end: float
    segment: dict[str, Any]


def stretches(segments: Sequence[dict[str, Any]]) -> list[Stretch]:
    """The segments of one person, in time, each with a stretch of its own: where two overlap, it changes in the middle.

    Those without a prediction keep their stretch.
    """
    ordered = sorted(segments, key=lambda one: (one["start"], one["end"]))
    found = [Stretch(one["start"], one["end"], one) for one in ordered]
    for k, (one, then) in enumerate(pairwise(ordered)):
        if then["start"] < one["end"]:
            middle = (one["end"] + then["start"]) / 2
            found[k], found[k + 1] = found[k]._replace(end=middle), found[k + 1]._replace(start=middle)
    return found


def by_person(
    people: Sequence[dict[str, Any]], segments: Sequence[dict[str, Any]]
) -> dict[int | None, list[dict[str, Any]]]:
    """The segments of each person of a prediction by number, or all under None where people are not told apart."""
    if not people:
        return {None: list(segments)}
    numbers = [one["person"] for one in people]
    return {number: [one for one in segments if one["person"] == number] for number in numbers}


def longest_shown(told: Mapping[int | None, Sequence[Stretch]]) -> list[int | None]:
    """The people that a timeline has room for, by number: those of whom something is said for the longest time."""
    seconds = {number: sum(one.end - one.start for one in own if said(one.segment)) for number, own in told.items()}
    best = sorted(seconds, key=lambda number: -seconds[number])[:MOST_PEOPLE]
    return [number for number in told if number in best]


def said(segment: dict[str, Any]) -> str:
    """The label and its probability, or the values; nothing of a segment that could not be predicted."""
    if "values" in segment:
        return ", ".join(f"{name} {value:.2f}" for name, value in segment["values"].items())
    return f"{segment['label']} {segment['probabilities'][segment['label']]:.0%}" if segment["label"] else ""
