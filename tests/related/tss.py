"""Temporal stochastic softmax: every value of a reference file, of the product's own functions in float64."""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from draw import draw
from golden import FormError, Row, compared, lacking, seed_of
from torch.nn.functional import nll_loss

from mmadfer.data.loading.stochastic_softmax import explored, phase, places, probabilities, reach, updated
from mmadfer.tasks import pooling
from mmadfer.tasks.pooling_torch import pooled

Arrays = Mapping[str, np.ndarray]
EXACT, CLOSE, SUMS, SINGLE = 0.0, 1e-12, 1e-9, 1e-6
"""Tolerances; the last of what the published program has in float32."""
GIVEN = re.compile(r"pool\.(size|labels)|video\d+\.(frames|positions|scores)")
"""Keys that other values are computed from."""
OF_POOL = ("logits", "log_probabilities", "loss")


def rows(path: Path, golden: Arrays, seed: int | None) -> list[Row]:
    """Every key of a file.

    Raises:
        FormError: it is not of the form.
    """
    found = {**_pools(path, golden, seed), **dict(_schedules(golden)), **dict(_videos(golden))}
    lacking(golden, iter(found))
    if unknown := {key for key in golden if not GIVEN.fullmatch(key)} - found.keys():
        raise FormError(f"the key {min(unknown)} is not known")
    return [compared(key, value, golden[key], _tolerance(key)) for key, value in found.items()]


def _tolerance(key: str) -> float:
    if key == "pool.sums":
        return SUMS
    if key == "pool.clip_scores" or key.startswith("schedule") or key.endswith("exploration_starts"):
        return EXACT
    return SINGLE if ".released_" in key else CLOSE


def _integers(golden: Arrays, key: str, count: int) -> list[int]:
    value = golden[key]
    if value.shape != (count,) or value.dtype.kind not in "iu":
        raise FormError(f"{key} is {value.tolist()}: {count} whole numbers are meant")
    return [int(one) for one in value]


# ---------------------------------------------------------------- pooling


def _pools(path: Path, golden: Arrays, seed: int | None) -> dict[str, np.ndarray]:
    lacking(golden, iter(["pool.size", "pool.labels", "pool.sums"]))
    clips, classes, frames, span = _integers(golden, "pool.size", 4)
    if min(clips, classes, frames, span) < 1 or golden["pool.labels"].shape != (clips,):
        raise FormError("pool.size is B, C, n and L from 1 on, and pool.labels has B")
    if not all(0 <= label < classes for label in golden["pool.labels"]):
        raise FormError("pool.labels are of other classes than pool.size has")
    drawn = partial(draw, "scores", (clips, classes, frames), mean=0, std=2.0)
    if seed is None:
        seed = seed_of(path, lambda one: bool(np.isclose(drawn(one).sum(), golden["pool.sums"], rtol=1e-9).all()))
    scores = torch.tensor(drawn(seed), requires_grad=True)
    windows = scores.unfold(-1, min(span, frames), 1).amax(-1)  # the published program's score of a clip
    made = {"pool.sums": scores.detach().sum().reshape(1).numpy(), "pool.clip_scores": windows.detach().numpy()}
    for gamma in _gammas(golden, r"pool\.(.+)\.logits"):
        made |= _pool(gamma, scores, windows, torch.tensor(golden["pool.labels"].astype(np.int64)))
    return made


def _pool(gamma: str, scores: torch.Tensor, windows: torch.Tensor, labels: torch.Tensor) -> dict[str, np.ndarray]:
    """Of one gamma; `windows` (B, C, K) are computed from `scores` (B, C, n)."""
    rows_, value, key = windows.transpose(1, 2), float(gamma), f"pool.{gamma}."
    logits = pooled(rows_, value)
    logs = logits.log_softmax(-1)
    loss = nll_loss(logs, labels)
    values = (logits, logs, loss)
    made = {key + name: one.detach().numpy() for name, one in zip(OF_POOL, values, strict=True)}
    twin = pooling.pooled(rows_.detach().numpy(), value)
    if np.abs(twin - made[key + "logits"]).max() > CLOSE:
        made[key + "logits"] = np.full_like(twin, np.nan)  # the runtime's own pool says something else
    if np.isfinite(value):
        by_window, by_frame = torch.autograd.grad(loss, [windows, scores], retain_graph=True)
        made |= {key + "clip_gradient": by_window.numpy(), key + "gradient": by_frame.numpy()}
    return made


def _gammas(golden: Arrays, pattern: str) -> list[str]:
    found = [match[1] for key in golden if (match := re.fullmatch(pattern, key))]
    try:
        if all(float(gamma) >= 0 for gamma in found):
            return found
    except ValueError:
        pass
    raise FormError(f"a gamma of {', '.join(found)} is no number from 0 on")


# ---------------------------------------------------------------- sampling


def _schedules(golden: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    for key in golden:
        if match := re.fullmatch(r"schedule(?:\.(\d+)_(\d+))?", key):
            uniform, exploration = (int(match[1]), int(match[2])) if match[1] else (3, 5)
            numbers = range(1, golden[key].size + 1)
            yield key, np.array([phase(number, uniform, exploration) for number in numbers])


def _videos(golden: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    for name in sorted({match[1] for key in golden if (match := re.match(r"(video\d+)\.", key))}):
        lacking(golden, iter([f"{name}.frames", f"{name}.positions", f"{name}.scores"]))
        yield from _video(name, golden)


def _video(name: str, golden: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    frames, span, epochs, classes, label = _integers(golden, f"{name}.frames", 5)
    positions, scores = golden[f"{name}.positions"], golden[f"{name}.scores"]
    count = max(1, frames - span + 1)
    if min(frames, span, epochs, classes) < 1 or not 0 <= label < classes:
        raise FormError(f"{name}.frames is {golden[f'{name}.frames'].tolist()}: n, L, epochs, classes and the class")
    if scores.shape != (len(positions), classes) or not all(0 <= t < count for t in positions):
        raise FormError(f"{name} has positions that are none of its {count} windows, or scores of other classes")
    weights, found = np.zeros(count), list[np.ndarray]()
    for k, (start, score) in enumerate(zip(positions.tolist(), scores[:, label].tolist(), strict=True)):
        if k < epochs:
            weights = explored(weights, start, score, reach(count, epochs))
        else:
            weights = updated(weights, start, score, span)
        found.append(weights)
    yield f"{name}.weights", np.stack(found)
    yield f"{name}.exploration_starts", np.array(places(count, epochs))
    for kind in ("probabilities", "released_probabilities"):
        for gamma in _gammas(golden, rf"{name}\.{kind}\.(.+)"):
            yield f"{name}.{kind}.{gamma}", probabilities(weights, float(gamma))
