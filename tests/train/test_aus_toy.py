"""Attention is drawn to action units that are moved by hand, on faces that were not trained on."""

from pathlib import Path

import pytest
import torch


@pytest.mark.slow
def test_attention_comes_nearer_to_the_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps are enough for it, but not to learn the classes; bench/aus_toy.py tells of these."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    from aus_toy import make_store, outcome, views_of_set

    torch.set_num_threads(1)
    trained, tested = views_of_set(make_store(tmp_path, clips_per_class=8))
    assert len(trained.labels) == 4 * 30
    assert len(tested.labels) == 10
    assert tested.valid.float().mean() == 0.8, "neutral has no map"
    plain, aligned = (outcome(trained, tested, 1, weight, "last", 60) for weight in (0.0, 9.0))
    assert aligned.cosine > plain.cosine + 0.1
