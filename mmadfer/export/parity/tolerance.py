"""How far an exported model may be from PyTorch, by the numbers that it computes in.

float32 must give the very labels. Fewer bits move every logit a little, and so the label of a clip that lies between
two; 8 bits move logits so much that only what comes of them, labels and the score, can be asked for.

That is asked of logits from the very same arrays. A clip that is read twice does not always give these: engines of the
face detector add up in different orders, so boxes are 1e-5 pixels apart, bytes of a JPEG differ, and logits by more
than float32's tolerance. For arrays there is a tolerance of their own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Tolerance:
    """What is accepted."""

    difference: float
    """Largest difference of a logit; infinite where any will do that is a number."""
    labels: float
    """Share of the clips that must get the same label, at least."""
    score: float = inf
    """Largest difference of the task's primary score, as a fraction."""

    def faults(self, difference: float, labels: float, score: float, title: str) -> Iterator[str]:
        """What is beyond it, in words; nothing for a model that passes.

        Args:
            difference: the largest of a logit; infinite where one is not a finite number.
            labels: share of clips with the same label.
            score: difference of the primary score, as a fraction.
            title: how that is called.
        """
        if difference == inf:
            yield "there are logits that are not finite numbers"
        elif not difference <= self.difference:
            yield f"the largest difference of a logit is {difference:.3g}, at most {self.difference:g} is accepted"
        if not labels >= self.labels:
            yield f"{labels:.2%} of the labels are equal, at least {self.labels:g} of 1 is asked for"
        if not round(score, 9) <= self.score:
            yield f"{title} differs by {100 * score:.2f} points, at most {100 * self.score:g} is accepted"


HALF = Tolerance(2e-2, 0.995)
EIGHT = Tolerance(inf, 0.98, 0.01)
TOLERANCES = {"fp32": Tolerance(1e-4, 1.0), "fp16": HALF, "bf16": HALF, "int8": EIGHT, "fp8": EIGHT}
"""By the arithmetic in an exported file's contract."""

_VALUES = 0.05
"""Largest difference of a value where 8 bits are computed in, as a share of half its range."""


def of_values(tolerance: Tolerance, span: float) -> Tolerance:
    """The same for values in a range as wide as `span`: by difference alone, as a share of half the range."""
    return Tolerance((_VALUES if tolerance.difference == inf else tolerance.difference) * span / 2, 0.0)


ENOUGH = 100
"""Clips that a proof should have."""


class _Bound(NamedTuple):
    """How far two readings of clips may be apart, in the mean absolute difference of a clip's numbers."""

    usual: float
    """In the median clip."""
    most: float
    """In every clip but the `SPARED`."""


_FRAMES, SOUND = _Bound(0.05, 1.0), _Bound(1e-4, 1e-2)
"""Of a clip's frames, of 255, and of its filter bank.

The detector's two engines are 0.002 apart in most clips, and 0.6 in one of two hundred, where a box is a pixel off; a
detector whose boxes are off by 0.5 % of a face is 4 apart. Sound is read by the very same code."""
SPARED = 0.02
"""Share of clips that may be further apart, or get another label; none of fewer than 50."""


def reading_faults(frames: np.ndarray, sound: np.ndarray, flips: int) -> Iterator[str]:
    """What is wrong with a second reading of clips, in words; nothing for one that passes.

    Args:
        frames: of each clip (clips,), how far its frames are from those of the first reading.
        sound: the same of its filter bank.
        flips: clips to which the same model gives another label.
    """
    clips = len(frames)
    spared = int(clips * SPARED + 1e-9)
    for what, apart, bound in (("frames", frames, _FRAMES), ("filter banks", sound, SOUND)):
        far, middle = int((~(apart <= bound.most)).sum()), float(np.median(apart))
        if far > spared:
            yield (
                f"{what} differ in {far} of {clips} clips, by up to {apart.max():.3g} (at most {bound.most:g} is "
                f"accepted, and more in {spared} clips)"
            )
        elif not middle <= bound.usual:
            yield f"{what} differ by {middle:.3g} in the median clip (at most {bound.usual:g} is accepted)"
    if flips > spared:
        yield f"{flips} of {clips} clips get another label, at most {spared} may"
