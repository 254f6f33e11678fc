"""What a package index shows of the package: its description stands alone, and names every extra."""

import re
import tomllib
from pathlib import Path

from docs_reader import read
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PAGE = ROOT / PROJECT["readme"]


def test_the_description_leads_to_no_file_of_the_tree() -> None:
    links = read(PAGE).links
    assert links
    assert [link for link in links if not link.startswith("https://")] == []
    assert "![" not in PAGE.read_text()


def test_every_extra_is_described() -> None:
    rows = [line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    described = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert sorted(described) == sorted(set(PROJECT["optional-dependencies"]) - {"dev"})


def test_each_flavour_of_tensorrt_is_its_own_extra() -> None:
    packages = {
        extra: {Requirement(line).name for line in PROJECT["optional-dependencies"][extra]}
        for extra in ("tensorrt", "tensorrt-rtx")
    }
    assert packages["tensorrt"] == {"cuda-bindings", "tensorrt-cu13"}
    assert packages["tensorrt-rtx"] == {"cuda-bindings", "tensorrt-rtx-cu13"}
