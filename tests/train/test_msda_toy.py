"""What adaptation is worth to a new person who is shifted, on features of clips; bench/msda_toy.py has all.

It shows that the discrepancy mends shifts where it has a gradient, and nothing about real data.
"""

from pathlib import Path
from statistics import mean

import pytest

SEEDS = range(3)


@pytest.mark.slow
def test_with_a_gradient_a_shift_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    import msda_toy as toy

    for name in ("STEPS", "EPOCHS"):
        monkeypatch.setattr(toy, name, getattr(toy, name) // 2)
    ways = toy.SOURCES, toy.RELEASED, toy.GRADIENT
    found = [toy.of_seed(toy.WORLDS["12 people, shift 6"], seed, ways) for seed in SEEDS]
    alone, released, mended = (mean(one[way] for one in found) for way in ways)
    assert mended > alone
    assert mended > released
