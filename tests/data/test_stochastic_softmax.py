"""The sampler `tss` by itself: phases, places, weights, draws, and its state."""

import json
from collections.abc import Sequence

import numpy as np
import pytest

from mmadfer.data.loading.stochastic_softmax import Phase, StochasticSoftmax, places, probabilities, reach
from mmadfer.data.store.store import Clip
from mmadfer.errors import ConfigError, DataError
from mmadfer.tasks.pooling import pooled

SPAN = 16
LENGTHS = (80, 40, 18, 16, 5)


def clips(lengths: Sequence[int] = LENGTHS) -> list[Clip]:
    return [Clip(f"c{k}", "x", 1, "x.mp4", n) for k, n in enumerate(lengths)]


def sampler(lengths: Sequence[int] = LENGTHS, **options: object) -> StochasticSoftmax:
    return StochasticSoftmax(3, clips(lengths), span=SPAN, **options)  # type: ignore[arg-type]


def told(made: StochasticSoftmax, k: int, scale: float = 1.0, without: Sequence[str] = ()) -> None:
    """Observe epoch k with scores that only the clip and the window decide, without the clips of a batch not full."""
    picks = [pick for pick in made.epoch(k) if pick.clip not in without]
    scores = [scale * np.sin(pick.window[0] + int(pick.clip[1:]) + 0.5) for pick in picks if pick.window]
    made.observe(picks, np.array(scores, np.float32))


@pytest.mark.parametrize("epochs", [1, 2, 3, 5, 8])
def test_exploration_leaves_no_window_out(epochs: int) -> None:
    for count in range(1, 400):
        there = np.abs(np.arange(count)[:, None] - np.array(places(count, epochs))).min(1)
        assert there.max() <= reach(count, epochs), count


def test_each_place_is_explored_once_and_in_another_order_for_each_clip() -> None:
    made = sampler((80,) * 20)
    starts = {f"c{k}": list[int]() for k in range(20)}
    for k in range(8):
        for pick in made.epoch(k):
            assert pick.window is not None
            starts[pick.clip] += [pick.window[0]] if k >= 3 else []
        told(made, k)
    assert {tuple(sorted(found)) for found in starts.values()} == {tuple(places(65, 5))}
    assert len({tuple(found) for found in starts.values()}) > 10
    assert not any((weights == 0).any() for weights in made.weights.values())


def test_weights_do_not_move_before_exploration() -> None:
    made = sampler()
    for k in range(3):
        told(made, k)
    assert not any(weights.any() for weights in made.weights.values())


def test_without_exploration_the_first_draws_are_uniform() -> None:
    made = sampler((31,) * 1000, uniform_epochs=0, exploration_epochs=0)
    counts = np.bincount([pick.window[0] for pick in made.epoch(0) if pick.window], minlength=16)
    assert counts.min() > 30
    told(made, 0)
    assert all(weights.any() for weights in made.weights.values())


def test_a_place_that_an_epoch_missed_gets_the_mean_of_those_explored() -> None:
    made = sampler((80, 40))
    for k in range(8):
        told(made, k, 5.0, without=["c0"] if k in (4, 6) else [])
    seen = [start for place, start in enumerate(places(65, 5)) if made.seen["c0"] >> place & 1]
    assert len(seen) == 3
    weights = made.weights["c0"]
    there = np.abs(np.arange(65)[:, None] - np.array(seen)).min(1) <= reach(65, 5)
    assert 0 < (~there).sum() < 65
    np.testing.assert_allclose(weights[~there], weights[seen].mean(), rtol=1e-6)
    np.testing.assert_allclose(weights[seen], 5 * np.sin(np.array(seen) + 0.5), rtol=1e-6)
    whole = sampler((80, 40))
    for k in range(8):
        told(whole, k, 5.0)
    np.testing.assert_array_equal(made.weights["c1"], whole.weights["c1"])


def test_a_score_that_is_no_number_moves_nothing() -> None:
    made = sampler((80,), uniform_epochs=0, exploration_epochs=0)
    made.observe(made.epoch(0), np.array([np.nan], np.float32))
    assert not made.weights["c0"].any()
    assert made.epochs == 1


def test_epochs_can_be_asked_again_and_depend_on_nothing_else() -> None:
    made = sampler()
    for k in range(12):
        assert made.epoch(k) == made.epoch(k)
        told(made, k)
    other = StochasticSoftmax(3, clips()[::-1], span=SPAN)
    other.load_state_dict(json.loads(json.dumps(made.state_dict())))
    assert other.epoch(12) == made.epoch(12)
    told(made, 12)
    told(other, 12)
    assert json.dumps(other.state_dict()) == json.dumps(made.state_dict())


