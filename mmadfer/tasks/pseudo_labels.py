"""Labels that a model gives the clips of a person who has none, where it is sure of a clip and of its mirror image
(Zeeshan et al. 2023, arXiv 2312.05632).

Shapes: N clips, C classes, K clips that are chosen.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class PseudoLabels(NamedTuple):
    """Of the clips that are chosen, in the clips' order."""

    chosen: Tensor
    """Their places among all, int64 (K,)."""
    labels: Tensor
    """int64 (K,)."""
    confidence: Tensor
    """(K,)."""


@torch.no_grad()
def pseudo_labels(
    logits: Tensor, mirrored: Tensor, threshold: float, agree: bool = False, among: Tensor | None = None
) -> PseudoLabels:
    """The clips with a confidence above the threshold (equal is not above), with their labels.

    The confidence is the mean of the largest probabilities of both views, which may be of two classes. The label is
    that of the view that is surer, and of the mirror image where both are as sure.

    Args:
        logits: (N, C) of the clips.
        mirrored: (N, C) of their mirror images.
        threshold: from 0 to 1.
        agree: choose only clips of whose class both views say the same; the published program does not ask.
        among: bool (N,): choose only of these. The published program chooses of those that it chose before, so that a
            lower threshold brings nothing back; None chooses of all.

    Raises:
        ValueError: shapes that do not fit.
    """
    if logits.shape != mirrored.shape or logits.ndim != 2:
        raise ValueError(f"logits of both views are (N, C), not {(*logits.shape,)} and {(*mirrored.shape,)}")
    (sure, label), (sure_mirrored, label_mirrored) = (one.softmax(1).max(1) for one in (logits, mirrored))
    confidence = (sure + sure_mirrored) / 2
    kept = confidence > threshold
    if agree:
        kept &= label == label_mirrored
    if among is not None:
        kept &= among
    labels = torch.where(sure > sure_mirrored, label, label_mirrored)
    return PseudoLabels(kept.nonzero().flatten(), labels[kept], confidence[kept])
