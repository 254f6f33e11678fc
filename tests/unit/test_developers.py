"""What developers start with: hooks, templates, and the plan of rooms."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
pre_commit = pytest.mark.skipif(
    not (shutil.which("git") and (Path(sys.executable).parent / "pre-commit").exists()), reason="pre-commit is missing"
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small repository with our hooks and rules, whose .venv is this one."""
    for name in (".pre-commit-config.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    (tmp_path / "mmadfer").mkdir()
    (tmp_path / "mmadfer" / "__init__.py").write_text('"""Ours."""\n')
    (tmp_path / ".gitignore").write_text(".venv\nhome\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def hook(checkout: Path, name: str) -> subprocess.CompletedProcess[str]:
    subprocess.run(["git", "add", "-A"], cwd=checkout, check=True)
    offline = {**os.environ, "PRE_COMMIT_HOME": str(checkout / "home"), "http_proxy": "http://127.0.0.1:9"}
    command = [str(Path(sys.executable).parent / "pre-commit"), "run", name, "--all-files"]
    return subprocess.run(command, cwd=checkout, env=offline, capture_output=True, text=True, check=False)


@pre_commit
def test_hooks_mend_and_refuse(checkout: Path) -> None:
    good, ugly, wrong = (checkout / "mmadfer" / f"{name}.py" for name in ("good", "ugly", "wrong"))
    good.write_text('"""Fine."""\n\nONE = 1\n')
    for name in ("ruff", "ruff-format"):
        done = hook(checkout, name)
        assert done.returncode == 0, done.stdout + done.stderr
    ugly.write_text('"""Fine."""\nTWO = { "a":2 }\n')
    assert hook(checkout, "ruff-format").returncode == 1
    assert ugly.read_text() == '"""Fine."""\n\nTWO = {"a": 2}\n'
    wrong.write_text('"""Fine."""\n\nTHREE = undefined\n')
    done = hook(checkout, "ruff")
    assert done.returncode == 1
    assert "F821" in done.stdout


def test_hooks_are_those_of_make_lint() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in config["repos"]] == ["local"]  # nothing is fetched
    hooks = {hook["id"]: hook for hook in config["repos"][0]["hooks"]}
    assert set(hooks) == {"ruff", "ruff-format", "mypy", "import-linter"}
    assert all(hook["language"] == "system" and hook["entry"].startswith(".venv/bin/") for hook in hooks.values())
    makefile = (ROOT / "Makefile").read_text()
    for words in ("mypy mmadfer launch export", "ruff check", "ruff format", "lint-imports --no-cache"):
        assert words in makefile
        assert any(words in hook["entry"] for hook in hooks.values())


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_templates_are_forms_as_github_reads_them(path: Path) -> None:
    tree = yaml.safe_load(path.read_text())
    if path.stem == "config":
        assert set(tree) <= {"blank_issues_enabled", "contact_links"}
        return
    assert {"name", "description", "body"} <= set(tree)
    ids = [part["id"] for part in tree["body"] if part["type"] != "markdown"]
    assert len(ids) == len(set(ids)) > 0
    for part in tree["body"]:
        assert part["type"] in ("textarea", "input", "dropdown", "checkboxes", "markdown")
        assert part["attributes"].get("label" if part["type"] != "markdown" else "value")


def test_there_is_a_template_of_each_kind() -> None:
    assert {"bug", "feature", "data_set"} <= {path.stem for path in TEMPLATES}
    assert (ROOT / ".github" / "pull_request_template.md").is_file()


def test_the_plan_of_rooms_is_that_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one["type"] == "layers")
    rooms = [name.strip() for layer in layers for name in layer.split("|")]
    text = (ROOT / "docs" / "architecture.md").read_text().partition("## The way")[0]
    assert re.findall(r"^\| `(\w+)` \|", text, re.M) == rooms


def test_the_changelog_has_the_version_that_the_package_has() -> None:
    from mmadfer.version import VERSION

    heads = re.findall(r"^## \[(.+)\] - (unreleased|\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert heads[0][0] == VERSION
