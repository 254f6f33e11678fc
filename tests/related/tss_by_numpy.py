"""Reference files of temporal stochastic softmax, of loops over the formulas: a second way to compute each value."""

import math
from collections.abc import Sequence

import numpy as np
from draw import draw

GAMMAS = ("0", "0.5", "1", "3", "inf")


def golden(seed: int, size: tuple[int, int, int, int], videos: Sequence[tuple[int, int, int]]) -> dict[str, np.ndarray]:
    """Every key; `size` is B, C, n and L, `videos` have n, L and exploration epochs each."""
    made: dict[str, np.ndarray] = {"pool.size": np.array(size)}
    clips, classes, frames, span = size
    labels = np.arange(clips) % classes
    scores = draw("scores", (clips, classes, frames), seed, 0, 2.0)
    made |= {"pool.labels": labels, "pool.sums": np.array([scores.sum()])}
    starts = range(max(1, frames - span + 1))
    made["pool.clip_scores"] = np.stack([scores[:, :, t : t + span].max(-1) for t in starts], -1)
    for gamma in GAMMAS:
        made |= _pool(gamma, scores, made["pool.clip_scores"], labels, span)
    made["schedule"] = np.array([0] * 3 + [1] * 5 + [2] * 6)
    made["schedule.1_2"] = np.array([0, 1, 1, 2])
    for n, length, epochs in videos:
        made |= _video(seed, n, length, epochs)
    return made


def _pool(gamma: str, scores: np.ndarray, windows: np.ndarray, labels: np.ndarray, span: int) -> dict[str, np.ndarray]:
    value, (clips, classes, count) = float(gamma), windows.shape
    z, share = np.zeros((clips, classes)), np.zeros((clips, classes, count))
    for b in range(clips):
        for c in range(classes):
            row = windows[b, c]
            powers = row == row.max() if math.isinf(value) else np.exp(value * row)
            share[b, c] = powers / powers.sum()
            z[b, c] = sum(p * s for p, s in zip(share[b, c], row, strict=True))
    logs = z - np.log(np.exp(z).sum(1, keepdims=True))
    key = f"pool.{gamma}."
    made = {key + "logits": z, key + "log_probabilities": logs}
    made[key + "loss"] = np.array(-np.mean([logs[b, label] for b, label in enumerate(labels)]))
    if not math.isinf(value):
        by_z = (np.exp(logs) - np.eye(classes)[labels]) / clips
        by_window = by_z[..., None] * share * (1 + value * (windows - z[..., None]))
        by_frame = np.zeros_like(scores)
        for b, c, t in np.ndindex(windows.shape):
            by_frame[b, c, t + int(scores[b, c, t : t + span].argmax())] += by_window[b, c, t]
        made |= {key + "clip_gradient": by_window, key + "gradient": by_frame}
    return made


def _video(seed: int, n: int, span: int, epochs: int) -> dict[str, np.ndarray]:
    name, count, classes, label = f"video{n}", max(1, n - span + 1), 3, n % 3
    rng = np.random.default_rng([seed, n])
    where = [int((count - 1) * k / (epochs - 1)) for k in range(epochs)]
    positions = np.array([where[k] for k in rng.permutation(epochs)] + list(rng.integers(0, count, 7)))
    scores = rng.normal(0, 2, (len(positions), classes))
    weights, found = [0.0] * count, []
    width = math.ceil(max(0, count - epochs) / (epochs - 1) / 2)
    for k, t in enumerate(positions):
        s = scores[k, label]
        for i in range(count):
            if k < epochs:
                weights[i] = s if abs(i - t) <= width else weights[i]
            elif abs(t - i) < span:
                weights[i] += (1 - abs(t - i) / span) * (s - weights[i])
        found.append([*weights])
    made = {
        "frames": np.array([n, span, epochs, classes, label]),
        "positions": positions,
        "scores": scores,
        "weights": np.array(found),
        "exploration_starts": np.array(where),
    }
    for gamma in GAMMAS if n > span else ():
        row, value = np.array(found[-1]), float(gamma)
        powers = (row == row.max()).astype(float) if math.isinf(value) else np.exp(value * row)
        made[f"probabilities.{gamma}"] = powers / powers.sum()
        if not math.isinf(value):
            made[f"released_probabilities.{gamma}"] = (powers / powers.sum()).astype(np.float32)
    return {f"{name}.{key}": value for key, value in made.items()}
