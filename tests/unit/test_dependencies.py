"""Every package that the code imports is declared in pyproject.toml, and every file of the package is installed."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

import mmadfer
from mmadfer.run import code_snapshot

ROOT = Path(mmadfer.__file__).parent
NO_PACKAGE = {"triton_python_backend_utils"}
"""Modules that a program brings along: Triton's, in its Python backend."""
OF = {
    "nvidia": {"nvidia-dali-cuda130"},
    "onnxruntime": {"onnxruntime"},
    "parselmouth": {"praat-parselmouth"},
    "tensorrt_rtx": {"tensorrt-rtx-cu13"},
}
"""Packages of names that several packages share, that need not be installed here, or that do not say their names."""


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [str(node.module)]
        elif isinstance(node, ast.Call) and re.search(r"\b(need|import_module|find_spec)$", ast.unparse(node.func)):
            names = [str(given.value) for given in node.args[:1] if isinstance(given, ast.Constant)]
        yield from (name.partition(".")[0] for name in names)


def _third_party() -> dict[str, set[str]]:
    own = {"mmadfer", *sys.stdlib_module_names, *NO_PACKAGE}
    found = dict[str, set[str]]()
    for path in ROOT.rglob("*.py"):
        for name in set(_imported(path)) - own:
            found.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    return found


def _settings() -> dict[str, Any]:
    file = ROOT.parent / "pyproject.toml"
    if not file.is_file():
        pytest.skip("installed without its folder")
    return tomllib.loads(file.read_text())


def _declared() -> set[str]:
    project = _settings()["project"]
    extras = {key: value for key, value in project["optional-dependencies"].items() if key != "dev"}
    lines = [*project["dependencies"], *(line for extra in extras.values() for line in extra)]
    return {re.split(r"[\[<>=; ]", line)[0].lower() for line in lines}


def test_what_is_imported_is_declared() -> None:
    of, declared = packages_distributions(), _declared()
    missing = {
        name: where
        for name, where in _third_party().items()
        if not {one.lower().replace("_", "-") for one in OF.get(name, of.get(name, []))} & declared
    }
    assert not missing


def test_libraries_of_which_we_use_more_than_is_documented_have_an_upper_bound() -> None:
    project = _settings()["project"]
    lines = [line for extra in project["optional-dependencies"].values() for line in extra]
    for name in ("deepspeed", "submitit", "torch"):
        assert [line for line in lines if line.startswith(f"{name}>=") and ",<" in line], name


def test_imports_are_found() -> None:
    found = _third_party()
    assert {"numpy", "torch", "deepspeed", "submitit", "psutil", "onnx", "av"} <= set(found)


def test_every_file_of_the_package_is_installed_and_in_the_copies_that_runs_keep() -> None:
    patterns = _settings()["tool"]["setuptools"]["package-data"]["mmadfer"]
    files = {path for path in ROOT.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert {path.name for path in files} > {"report.html", "page.css"}
    assert files == {path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}
    copied = code_snapshot.sources().values()
    assert {path.name for path in files if path not in copied} == {"LICENSE"}
