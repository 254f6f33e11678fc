"""One stretch of sound flips the sign of what the face says: `jmt` learns it, `sum` and `concat` cannot.

It shows that the joint does its work, and nothing about real data. bench/jmt_toy.py says how clips are made.
"""

from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
STEPS = 200


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_sign_from_another_time(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    from jmt_toy import trained

    plain = {way: trained(way, "values", seed, STEPS) for way in ("sum", "concat")}
    assert max(plain.values()) < 0.4, plain
    assert trained("concat", "values_mlp", seed, STEPS) < 0.4
    assert trained("jmt, tokens", "values", seed, STEPS) > 0.95
