"""Lowest versions of packages: what is installed keeps to them, and each has been looked at for vulnerabilities."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def required() -> list[Requirement]:
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
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


@pytest.mark.parametrize(
    ("lock", "extras"), {"serve": ["serve"], "page": ["page", "serve", "faces"], "train": ["train", "export"]}.items()
)
def test_locks_have_hashes_and_the_versions_of_the_constraints(lock: str, extras: list[str]) -> None:
    text = (ROOT / f"requirements-{lock}.lock").read_text()
    lines = text.replace("\\\n", " ").splitlines()[1:]
    entries = dict(line.split("==", 1) for line in lines)
    versions, optional = pinned(), PROJECT["optional-dependencies"]
    assert {name: entry.split()[0] for name, entry in entries.items() if name in versions} == {
        name: version for name, version in versions.items() if name in entries
    }
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}(\s|$)", entry) for entry in entries.values())
    needed = [*PROJECT["dependencies"], *(line for extra in extras for line in optional[extra])]
    assert {canonicalize_name(Requirement(line).name) for line in needed} - {"mmadfer"} <= entries.keys()
    assert "://" not in text


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
