"""Only words tell two compound classes apart: sentences and both learn it, and frames alone cannot.

It shows that the whole way works, and nothing about real data. bench/text_toy.py has the table.
"""

from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.slow
def test_only_the_words_tell_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    from text_toy import WAYS, made, trained

    store, epochs = made(tmp_path), {"features": 4, "text": 8, "third modality": 10}
    found = {
        row: trained(tmp_path / row, [f"data.store={store}", "train.seed=0", f"train.epochs={epochs[row]}", *ways])
        for row, ways in WAYS.items()
    }
    assert found["features"] < 0.75, "faces of two classes are the same"
    assert found["text"] > 0.9
    assert found["third modality"] > 0.9
