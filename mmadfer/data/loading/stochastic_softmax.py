"""Temporal stochastic softmax: training looks at the windows that say most of a clip's class.

Ayral et al. 2021, "Temporal Stochastic Softmax for 3D CNNs". Softmax pooling (`mmadfer.tasks.pooling`) would run all
windows of a clip in each step. Here one is run, drawn with the probability that it would have as a weight of the pool
of the clip's own class. What the draw needs is a weight for each window: an estimate of the class's logit there.

    epoch 1 to u        every window as likely as the others; weights stay 0
    then e epochs       e places, evenly spaced, each once, in an order of each clip's own; the logit found becomes the
                        weight of all windows up to half way to the next place
    afterwards          drawn from softmax(gamma * weights); weights around the drawn one move to the logit found

A window may start at any frame, whatever its stride: K = n - S + 1 weights for a clip of n frames, S the frames that a
window spans. A weight moves by the share of S that its window has in common with the drawn one, 1 - |t - i| / S. With
a stride of 1, S is the number of frames in a window, as published.
"""

import base64
import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np

from mmadfer.data.draws import digest, uniform
from mmadfer.data.frame_windows import drawn_window, positions, window_at
from mmadfer.data.loading.samplers import Pick, Sampler
from mmadfer.data.store.store import Clip
from mmadfer.errors import DataError
from mmadfer.tasks.pooling import check_gamma

MOST_PLACES = 1000
"""Epochs of exploration, each of which has a place in every clip."""


class Phase(IntEnum):
    """How windows are drawn in an epoch."""

    UNIFORM = 0
    EXPLORATION = 1
    SOFTMAX = 2


def phase(number: int, uniform_epochs: int, exploration_epochs: int) -> Phase:
    """Of an epoch, whose number is from 1."""
    if number <= uniform_epochs:
        return Phase.UNIFORM
    return Phase.EXPLORATION if number <= uniform_epochs + exploration_epochs else Phase.SOFTMAX


