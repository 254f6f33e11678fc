"""A hidden apex in long neutral videos: the sampler finds it, and softmax pooling is worth more than the mean."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))


@pytest.mark.slow
def test_the_sampler_finds_the_apex_and_softmax_pooling_beats_the_mean() -> None:
    from tss_toy import outcome

    seeds = (1, 2, 3)
    uniform, found = ([outcome(seed, gamma) for seed in seeds] for gamma in (None, 1.0))
    for one, other in zip(uniform, found, strict=True):
        assert 0.2 < one.hits < 0.3
        assert other.hits >= 0.6
        for each in (one, other):
            mean, soft, _ = each.pools
            assert soft >= mean + 0.05
    assert np.mean([one.hits for one in found]) > 2 * np.mean([one.hits for one in uniform])


def test_gamma_0_draws_evenly_whatever_it_has_learnt() -> None:
    from tss_toy import SPAN, STEPS, sampler_for

    made = sampler_for(1, 0.0)
    for k in range(10):
        picks = made.epoch(k)
        made.observe(picks, np.array([pick.window[0] for pick in picks if pick.window], np.float32))
    starts = [pick.window[0] for k in range(10, 20) for pick in made.epoch(k) if pick.window]
    counts = np.bincount(starts, minlength=STEPS - SPAN + 1)
    assert counts.min() > 30
    assert counts.max() < 100
