"""A small part of what `fuzz_media.py` and `fuzz_lists.py` run as programs."""

import sys
from pathlib import Path

import fuzz_lists
import pytest
from fuzz_media import run
from mutations import KINDS, make
from odd_media import make_bases

COUNT = 40


@pytest.mark.skipif(sys.platform != "linux", reason="memory and permissions are watched as Linux has them")
def test_no_mutation_crashes_or_hangs_and_each_has_its_entry() -> None:
    result = run(COUNT, seed=0)
    assert result["faults"] == []
    assert sum(sum(counts.values()) for counts in result["outcomes"].values()) == COUNT
    assert all(result["outcomes"][kind] for kind in KINDS)


def test_mutations_depend_on_seed_and_number_alone(tmp_path: Path) -> None:
    for name in ("bases", "one", "two", "other"):
        (tmp_path / name).mkdir()
    make_bases(tmp_path / "bases")
    for number in range(9):
        kind, clip = make(7, number, tmp_path / "bases", tmp_path / "one")
        again, twin = make(7, number, tmp_path / "bases", tmp_path / "two")
        _, other = make(8, number, tmp_path / "bases", tmp_path / "other")
        assert (kind, clip.media.read_bytes()) == (again, twin.media.read_bytes())
        assert clip.media.read_bytes() != other.media.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="an alarm ends what hangs")
def test_damaged_lists_give_a_table_or_an_error_with_a_name() -> None:
    outcomes, faults = fuzz_lists.run(120, seed=0)
    assert faults == []
    assert {outcome.partition(": ")[2] for outcome in outcomes} == {"table", "error"}
    assert outcomes.total() == 120
