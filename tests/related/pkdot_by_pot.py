"""Reference files of distillation by optimal transport, of loops and of POT: a second way to compute each value."""

import math
import warnings
from collections.abc import Sequence

import numpy as np
import ot
from draw import draw

BLURS, CLOUD_BLURS = {"0.4": 0.4, "0.8": 0.8}, {"0.5": 0.5, "1": 1.0}
TO_CONVERGENCE = {"reg_type": "KL", "max_iter": 1000, "tol": 1e-13}


def golden(
    seed: int, cases: Sequence[tuple[int, int, int]], clouds: Sequence[tuple[int, int, int]]
) -> dict[str, np.ndarray]:
    """Every key that needs no other library; cases are B, W and k, clouds n, m and width."""
    made: dict[str, np.ndarray] = {}
    for size in cases:
        made |= _case(seed, *size)
    for n, m, width in clouds:
        name = f"clouds.{n}x{m}x{width}."
        x, y = draw(f"cloud.x.{n}x{width}", (n, width), seed), draw(f"cloud.y.{m}x{width}", (m, width), seed)
        y = 0.7 * y + 0.3
        made[f"{name}sums"] = np.array([x.sum(), y.sum()])
        for text, blur in CLOUD_BLURS.items():
            value, parts, by_y = _divergence(x, y, blur)
            made |= {f"{name}blur{text}.divergence": value, f"{name}blur{text}.parts": parts}
            made[f"{name}blur{text}.gradient_y"] = by_y
    return made


def _case(seed: int, clips: int, width: int, k: int) -> dict[str, np.ndarray]:
    name, of = f"{clips}x{width}k{k}.", f"{clips}x{width}"
    teacher = draw(f"teacher.{of}", (clips, width), seed)
    student = 0.5 * teacher + draw(f"student.{of}", (clips, width), seed)
    sums = [one.sum() for one in (teacher, student, draw(f"logits.{of}", (clips, 4), seed))]
    made = {f"{name}sums": np.array(sums), f"{name}labels": np.arange(clips) * 7 % 4}
    theirs, own = _similarity(teacher), _similarity(student)
    made |= {f"{name}similarity_teacher": theirs, f"{name}similarity_student": own}
    for which, sign in (("lowest", 1), ("highest", -1)):
        chosen = np.array([sorted(range(clips), key=lambda j, row=row: (sign * row[j], j))[:k] for row in theirs])
        x, y = (np.take_along_axis(one - one.min(), chosen, 1) for one in (theirs, own))
        made |= {f"{name}{which}.indices": chosen, f"{name}{which}.anchors_teacher": x}
        made[f"{name}{which}.anchors_student"] = y
        for text, blur in BLURS.items():
            value, parts, by_y = _divergence(x, y, blur)
            start = f"{name}{which}.blur{text}."
            made |= {f"{start}divergence": value, f"{start}parts": parts, f"{start}pot": value}
            made[f"{start}gradient_student"] = _by_features(student, own, chosen, by_y)
    return made


def _similarity(features: np.ndarray) -> np.ndarray:
    return np.array([[a @ b / math.sqrt((a @ a) * (b @ b)) for b in features] for a in features])


def _transport(x: np.ndarray, y: np.ndarray, blur: float) -> tuple[float, np.ndarray]:
    """The value, and the plan."""
    cost = np.array([[((a - b) ** 2).sum() / 2 for b in y] for a in x])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a cloud against itself, potentials go on moving when the value does not
        found = ot.solve(cost, reg=blur**2, **TO_CONVERGENCE)
    return float(found.value), found.plan


def _divergence(x: np.ndarray, y: np.ndarray, blur: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The value, its parts, and the gradient by y."""
    (between, p), (of_x, _), (of_y, p_y) = (_transport(*pair, blur) for pair in ((x, y), (x, x), (y, y)))
    by_y = p.sum(0)[:, None] * y - p.T @ x - (p_y.sum(0)[:, None] * y - (p_y + p_y.T) / 2 @ y)
    return np.array(between - of_x / 2 - of_y / 2), np.array([between, of_x, of_y]), by_y


def _by_features(features: np.ndarray, own: np.ndarray, chosen: np.ndarray, by_rows: np.ndarray) -> np.ndarray:
    """Through the choice of anchors, the shift and the cosines."""
    by_similarity = np.zeros_like(own)
    np.put_along_axis(by_similarity, chosen, by_rows, 1)
    by_similarity[np.unravel_index(own.argmin(), own.shape)] -= by_rows.sum()
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / norms
    by_unit = (by_similarity + by_similarity.T) @ unit
    return (by_unit - (by_unit * unit).sum(1, keepdims=True) * unit) / norms
