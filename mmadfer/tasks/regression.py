"""Named values, such as valence and arousal, of a clip or of each step: CCC, Pearson's correlation and RMSE.

The concordance correlation coefficient (Lin 1989) is 2 cov(x, y) / (var x + var y + (mean x - mean y)^2), with
population moments: 1 where both are equal, 0 where they have nothing in common or one of them never changes.
"""

from typing import TYPE_CHECKING

from mmadfer.tasks.spec import Score, TaskSpec

if TYPE_CHECKING:
    import numpy as np  # late below: reading a configuration needs none

_CONSTANT = 1e-12
"""Share of n sum(x^2) that a variance must exceed: what is smaller is the rounding of float32, and no change."""


class Regression(TaskSpec):
    """One number for each name of `task.values`, for a clip or for each step; scores are means over the names.

    Steps count over all clips at once, those without a true value (NaN) not at all.
    """

    output = "values"
    target = "values"
    loss = "mse"
    scores = (
        Score("ccc", "CCC", "concordance with the truth", percent=False),
        Score("pearson", "Pearson", "correlation with the truth", percent=False),
        Score("rmse", "RMSE", "root of the mean squared error", percent=False, smaller=True),
    )

    def statistics(self, truth: "np.ndarray", output: "np.ndarray", classes: int) -> "np.ndarray":
        """float64 (N, 6 C): how many are compared, and the sums of both, of their squares and of their product."""
        import numpy as np

        kept = ~np.isnan(truth)
        x, y = (np.where(kept, values, 0).astype(np.float64) for values in (truth, output))
        parts = np.concatenate([kept, x, y, x * x, y * y, x * y], axis=-1)
        return parts if truth.ndim == 2 else parts.sum(axis=1)

    def from_sums(self, sums: "np.ndarray") -> "np.ndarray":
        """CCC, Pearson's correlation and RMSE, means over the names that are compared at all; NaN where none is."""
        import numpy as np

        n, x, y, xx, yy, xy = np.split(sums, 6, axis=-1)
        cov, var_x, var_y = n * xy - x * y, n * xx - x * x, n * yy - y * y  # all times n^2
        changes = (var_x > _CONSTANT * n * xx) & (var_y > _CONSTANT * n * yy)

        def over(divisor: "np.ndarray", value: "np.ndarray") -> "np.ndarray":
            return np.divide(value, divisor, out=np.zeros_like(x), where=changes)

        ccc = over(n * (xx + yy) - 2 * x * y, 2 * cov)
        pearson = over(np.sqrt(np.maximum(var_x, 0) * np.maximum(var_y, 0)), cov)
        rmse = np.sqrt(np.maximum(xx + yy - 2 * xy, 0) / np.maximum(n, 1))
        return np.stack([_mean(each, n > 0) for each in (ccc, pearson, rmse)], axis=-1)


def _mean(each: "np.ndarray", there: "np.ndarray") -> "np.ndarray":
    """Over the last axis, of what is there; NaN where nothing is."""
    import numpy as np

    count = there.sum(-1)
    total = np.where(there, each, 0).sum(-1)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


REGRESSION = Regression()
