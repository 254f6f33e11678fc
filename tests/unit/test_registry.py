from pathlib import Path

import pytest

from mmadfer.utils.registry import Registry


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """One part of our own, and two of an installed package, of which one takes our name."""
    info = tmp_path / "gates-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gates\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text("[mmadfer.tests]\ngated = gates:Gated\npath = gates:Gated\n")
    (tmp_path / "gates.py").write_text("class Gated: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    return Registry("test part", "mmadfer.tests", {"path": "pathlib:Path"})


def test_parts_are_found_by_name(registry: Registry) -> None:
    assert registry.names() == ["path", "gated"]
    assert registry.load("path") is Path
    assert registry.load("gated").__module__ == "gates"
    assert (registry.source("path"), registry.source("gated")) == (None, "gates 1.5")


def test_an_unknown_name_suggests_the_nearest(registry: Registry) -> None:
    with pytest.raises(ValueError, match=r"no test part 'gatd': did you mean gated\? Known are path, gated, .*tests"):
        registry.check("gatd")
    with pytest.raises(ValueError, match=r"no test part 'x'\. Known are"):
        registry.load("x")
