"""A hub on this machine with an empty cache, and a tiny model with all that is pushed of it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants as settings
import pytest
from hub_server import Hub, serving

sys.path.append(str(Path(__file__).parents[1] / "export"))


@pytest.fixture(scope="session")
def running() -> Iterator[Hub]:
    with serving(Hub()) as hub:
        yield hub


@pytest.fixture
def hub(running: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """An empty hub, which this process and those that it starts ask, with a cache of their own."""
    running.__dict__.update(vars(Hub(address=running.address)))
    cache = tmp_path / "cache"
    for name, value in {"ENDPOINT": running.address, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_XET": True}.items():
        monkeypatch.setattr(settings, name, value)
    monkeypatch.setattr(settings, "HF_HUB_OFFLINE", False)
    places = running.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(settings, "HUGGINGFACE_CO_URL_TEMPLATE", places)
    monkeypatch.setenv("HF_ENDPOINT", running.address)
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    return running