@pytest.mark.parametrize("gone_on", range(12))
def test_a_state_goes_on_in_any_epoch_to_the_same_bytes(gone_on: int) -> None:
    straight = sampler()
    for k in range(12):
        if k == gone_on:
            state = json.dumps(straight.state_dict())
        told(straight, k)
    again = sampler()
    again.load_state_dict(json.loads(state))
    for k in range(gone_on, 12):
        told(again, k)
    assert json.dumps(again.state_dict()) == json.dumps(straight.state_dict())
    assert all(weights.dtype == np.float32 for weights in again.weights.values())


@pytest.mark.parametrize("lengths", [(80, 40, 18, 16), (80, 40, 18, 16, 5, 5), (80, 41, 18, 16, 5)])
def test_a_state_of_another_store_is_named(lengths: Sequence[int]) -> None:
    with pytest.raises(DataError, match=r"of another store or of other windows: 1 clips differ, the first is c\d"):
        sampler(lengths).load_state_dict(sampler().state_dict())


@pytest.mark.parametrize("change", [{"weights": "AAAA"}, {"weights": "%"}, {"seen": [1]}, {"epochs": None}])
def test_a_state_that_does_not_hold_together_is_refused(change: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        sampler().load_state_dict({**sampler().state_dict(), **change})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"uniform_epochs": -1}, "give a whole number"),
        ({"exploration_epochs": 2.5}, "give a whole number"),
        ({"exploration_epochs": True}, "give a whole number"),
        ({"exploration_epochs": 1_000_000_000}, "exploration_epochs is 1000000000: give at most 1000"),
        ({"gamma": "high"}, "could not convert"),
        ({"gamma": True}, "gamma is True: give a number"),
        ({"gamma": 10**400}, "gamma is too large: give inf"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        sampler(**options)


@pytest.mark.parametrize("gamma", [-0.1, float("nan")])
def test_a_negative_gamma_is_refused(gamma: float) -> None:
    with pytest.raises(ConfigError, match="gamma is"):
        sampler(gamma=gamma)


def test_the_phases_are_those_of_the_schedule() -> None:
    made = sampler(uniform_epochs=1, exploration_epochs=2)
    assert [made._phase(k) for k in range(5)] == [
        Phase.UNIFORM, Phase.EXPLORATION, Phase.EXPLORATION, Phase.SOFTMAX, Phase.SOFTMAX,
    ]  # fmt: skip


# ------------------------------------------------ the estimate


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, float("inf")])
def test_the_expectation_of_the_drawn_score_is_the_pooled_one(gamma: float) -> None:
    """By enumeration: of the true class it is, of the others it is not."""
    scores = np.random.default_rng(1).normal(0, 2, (65, 4))
    scores[7, 2] = scores[:, 2].max()  # two that are equal
    chance = probabilities(scores[:, 2], gamma)
    assert chance.sum() == pytest.approx(1, abs=1e-14)
    expected, z = chance @ scores, pooled(scores, gamma)
    assert expected[2] == pytest.approx(z[2], abs=1e-13)
    others = np.abs(expected - z)[[0, 1, 3]]
    assert (others < 1e-12).all() if gamma == 0 else (others > 0.05).all()


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_draws_estimate_the_pooled_score(gamma: float) -> None:
    """By Monte Carlo, through the sampler: 40,000 draws of one epoch, whose weights are the scores."""
    scores = np.random.default_rng(2).normal(0, 2, 65).astype(np.float32)
    made = StochasticSoftmax(5, clips((80,) * 40_000), span=SPAN, gamma=gamma, uniform_epochs=0, exploration_epochs=0)
    made.weights = dict.fromkeys(made.weights, scores)
    starts = [pick.window[0] for pick in made.epoch(0) if pick.window]
    chance, z = probabilities(scores, gamma), pooled(scores[:, None], gamma)[0]
    deviation = np.sqrt((chance * (scores - z) ** 2).sum() / len(starts))
    assert abs(scores[starts].mean() - z) < 4 * deviation
    assert deviation < 0.02
    counts = np.bincount(starts, minlength=65) / len(starts)
    assert np.abs(counts - chance).max() < 5 * np.sqrt(chance.max() / len(starts))
