"""That tests which lack something are not silently left out where everything must be there."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from needs import FLAG, installed, needed

SETUPTOOLS_LATER = """
import _distutils_hack, sys
_distutils_hack.add_shim()  # as every start of Python does in an environment with setuptools
sys.path.append(sys.argv[1])
from needs import installed
installed("pip", "setuptools")
assert "pip" not in sys.modules
import setuptools
"""


def test_what_is_there_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FLAG, "1")
    assert needed("numpy") is numpy


@pytest.mark.parametrize("look", [needed, installed])
@pytest.mark.parametrize(("flag", "outcome"), [("", "Skipped"), ("0", "Skipped"), ("1", "Failed")])
def test_what_is_not_there_skips_or_fails(
    flag: str, outcome: str, look: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FLAG, flag)
    with pytest.raises((pytest.skip.Exception, pytest.fail.Exception), match="no module_of_nobody") as caught:
        look("module_of_nobody")
    assert caught.type.__name__ == outcome


def test_pip_is_looked_for_and_setuptools_can_be_imported_later() -> None:
    installed("pip", "setuptools")
    command = [sys.executable, "-c", SETUPTOOLS_LATER, str(Path(__file__).parents[1])]
    process = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr
