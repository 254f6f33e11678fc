"""What was asked of training beside what the tables found."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from _train_forms import Form, Peaks, flops
from _train_points import Point
from common import short, table

CLIPS, TESTS, EPOCHS, MINUTES = 9_356, 2_341, 25, 10
"""Of a fold of DFEW, and the time that all epochs may take on a GPU."""
RATIO = {"cpu": 3.5, "cuda": 8.0}
SHARE = 0.45

Key = tuple[int, int, int]
"""Clips in a step, pixels and ranks."""


@dataclass(frozen=True)
class Row:
    """A way in the first table."""

    form: Form
    step: float
    ratio: float
    rate: float
    """FLOP/s."""
    share: float


def fastest(rows: Iterable[Row], kind: str = "") -> Row:
    """Of the engine's ways; of those with products of one type, if it is given."""
    ours = (row for row in rows if row.form.way.precision and kind in ("", row.form.way.kind))
    return min(ours, key=lambda row: row.step)


def print_goals(given: argparse.Namespace, rows: Sequence[Row], peaks: Peaks, found: Mapping[Key, Point]) -> None:
    """Each goal that this machine can tell of."""
    best, here = fastest(rows), given.device == "cuda"
    wanted = RATIO[given.device]
    name = f"{'GPU' if here else 'CPU'}: times as fast as plain, {best.form.way.name}"
    lines = [_goal(name, best.ratio, wanted, best.ratio >= wanted)]
    if here:
        lines += _of_a_gpu(given, fastest(rows, "bfloat16"), peaks, found)
    print(f"\n{table(['goal', 'found', 'wanted', ''], lines)}")
    if here:
        print("The share is of the operations without attention's own, those that the goal was set on.")
        after = f"{TESTS} test clips after each epoch"
        print(f"The minutes are computed: start with all compiling, steps with loading, {after}; without saving.")
    else:
        goals = f"{RATIO['cuda']:g} times plain, {SHARE:.0%} of the bfloat16 peak, {MINUTES} minutes"
        print(f"GPU: {goals}: not run: this machine has none")


def _of_a_gpu(given: argparse.Namespace, row: Row, peaks: Peaks, found: Mapping[Key, Point]) -> list[list[object]]:
    way, work = row.form.way.name, flops(given.model, given.batch)
    share = (work.whole - work.attention) / row.step / median(peaks["bfloat16"])
    lines = [_goal(f"GPU: share of the bfloat16 peak, {way}", share, SHARE, share >= SHARE)]
    for (clips, size, ranks), point in sorted(found.items()):
        if (size, ranks) == (given.model.image_size, 1):
            spent = minutes(point, clips, row.form.ready)
            name = f"GPU: minutes for {EPOCHS} x {CLIPS} clips, {clips} in a step, {way}"
            lines.append(_goal(name, spent, MINUTES, spent <= MINUTES))
    return lines


def minutes(point: Point, clips: int, cold: float) -> float:
    """For all epochs of a fold of DFEW.

    Args:
        point: steps and tests of so many clips.
        clips: in a step.
        cold: seconds until the first step of a process for which nothing was compiled before.
    """
    start = max(cold, point.ready) + point.test_ready
    return (start + EPOCHS * (CLIPS * point.step / clips + TESTS * point.test)) / 60


def _goal(what: str, found: float, wanted: float, met: bool) -> list[object]:
    return [what, short(found), f"{wanted:g}", "met" if met else "not met"]
