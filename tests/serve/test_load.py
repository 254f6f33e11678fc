"""A small form of bench/serve.py: several clients at once, each answer that of a direct prediction, nothing lost."""

from pathlib import Path

import pytest
from needs import needed

needed("uvicorn")
needed("httpx")

PROGRAMS = Path(__file__).parents[2] / "bench"
GROWTH_MB = 200
"""Of the server's memory from round to round, as parts of it are loaded late; a video of 640 x 480 is hundreds more."""


def test_answers_of_a_server_under_load_are_direct_predictions(
    model: Path, video: Path, pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(PROGRAMS))
    import serve

    monkeypatch.setattr(serve, "AFTER_SECONDS", 0.0)
    monkeypatch.setattr(serve, "ALONE", 1)
    found = serve.measured(model, [video, pair], clients=4, requests=12, jobs=2)
    assert list(found) == ["4 clients", "and a slow one", "1 client"]
    assert [one.asked for one in found.values()] == [6, 6, 1]
    assert [(one.lost, one.differ) for one in found.values()] == [(0, 0)] * 3
    afters = [one.memory[2] for one in found.values()]
    assert max(afters) < afters[0] + GROWTH_MB
    assert all(len(one.cells()) == len(serve.HEADS) - 1 for one in found.values())
