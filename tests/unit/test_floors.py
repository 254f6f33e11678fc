"""Lowest versions of packages: what is installed keeps to them, and each has been looked at for vulnerabilities."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def required() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    return [one for one in map(Requirement, lines) if one.name != "mmadfer"]


def pinned() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def test_constraints_keep_to_the_floors() -> None:
    versions = pinned()
    for one in required():
        version = versions.get(canonicalize_name(one.name))
        assert version is None or one.specifier.contains(version), one
    assert {"av", "onnx", "pillow", "torch"} <= versions.keys()


def test_every_floor_stands_in_the_table_of_what_was_looked_at() -> None:
    rows = [
        line.split("|") for line in (ROOT / "docs" / "security.md").read_text().splitlines() if line.startswith("| ")
    ]
    looked = {canonicalize_name(word): row for row in rows for word in row[1].replace(" (FFmpeg)", "").split(", ")}
    looked = {name.strip(): row for name, row in looked.items()}
    for one in required():
        row = looked[canonicalize_name(one.name)]
        floor = next((part.version for part in one.specifier if part.operator == ">="), None)
        now = row[3].strip().strip("*")
        assert now == "as before" or floor in now.split(", "), f"{one} is {now} in docs/security.md"
