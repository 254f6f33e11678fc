"""How far an exported model may be from PyTorch, by the numbers that it computes in.

float32 must give the very labels. Fewer bits move every logit a little, and so the label of a clip that lies between
two; 8 bits move logits so much that only what comes of them, labels and the score, can be asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class Tolerance:
    """What is accepted."""

    difference: float
    """Largest difference of a logit; infinite where any will do that is a number."""
    labels: float
    """Share of the clips that must get the same label, at least."""
    uar: float = inf
    """Largest difference of UAR, as a fraction."""

    def faults(self, difference: float, labels: float, uar: float) -> Iterator[str]:
        """What is beyond it, in words; nothing for a model that passes.

        Args:
            difference: the largest of a logit; infinite where one is not a finite number.
            labels: share of clips with the same label.
            uar: difference of UAR, as a fraction.
        """
        if difference == inf:
            yield "there are logits that are not finite numbers"
        elif not difference <= self.difference:
            yield f"the largest difference of a logit is {difference:.3g}, at most {self.difference:g} is accepted"
        if not labels >= self.labels:
            yield f"{labels:.2%} of the labels are equal, at least {self.labels:g} of 1 is asked for"
        if not round(uar, 9) <= self.uar:
            yield f"UAR differs by {100 * uar:.2f} points, at most {100 * self.uar:g} is accepted"


HALF = Tolerance(2e-2, 0.995)
EIGHT = Tolerance(inf, 0.98, 0.01)
TOLERANCES = {"fp32": Tolerance(1e-4, 1.0), "fp16": HALF, "bf16": HALF, "int8": EIGHT, "fp8": EIGHT}
"""By the arithmetic in an exported file's contract."""