def places(count: int, epochs: int) -> list[int]:
    """Where exploration looks at a clip of `count` windows: `epochs` windows from the first to the last.

    A short clip has some of them more than once; a single place is in the middle.
    """
    if epochs == 1:
        return [(count - 1) // 2]
    return [(count - 1) * k // (epochs - 1) for k in range(epochs)]


def reach(count: int, epochs: int) -> int:
    """How far from its place what exploration finds is taken for other windows, on both sides."""
    return count if epochs == 1 else math.ceil(max(0, count - epochs) / (epochs - 1) / 2)


def explored(weights: np.ndarray, start: int, score: float, far: int) -> np.ndarray:
    """The weights (K,) with `score` for all windows up to `far` from `start`."""
    found = weights.copy()
    found[max(0, start - far) : start + far + 1] = score
    return found


def updated(weights: np.ndarray, start: int, score: float, span: int) -> np.ndarray:
    """The weights (K,), moved to `score` by the share of the `span` frames in common with the window at `start`."""
    share = np.maximum(0, 1 - np.abs(np.arange(len(weights)) - start) / span).astype(weights.dtype)
    return weights + share * (weights.dtype.type(score) - weights)


def probabilities(weights: np.ndarray, gamma: float) -> np.ndarray:
    """softmax(gamma * weights), float64 (K,); with gamma infinite, the largest weights alone, in equal parts."""
    scores = np.asarray(weights, np.float64)
    if math.isinf(gamma):
        powers = (scores == scores.max()).astype(np.float64)
    else:
        powers = np.exp(gamma * (scores - scores.max()))
    return np.asarray(powers / powers.sum())


def _gamma(given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        raise ValueError(f"gamma is {given}: give a number from 0 on, or inf")
    try:
        gamma = float(given)
    except OverflowError as error:
        raise ValueError("gamma is too large: give inf for the maximum") from error
    check_gamma(gamma)
    return gamma


class StochasticSoftmax(Sampler):
    """Every clip once in each epoch, in the order of `Sampler`, each with a window.

    The draws of an epoch depend on the weights at its start, and what is found moves them at its end, in the order of
    the epoch's clips: neither ranks nor reading ahead nor a restart can change a draw.

    Args:
        seed: of the run.
        clips: what is trained on.
        span: frames of a clip from the first to the last of a window.
        uniform_epochs: u.
        exploration_epochs: e; 0 leaves exploration out.
        gamma: from 0 (all windows alike) to infinity (the best one).

    Raises:
        ValueError: epochs that are not whole numbers from 0 on, more than 1000 of exploration, or gamma is no number.
        ConfigError: gamma below 0.
    """

    observes = True
    observed = "score"
    windowed = True

    def __init__(
        self,
        seed: int,
        clips: Sequence[Clip],
        *,
        span: int,
        uniform_epochs: int = 3,
        exploration_epochs: int = 5,
        gamma: float = 1.0,
    ) -> None:
        super().__init__(seed, clips)
        for name, count in (("uniform_epochs", uniform_epochs), ("exploration_epochs", exploration_epochs)):
            if type(count) is not int or count < 0:
                raise ValueError(f"{name} is {count}: give a whole number from 0 on")
        if exploration_epochs > MOST_PLACES:
            raise ValueError(f"exploration_epochs is {exploration_epochs}: give at most {MOST_PLACES}")
        self.span, self.gamma = span, _gamma(gamma)
        self.uniform_epochs, self.exploration_epochs = uniform_epochs, exploration_epochs
        self.frames = {clip.id: clip.frames for clip in clips}
        self.weights = {name: np.zeros(positions(n, span), np.float32) for name, n in self.frames.items()}
        self.seen = dict.fromkeys(self.frames, 0)
        """Bit k: place k of the clip was explored."""
        self.epochs = 0
        """Those observed."""

    def epoch(self, k: int) -> list[Pick]:
        """As `Sampler.epoch`."""
        return [pick._replace(window=self._window(pick.clip, k)) for pick in super().epoch(k)]

    def observe(self, picks: Sequence[Pick], told: np.ndarray) -> None:
        """Move the weights by each clip's logit of its own class; one that is not finite moves none."""
        now = self._phase(self.epochs)
        for pick, score in zip(picks, told.tolist(), strict=True):
            if math.isfinite(score) and pick.window is not None:
                self._move(pick.clip, pick.window[0], score, now)
        self.epochs += 1
        if now == Phase.EXPLORATION != self._phase(self.epochs):
            self._fill()

    def state_dict(self) -> dict[str, Any]:
        """The weights, as bytes of float32 in base64, and what was explored, in the order of the clips' ids."""
        names = sorted(self.weights)
        data = np.concatenate([self.weights[name] for name in names]).astype("<f4").tobytes()
        return {
            "windows": {name: len(self.weights[name]) for name in names},
            "weights": base64.b64encode(data).decode(),
            "seen": [self.seen[name] for name in names],
            "epochs": self.epochs,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from them.

        Raises:
            DataError: they are of other clips, or of clips of other lengths.
        """
        names = sorted(self.weights)
        self._check({str(name): int(count) for name, count in state["windows"].items()})
        data = np.frombuffer(base64.b64decode(state["weights"], validate=True), "<f4").astype(np.float32)
        ends = np.cumsum([len(self.weights[name]) for name in names])
        if len(data) != ends[-1]:
            raise ValueError(f"it has {len(data)} weights, not {ends[-1]}")
        self.weights = dict(zip(names, np.split(data, ends[:-1]), strict=True))
        self.seen = dict(zip(names, map(int, state["seen"]), strict=True))
        self.epochs = int(state["epochs"])

    def _check(self, found: dict[str, int]) -> None:
        own = {name: len(weights) for name, weights in self.weights.items()}
        if odd := sorted(name for name in own.keys() | found.keys() if own.get(name) != found.get(name)):
            here, there = own.get(odd[0], 0), found.get(odd[0], 0)
            raise DataError(
                f"the sampler's state is of another store or of other windows: {len(odd)} clips differ, the first is "
                f"{odd[0]}, which has {here} windows here and {there} in the checkpoint. Give the store and the "
                "data.window that the run began with, or begin another run"
            )

    def _phase(self, k: int) -> Phase:
        """Of epoch `k`, from 0."""
        return phase(k + 1, self.uniform_epochs, self.exploration_epochs)

    def _window(self, clip: str, k: int) -> tuple[int, int]:
        now, n = self._phase(k), self.frames[clip]
        if now == Phase.UNIFORM:
            return drawn_window(self.seed, k, clip, n, self.span)
        if now == Phase.EXPLORATION:
            place = self._order(clip)[k - self.uniform_epochs]
            return window_at(places(positions(n, self.span), self.exploration_epochs)[place], n, self.span)
        sums = np.cumsum(probabilities(self.weights[clip], self.gamma))
        (draw,) = uniform(1, self.seed, k, clip, "window")
        start = min(int(np.searchsorted(sums, draw * sums[-1], side="right")), len(sums) - 1)
        return window_at(start, n, self.span)

    def _order(self, clip: str) -> list[int]:
        """In which a clip's places are explored."""
        return sorted(range(self.exploration_epochs), key=lambda place: digest(self.seed, clip, "place", place))

    def _move(self, clip: str, start: int, score: float, now: Phase) -> None:
        weights = self.weights[clip]
        if now == Phase.EXPLORATION:
            self.weights[clip] = explored(weights, start, score, reach(len(weights), self.exploration_epochs))
            self.seen[clip] |= 1 << self._order(clip)[self.epochs - self.uniform_epochs]
        elif now == Phase.SOFTMAX:
            self.weights[clip] = updated(weights, start, score, self.span)

    def _fill(self) -> None:
        """Give windows that exploration has not come to the mean of the clip's places that it has.

        An epoch's last incomplete batch is dropped, so some clips miss a place; a weight of 0 would count as likely
        wherever logits are negative. A clip that missed all has equal weights.
        """
        for clip, weights in self.weights.items():
            where, far = places(len(weights), self.exploration_epochs), reach(len(weights), self.exploration_epochs)
            found = [start for k, start in enumerate(where) if self.seen[clip] >> k & 1]
            if not found or len(found) == len(where):
                continue
            there = np.abs(np.arange(len(weights))[:, None] - np.array(found)).min(1) <= far
            self.weights[clip] = np.where(there, weights, weights[sorted({*found})].mean(dtype=np.float32))
