"""Named values of a clip, such as valence and arousal: mean squared error, RMSE and Pearson's correlation."""

from typing import TYPE_CHECKING

from mmadfer.tasks.spec import Score, TaskSpec

if TYPE_CHECKING:
    import numpy as np  # late below: reading a configuration needs none


class Regression(TaskSpec):
    """One number for each name of `task.values`; scores are means over the names."""

    output = "values"
    target = "values"
    loss = "mse"
    scores = (
        Score("pearson", "Pearson", "correlation with the truth", percent=False),
        Score("rmse", "RMSE", "root of the mean squared error", percent=False, smaller=True),
    )

    def statistics(self, truth: "np.ndarray", output: "np.ndarray", classes: int) -> "np.ndarray":
        """float64 (N, 6 C): 1, both values, their squares and their product."""
        import numpy as np

        x, y = truth.astype(np.float64), output.astype(np.float64)
        return np.concatenate([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)

    def from_sums(self, sums: "np.ndarray") -> "np.ndarray":
        """Pearson's correlation, 0 where either side never changes; and RMSE."""
        import numpy as np

        n, x, y, xx, yy, xy = np.split(sums, 6, axis=-1)
        spread = np.sqrt(np.maximum(n * xx - x * x, 0) * np.maximum(n * yy - y * y, 0))
        pearson = np.divide(n * xy - x * y, spread, out=np.zeros_like(x), where=spread > 0)
        rmse = np.sqrt(np.maximum(xx + yy - 2 * xy, 0) / n)
        return np.stack([pearson.mean(-1), rmse.mean(-1)], axis=-1)


REGRESSION = Regression()
