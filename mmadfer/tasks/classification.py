"""Classification of clips, as published: cross-entropy, and the two scores of the field (paper section 4.2)."""

from typing import TYPE_CHECKING

from mmadfer.tasks.spec import Score, TaskSpec

if TYPE_CHECKING:
    import numpy as np  # late below: reading a configuration needs none


class Classification(TaskSpec):
    """One label a clip."""

    output = "classes"
    target = "label"
    loss = "cross_entropy"
    scores = (Score("uar", "UAR", "mean of the per-class recalls"), Score("war", "WAR", "accuracy"))

    def statistics(self, truth: "np.ndarray", output: "np.ndarray", classes: int) -> "np.ndarray":
        """float64 (N, 2 C): 1 in a clip's class, and again where it was told."""
        import numpy as np

        found = np.eye(classes)[truth]
        return np.concatenate([found, found * (output == truth)[:, None]], axis=1)

    def from_sums(self, sums: "np.ndarray") -> "np.ndarray":
        """UAR over the classes that have clips, and WAR."""
        import numpy as np

        clips, right = np.split(sums, 2, axis=-1)
        recalls = np.divide(right, clips, out=np.zeros_like(right), where=clips > 0)
        return np.stack([recalls.sum(-1) / (clips > 0).sum(-1), right.sum(-1) / clips.sum(-1)], axis=-1)

    def score(self, truth: "np.ndarray", output: "np.ndarray", classes: int) -> dict[str, float]:
        """UAR and WAR of the confusion matrix."""
        from mmadfer.tasks import metrics

        return of_confusion(metrics.confusion(truth, output, classes))


def of_confusion(table: "np.ndarray") -> dict[str, float]:
    """The scores of a confusion matrix, int64 (C, C) with rows of the truth."""
    from mmadfer.tasks import metrics

    return {"uar": metrics.uar(table), "war": metrics.war(table)}


CLASSIFICATION = Classification()
