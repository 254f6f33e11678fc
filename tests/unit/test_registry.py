import logging
from pathlib import Path

import pytest

from mmadfer.config.plug_ins import of_config
from mmadfer.config.samplers import SAMPLERS
from mmadfer.config.schema import parse
from mmadfer.data.sets import DATA_SETS, table
from mmadfer.errors import ConfigError, DataError
from mmadfer.tasks.tables import TASKS
from mmadfer.utils.registry import PlugInError, Registry


def install(folder: Path, name: str, points: str) -> None:
    """A package with these entry points."""
    info = folder / f"{name}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(points)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """One part of our own, and two of an installed package, of which one takes our name."""
    install(tmp_path, "gates", "[mmadfer.tests]\ngated = gates:Gated\npath = gates:Gated\n")
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


def test_a_package_that_takes_our_name_is_told_of_once(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mmadfer"):
        assert registry.load("path") is Path
        assert registry.names() == ["path", "gated"]
    assert [record.getMessage() for record in caplog.records] == [
        "test part 'path' of gates 1.5 is not used: mmadfer has its own"
    ]


def test_a_name_of_two_packages_is_refused_where_it_is_used(registry: Registry, tmp_path: Path) -> None:
    install(tmp_path, "doors", "[mmadfer.tests]\ngated = doors:Gated\nshut = gates:Gated\n")
    with pytest.raises(PlugInError, match=r"test part 'gated' is there several times, of doors 1\.5 and gates 1\.5"):
        registry.load("gated")
    assert registry.load("shut").__name__ == "Gated"


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with a task, a set of data and a sampler, of which only the last one is there."""
    groups = {"tasks": "no_such_module:SPEC", "data_sets": "no_such_module:table", "samplers": "pathlib:Path"}
    points = "".join(f"[mmadfer.{group}]\nodd = {place}\n" for group, place in groups.items())
    points += "[mmadfer.tasks]\nnamed = mmadfer.tasks.classification:CLASSIFICATION\n"
    install(tmp_path, "gates", points)
    monkeypatch.syspath_prepend(tmp_path)
    for known in (TASKS, DATA_SETS, SAMPLERS):
        monkeypatch.delitem(known.__dict__, "plug_ins", raising=False)


@pytest.mark.usefixtures("_installed")
def test_a_package_that_does_not_load_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"task 'odd' of gates 1\.5 does not load: ModuleNotFoundError: .*no_such_mod"
    ):
        parse({"name": "x", "task": {"name": "odd"}}, "the test")
    with pytest.raises(DataError, match=r"data set 'odd' of gates 1\.5 does not load: ModuleNotFoundError"):
        table("odd", Path())


@pytest.mark.usefixtures("_installed")
def test_tasks_and_samplers_of_packages_are_told_in_run_json() -> None:
    config = parse({"name": "x", "task": {"name": "named"}, "data": {"sampler": "odd"}}, "the test")
    assert of_config(config) == {"task.name: named": "gates 1.5", "data.sampler: odd": "gates 1.5"}
