"""What a teacher of privileged sound is worth to a student of frames, on features of clips; bench/pkdot_toy.py has all.

It shows that the loss does its work, and nothing about real data: a shuffled teacher is worth something, too.
"""

from pathlib import Path
from statistics import mean

import pytest

SEEDS = range(8)


@pytest.mark.slow
def test_transport_is_worth_more_than_labels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    from pkdot_toy import PLAIN, TEACHER, of_seed

    found = [dict(of_seed(seed, ["pkdot, lowest"])) for seed in SEEDS]
    plain, taught, teacher = (mean(one[row] for one in found) for row in (PLAIN, "pkdot, lowest", TEACHER))
    assert plain < taught < teacher
