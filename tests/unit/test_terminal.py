"""Words of strangers on a terminal of any kind: harmless, whole, and in the signs that it has."""

import ast
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.markup import escape
from rich.table import Table
from rich.text import Text

import mmadfer
from mmadfer.utils.console import Console
from mmadfer.utils.terminal import encodable, one_line, shown

PACKAGE = Path(mmadfer.__file__).parent
OWN = {PACKAGE / name for name in ("utils/terminal.py", "utils/console.py", "export/server/client.py")}
"""What may print: the two modules, and a client that runs without mmadfer."""
PRINTS = {"print", "print_exc", "print_exception", "echo", "secho"}
TITLE = "\x1b]0;changed\x1b\\"


def test_nothing_else_prints() -> None:
    files = set(PACKAGE.rglob("*.py")) - OWN
    assert len(files) > 150
    found = [
        f"{path}:{node.lineno}" for path in files for node in ast.walk(ast.parse(path.read_text())) if _prints(node)
    ]
    assert found == []


def _prints(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module in ("rich", "rich.console") and any(one.name in ("Console", "print") for one in node.names)
    if not isinstance(node, ast.Call):
        return False
    words = ast.unparse(node.func).split(".")
    if words == ["track"] and any(isinstance(word, ast.Constant) for word in node.args):  # rich.progress's
        return not any(word.arg == "console" for word in node.keywords)
    own = words[0] in ("self", "console") or words[-2:-1] == ["console"]
    return (words[-1] in PRINTS and not own) or words[:2] in (["sys", "stdout"], ["sys", "stderr"])


@pytest.mark.parametrize(
    "code",
    [
        "print('x')",
        "traceback.print_exc()",
        "from rich.console import Console",
        "typer.echo('x')",
        "track([], 'x')",
        "sys.stderr.write('x')",
    ],
)
def test_the_search_finds(code: str) -> None:
    assert any(map(_prints, ast.walk(ast.parse(code))))


@pytest.mark.parametrize(
    ("text", "there"),
    [
        (f"{TITLE}film.mp4", r"\x1b]0;changed\x1b\film.mp4"),
        ("a\x9b31mb\x7f\x07\r", r"a\x9b31mb\x7f\x07\r"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\u202egpj.exe\u2066", r"\u202egpj.exe\u2066"),
        ("\u2028\udcff", r"\u2028\udcff"),
        ("Zoë 笑 😀 C:\\x1b", "Zoë 笑 😀 C:\\x1b"),
    ],
)
def test_what_is_hidden_is_escaped(text: str, there: str) -> None:
    assert shown(text) == there
    assert one_line(text) == (text == there)
    assert one_line(shown(text))


def test_lines_stay_where_they_are_asked_for() -> None:
    assert shown("a\n\tb\rc\x1b", lines=True) == "a\n\tb\\rc\\x1b"


@pytest.mark.parametrize(
    ("encoding", "there"),
    [("utf-8", "█± …笑é"), (None, "█± …笑é"), ("latin-1", "#± ...\\u7b11é"), ("ascii", "#+/- ...\\u7b11\\xe9")],
)
def test_signs_that_a_terminal_lacks(encoding: str | None, there: str) -> None:
    assert encodable("█± …笑é", encoding) == there


def _lines(console: Console, *what: object) -> list[str]:
    console.print(*what)
    file = console.file
    assert isinstance(file, io.TextIOWrapper)
    file.flush()
    buffer = file.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(file.encoding).splitlines()


def _console(encoding: str, **options: object) -> Console:
    return Console(file=io.TextIOWrapper(io.BytesIO(), encoding), width=80, **options)


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-9", "ascii"])
def test_a_table_stays_even(encoding: str) -> None:
    table = Table("video", "label")
    table.add_row(escape(f"{TITLE}笑[red]"), f"█ [bold]a[/]\x07{' and more' * 9}", style="red")
    table.columns[1].no_wrap, table.columns[1].max_width = True, 40
    lines = _lines(_console(encoding), table)
    assert len({Text(line).cell_len for line in lines}) == 1
    text = "\n".join(lines)
    assert "\\x1b]0;" in text
    assert "[bold]" not in text
    assert not any(sign in text for sign in "\x1b\x07")
    assert ("…" in text, "~" in text) == ((True, False) if encoding == "utf-8" else (False, True))


def test_colours_and_movements_stay_and_those_of_strangers_do_not() -> None:
    console = _console("utf-8", force_terminal=True, color_system="standard")
    (line,) = _lines(console, Text(f"{TITLE}x", style="red"))
    assert line == f"\x1b[31m{shown(TITLE)}x\x1b[0m"


def test_names_are_no_markup_and_no_pictures() -> None:
    assert _lines(_console("utf-8"), "runs/[/x] a:boy:") == ["runs/[/x] a:boy:"]


PLAIN = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
WAYS = [PLAIN, {"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "iso-8859-9"}, {"PYTHONIOENCODING": "utf-8"}]
PREDICTION = r"""
from mmadfer.runtime.prediction import Failure, Prediction
from mmadfer.runtime.writers import print_predictions
from mmadfer.errors import DataError
from mmadfer.utils.progress import Meter
shares = {"happy \u7b11": 0.75, "sad": 0.25}
with Meter("predicting \u7b11", 1) as meter:
    meter.step("\x1b[2J")
one = {"start": 0.0, "end": 1.0, "label": "happy \u7b11", "probabilities": shares, "notes": []}
print_predictions([
    Prediction("\u7b11\n\x1b]0;x\udcff.mp4", "happy \u7b11", shares, [one], {}, ["\u7b11 \x1b[2J"]),
    Failure("y.mp4", DataError("y\x1b[2J\nerror: \u7b11.mp4")),
])
"""


@pytest.mark.parametrize("way", WAYS, ids=["C", "latin-1", "turkish", "utf-8"])
def test_predictions_on_any_terminal(way: dict[str, str]) -> None:
    names = "PYTHONUTF8", "PYTHONIOENCODING", "LC_ALL", "LANG", "COLUMNS"
    environ = {name: value for name, value in os.environ.items() if name not in names}
    found = subprocess.run([sys.executable, "-c", PREDICTION], capture_output=True, env={**environ, **way}, check=True)
    text = found.stdout.decode(way.get("PYTHONIOENCODING", "ascii"))
    assert not set("\x1b\r") & set(text + found.stderr.decode("latin-1"))
    assert "75.0%" in text
    assert text.count("error:") == 1
    assert "y\\x1b[2J\\nerror:" in text
    if way.get("PYTHONIOENCODING") == "utf-8":
        assert "████████" in text
        assert "笑\\n\\x1b]0;x\\udcff.mp4" in text
    else:
        assert "########" in text
        assert "\\u7b11\\n\\x1b]0;x\\udcff.mp4" in text


@pytest.mark.parametrize(
    "words",
    [
        ["predict", f"--{TITLE}"],
        ["predict", "x.mp4", "--model", f"{TITLE}\n.onnx"],
        ["train", f"{TITLE}.yaml"],
        ["train", "demo", "--set", f"train.lr={TITLE}"],
        ["train", "demo", "--set", f"train.{TITLE}\u202e=1"],
        ["prepare", "folder", "--root", f"/nowhere/{TITLE}", "--out", "x.store"],
        ["doctor", f"{TITLE}.store"],
        ["report", f"{TITLE}/run"],
        ["launch", "status", f"{TITLE}/run"],
        pytest.param(["export", "onnx", f"{TITLE}/run", "--out", "x.onnx"], marks=pytest.mark.slow),
    ],
)
def test_what_the_command_line_says_of_odd_words(words: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mmadfer", *words]
    found = subprocess.run(command, capture_output=True, cwd=tmp_path, env={**os.environ, **PLAIN}, check=False)
    assert found.returncode == 2
    assert b"Traceback" not in found.stderr
    assert b"\x1b" not in found.stdout + found.stderr
    assert rb"\x1b" in found.stderr


def test_warnings_and_tracebacks_are_harmless() -> None:
    code = (
        "import warnings; from mmadfer.cli import main as cli; "
        "cli.run = lambda app: warnings.warn('\\x1b[2J') or 1 / 0; cli.main()"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.stderr.startswith("warning: \\x1b[2J\nTraceback")
    raised = code.replace("1 / 0", "[][chr(27)]")
    assert "\x1b" not in subprocess.run([sys.executable, "-c", raised], capture_output=True, text=True).stderr  # noqa: PLW1510
