"""Where faces are over time, person by person, of the windows of a video as they come."""

from typing import Any

import numpy as np

from mmadfer.runtime.inputs import VideoPart

APART = 0.1
"""Seconds between two boxes that are kept, at least; what is between them a page draws by itself."""
MOST = 500_000
"""Of a video; who reads it may lie."""
_EXACT = 1e-6
_DIGITS = 4
"""Of a share of the picture: a pixel of 8K is 0.0001 of its width."""


class _Track:
    def __init__(self) -> None:
        self.times, self.boxes = list[float](), list[list[float]]()
        self.start, self.end = 0.0, 0.0

    def add(self, part: VideoPart) -> None:
        """Go on with another window; where it covers the one before, that one holds until the middle of both.

        So does `mmadfer.runtime.stretches`, which says which window is told of at a time.
        """
        begin = (self.end + part.start) / 2 if self.times and part.start < self.end else -np.inf
        while self.times and self.times[-1] >= begin > -np.inf:
            self.times.pop()
            self.boxes.pop()
        assert part.boxes is not None
        order = np.argsort(part.times, kind="stable")[:MOST]
        for k in order[part.times[order] >= begin]:
            time = float(part.times[k])
            if not self.times or time >= self.times[-1] + APART - _EXACT:
                self.times.append(round(time, 3))
                self.boxes.append([round(float(side), _DIGITS) for side in part.boxes[k]])
        self.start, self.end = part.start, part.end


class Boxes:
    """The boxes of one video."""

    def __init__(self) -> None:
        self._of = dict[int, _Track]()

    def __len__(self) -> int:
        return sum(len(track.times) for track in self._of.values())

    def add(self, part: VideoPart) -> None:
        """Keep those of the next part."""
        if part.boxes is not None and len(part.times) and len(self) < MOST:
            self._of.setdefault(part.person, _Track()).add(part)

    def to_list(self) -> list[dict[str, Any]]:
        """For each person the times in seconds, and a box (x0, y0, x1, y1 in shares of the picture) for each."""
        return [
            {"person": person or None, "times": list(track.times), "boxes": list(track.boxes)}
            for person, track in sorted(self._of.items())
        ]
