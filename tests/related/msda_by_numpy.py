"""Reference values of adaptation to a subject, in numpy by the formulas, of any seed and size."""

from collections.abc import Sequence

import numpy as np
from draw import draw


def mmd(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The value, the bandwidths (5,), and the gradient of both sides' rows (N, D)."""
    rows = np.concatenate([source, target])
    count, differences = len(rows), rows[:, None] - rows
    distances = (differences**2).sum(-1)
    widths = distances.sum() / (count**2 - count) / 4 * 2.0 ** np.arange(5)
    signs = np.concatenate([np.full(len(source), 1 / len(source)), np.full(len(target), -1 / len(target))])
    pairs, kernels = np.outer(signs, signs), np.exp(-distances / widths[:, None, None])
    slopes = -2 * pairs * (kernels / widths[:, None, None]).sum(0)  # of one side of a pair
    return float((pairs * kernels.sum(0)).sum()), widths, 2 * (slopes[..., None] * differences).sum(1)


def case(seed: int, n: int, m: int, width: int, shift: float) -> dict[str, np.ndarray]:
    """Of two sides."""
    source, target = draw(f"source.{n}x{width}", (n, width), seed), draw(f"target.{m}x{width}", (m, width), seed)
    target = 1.2 * target + shift
    value, widths, gradient = mmd(source, target)
    means = source.astype(np.float32).mean(0) - target.astype(np.float32).mean(0)
    found = {"sums": np.array([source.sum(), target.sum()]), "shift": shift, "value": value, "bandwidths": widths}
    found |= {"gradient_source": gradient[:n], "gradient_target": gradient[n:], "gradient_released_is_zero": True}
    found["linear"] = float(means @ means) if width <= 64 else 0.0
    return {f"mmd.{n}x{m}x{width}.{key}": np.asarray(one) for key, one in found.items()}


def chosen(logits: np.ndarray, flipped: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, labels and confidence of those above the threshold."""
    views = [np.exp(one) / np.exp(one).sum(1, keepdims=True) for one in (logits, flipped)]
    confidence = sum(one.max(1) for one in views) / 2
    places = np.flatnonzero(confidence > threshold)
    surer = views[0].max(1) > views[1].max(1)
    return places, np.where(surer, *(one.argmax(1) for one in views))[places], confidence[places]


def pseudo(seed: int, samples: int, classes: int, thresholds: Sequence[float]) -> dict[str, np.ndarray]:
    """Of logits, some of whose views are of two classes."""
    logits = 3 * draw("logits", (samples, classes), seed)
    flipped = logits + draw("flipped", (samples, classes), seed)
    logits[:2, :2], flipped[:2, :2] = [9, 0], [0, 9]
    values = {"pseudo.logits": logits, "pseudo.logits_flipped": flipped, "pseudo.truth": logits.argmax(1)}
    for threshold in thresholds:
        named = zip(("chosen", "labels", "confidence"), chosen(logits, flipped, threshold), strict=True)
        values |= {f"pseudo.{threshold}.{key}": value for key, value in named}
    return values | schedule(logits, flipped)


def schedule(logits: np.ndarray, flipped: np.ndarray) -> dict[str, np.ndarray]:
    """Of four times, ten epochs apart."""
    thresholds = 0.9 - 0.02 * np.arange(4)
    of_all = [chosen(logits, flipped, one)[0] for one in thresholds]
    kept = np.minimum.accumulate([len(one) for one in of_all])  # each time's are among the next time's
    values = {"epochs": 10 * np.arange(4), "thresholds": thresholds, "kept_as_released": kept}
    values["kept_from_all"] = np.array([len(one) for one in of_all])
    return {f"schedule.{key}": value for key, value in values.items()}


def golden(
    seed: int, sizes: Sequence[tuple[int, int, int]], samples: int = 50, classes: int = 4
) -> dict[str, np.ndarray]:
    """All of a file."""
    values = dict[str, np.ndarray]()
    for k, size in enumerate(sizes):
        values |= case(seed, *size, shift=0.1 * k)
    return values | pseudo(seed, samples, classes, (0.95, 0.7))
