"""Every link, command, option, file, key and name in README.md and docs/*.md is there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import typer
import yaml
from docs_reader import PAGES, ROOT, Page, commands, read

import mmadfer
from mmadfer.cli.main import app
from mmadfer.config.nearest import dotted
from mmadfer.config.schema import Config, parse
from mmadfer.config.sweep import SweepTable

COMMAND: Any = typer.main.get_command(app)
KEYS = set(dotted(Config))
MADE = {"repo/client.py"}
"""Scripts that a command writes."""
FILE = re.compile(r"\.(onnx|engine|safetensors|json|py|store|pth|plan|sig)$")
"""The end of what looks like a key and is a file."""
PLACES = ("mmadfer", "tests", "docs", "launch", "export", "bench", "release", "slurm")
pages = pytest.mark.parametrize("page", [read(path) for path in PAGES], ids=lambda page: page.name)


@pages
def test_every_link_leads_somewhere(page: Page) -> None:
    for link in page.links:
        place, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            assert re.match(r"(https|mailto):", link), f"{page.name}: {link} is no https link"
            continue
        path = (page.path.parent / place).resolve() if place else page.path
        assert path.exists(), f"{page.name}: {link} leads to no file"
        assert path.is_relative_to(ROOT), f"{page.name}: {link} leads out of the tree"
        assert not anchor or anchor in read(path).anchors, f"{page.name}: {link}: no such heading in {path.name}"


@pages
def test_every_command_is_there(page: Page) -> None:
    for code in page.codes:
        for words in commands(code):
            for problem in _problems(words):
                pytest.fail(f"{page.name}: `{' '.join(words)}`: {problem}")


def _problems(words: list[str]) -> Iterator[str]:
    """What is wrong with a command; nothing is known of those that are not ours."""
    first, rest = words[0].removeprefix(".venv/bin/"), words[1:]
    if first == "mmadfer":
        yield from _unknown(COMMAND, rest)
    elif first == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
        yield from (f"no target {word}" for word in rest if re.fullmatch(r"[a-z-]+", word) and word not in targets)
    elif first in ("python", "python3") and rest and rest[0].endswith(".py"):
        yield from _script(rest[0], rest[1:])
    elif first == "pytest" or (first in ("python", "python3") and rest[:2] == ["-m", "pytest"]):
        yield from (f"no file {word}" for word in rest if word.startswith("tests/") and not (ROOT / word).exists())
    elif first.partition("/")[0] in PLACES and "/" in first and not list(ROOT.glob(first)):
        yield f"no file {first}"


def _script(name: str, words: list[str]) -> Iterator[str]:
    path = ROOT / name
    if name in MADE:
        return
    if not path.is_file():
        yield f"no file {name}"
    elif same := re.search(r"run\(app, \[(.*), \*sys", path.read_text()):
        yield from _unknown(COMMAND, [*ast.literal_eval(f"[{same[1]}]"), *words])
    else:
        source = "".join(file.read_text() for file in path.parent.glob("*.py"))
        yield from (f"no option {word}" for word in words if word.startswith("--") and f'"{word}"' not in source)


def _unknown(command: Any, words: list[str]) -> Iterator[str]:
    """Subcommands, options, their fixed values and configuration keys that are not there."""
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        choices = words[0].split("|")
        if known := [name for name in choices if name in command.commands]:
            yield from (f"no command {name}" for name in choices if name not in known)
            command, words = command.commands[known[0]], words[1:]
        elif "CONFIG" in command.commands:  # `launch CONFIG`
            command = command.commands["CONFIG"]
        else:
            yield f"no command {words[0]}"
            return
    if hasattr(command, "commands") and "CONFIG" in command.commands:  # `launch --estimate`
        command = command.commands["CONFIG"]
    options = {name: option for option in command.params for name in (*option.opts, *option.secondary_opts)}
    values = [re.sub(r"^\[(?=--)|(?<=\w)\]$", "", word) for word in words]
    for word, value in zip(values, [*values[1:], ""], strict=False):
        name, _, own = word.partition("=")
        if name.startswith("-") and name not in (*options, "--help", "-"):
            yield f"no option {name}"
        elif name == "--set":
            yield from _key(own or value)
        elif name in options and (fixed := _fixed(options[name])) and not value.isupper():
            yield from (f"{name} is never {one}" for one in value.split("|") if one not in fixed)


def _fixed(option: Any) -> list[str]:
    """The only values that an option takes, if they are fixed."""
    kind = option.type_descriptor.annotation
    return [str(value) for value in get_args(kind)] if get_origin(kind) is Literal else []


def _key(text: str) -> Iterator[str]:
    key = text.partition("=")[0]
    if key not in KEYS:
        yield f"no configuration key {key}"


@pages
def test_every_key_in_the_text_is_one(page: Page) -> None:
    if page.name == "CHANGELOG.md":
        pytest.skip("it names keys of before")
    for code in page.codes:
        found = re.fullmatch(r"((?:prepare|data|model|train)(?:\.[a-z_]+)+)(?:[=: ].*)?", code.text)
        if code.inline and found and not FILE.search(found[1]):
            assert found[1] in KEYS, f"{page.name}: no configuration key {found[1]}"


@pages
def test_every_file_in_the_text_is_there(page: Page) -> None:
    file, folder = r"[a-z_]+/[\w./-]+\.(py|sh|yaml|npz|sbatch)", rf"({'|'.join(PLACES)})/[\w/-]*"
    for code in page.codes:
        if code.inline and re.fullmatch(f"{file}|{folder}", code.text) and code.text not in MADE:
            there = [ROOT / code.text, page.path.parent / code.text]
            assert any(path.exists() for path in there), f"{page.name}: no file {code.text}"


@pages
def test_every_configuration_in_the_text_is_valid(page: Page) -> None:
    """Those that are files are read in tests/extending, with the parts that they name."""
    for code in page.codes:
        if (
            code.inline
            or code.file
            or code.language not in ("", "yaml")
            or not re.match(r"(name|base|model|data|train|rows):", code.text)
        ):
            continue
        tree = yaml.safe_load(code.text.partition("\n\n")[0])  # commands may follow
        if "rows" in tree:
            SweepTable.model_validate(tree)
            for row in tree["rows"].values():
                assert set(row) <= KEYS, f"{page.name}: {row}"
        else:
            parse({"name": "x", **{key: value for key, value in tree.items() if key != "base"}}, page.name)


@pages
def test_every_name_of_the_package_in_python_code_is_there(page: Page) -> None:
    for code in page.codes:
        for node in ast.walk(ast.parse(code.text)) if code.language == "python" else ():
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "mmadfer":
                assert hasattr(mmadfer, node.attr), f"{page.name}: no mmadfer.{node.attr}"
            elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mmadfer"):
                module = __import__(node.module, fromlist=["x"])
                assert all(hasattr(module, name.name) for name in node.names), f"{page.name}: {ast.unparse(node)}"


WRONG = {
    "mmadfer lunch dfew_160": "no command lunch",
    "mmadfer launch dfew_160 --fold 1": "no option --fold",
    "mmadfer launch status|stop RUN": "no command stop",
    "mmadfer train demo --set train.lrr=1": "no configuration key train.lrr",
    "mmadfer prepare folder --root a --out b --device gpu": "--device is never gpu",
    "MMADFER_NEED=1 make tests": "no target tests",
    "python export/to_onyx.py": "no file export/to_onyx.py",
    "python launch/sweep.py table4 --rows 3": "no option --rows",
    "python bench/loader.py --repeat 4": "no option --repeat",
    ".venv/bin/python -m pytest tests/gpus": "no file tests/gpus",
    "a=1; cd x && slurm/cluster/upp.sh": "no file slurm/cluster/upp.sh",
}


@pytest.mark.parametrize(("line", "problem"), WRONG.items(), ids=WRONG.keys())
def test_a_wrong_command_would_be_seen(line: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"# Page\n\nText.\n\n    {line}\n")
    (code,) = read(path).codes
    assert [found for words in commands(code) for found in _problems(words)] == [problem]


def test_anchors_and_links_are_read(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("# What `make` does, and why\n\n## Same\n\n## Same\n\n[a](b.md#c) `[no](link.md)`\n")
    page = read(path)
    assert page.anchors == {"what-make-does-and-why", "same", "same-1"}
    assert page.links == ["b.md#c"]
