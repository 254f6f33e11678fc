"""Boxes of windows become one track for each person."""

import numpy as np

from mmadfer.runtime.inputs import VideoPart
from mmadfer.serve.boxes import Boxes


def part(start: float, end: float, left: float, person: int = 0, fps: int = 25) -> VideoPart:
    times = np.arange(start, end, 1 / fps)
    return VideoPart(
        start, end, None, times=times, boxes=np.tile([left, 0.1, 0.5, 0.5], (len(times), 1)), person=person
    )


def test_windows_that_overlap_meet_in_the_middle() -> None:
    boxes = Boxes()
    for number, start in enumerate((0.0, 1.0, 2.0)):
        boxes.add(part(start, start + 2.0, number / 10))
    (track,) = boxes.to_list()
    assert track["person"] is None
    assert track["times"] == sorted(track["times"])
    assert all(after - before > 0.099 for before, after in zip(track["times"], track["times"][1:], strict=False))
    window = [round(10 * box[0]) for box in track["boxes"]]
    assert window == [0 if time < 1.5 else 1 if time < 2.5 else 2 for time in track["times"]]
    assert len(boxes) == len(track["times"]) > 25


def test_each_person_has_a_track() -> None:
    boxes = Boxes()
    for start in (0.0, 1.0):
        for person in (2, 1):
            boxes.add(part(start, start + 1.0, person / 10, person))
    boxes.add(VideoPart(2.0, 3.0, None, ("no face",)))
    found = boxes.to_list()
    assert [track["person"] for track in found] == [1, 2]
    assert [track["boxes"][0][0] for track in found] == [0.1, 0.2]
    assert found[0]["times"][-1] > 1.8


def test_frames_out_of_order_are_put_in_order() -> None:
    boxes = Boxes()
    one = part(0.0, 1.0, 0.1)
    order = np.random.default_rng(0).permutation(len(one.times))
    boxes.add(one._replace(times=one.times[order], boxes=one.boxes[order]))
    (track,) = boxes.to_list()
    assert track["times"] == sorted(track["times"])
