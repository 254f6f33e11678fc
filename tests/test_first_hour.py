"""The commands and the Python of docs/first_hour.md, in their order, as they stand there; on fewer toy videos."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from mmadfer.data.sets import toy

PAGE = Path(__file__).parents[1] / "docs" / "first_hour.md"
pytestmark = pytest.mark.slow


def blocks() -> Iterator[tuple[str, str]]:
    """Language and text of each block that no comment before it calls not run."""
    run = True
    for token in MarkdownIt("commonmark").enable("table").parse(PAGE.read_text(encoding="utf-8")):
        if token.type == "html_block":
            run = "not run here" not in token.content
        elif token.type in ("fence", "code_block"):
            if run:
                yield token.info, token.content
            run = True


def test_every_command_of_the_first_hour_works(tmp_path: Path) -> None:
    toy.make(tmp_path / "toy", clips_per_class=4, jobs=2)  # else `prepare toy` makes 200
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran = list[str]()
    for language, text in blocks():
        command = [sys.executable, "-c", text] if language == "python" else ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500, check=False
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        ran += text.split("\n")
    assert sum(line.startswith("mmadfer ") for line in ran) == 8
    for name in ("sheet.html", "run/report/report.html", "model.onnx", "happy.json", "happy.mp4", "happy.png"):
        assert (tmp_path / name).stat().st_size > 1000 or name == "happy.json"
