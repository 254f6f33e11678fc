"""That tests which lack something are not silently left out where everything must be there."""

import numpy
import pytest
from needs import FLAG, needed


def test_what_is_there_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FLAG, "1")
    assert needed("numpy") is numpy


@pytest.mark.parametrize(("flag", "outcome"), [("", "Skipped"), ("0", "Skipped"), ("1", "Failed")])
def test_what_is_not_there_skips_or_fails(flag: str, outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FLAG, flag)
    with pytest.raises((pytest.skip.Exception, pytest.fail.Exception), match="no module_of_nobody") as caught:
        needed("module_of_nobody")
    assert caught.type.__name__ == outcome
