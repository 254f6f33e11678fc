"""What MkDocs does beside reading docs/*.md: pages from the top of the tree, and one of all error messages."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

TOP = Path(__file__).resolve().parents[1]
COPIED = ("SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")
"""Pages that lie at the top of the tree, where code hosts look for them."""
OUTSIDE = re.compile(r"\[([^\]]+)\]\((\.\./)?(?!docs/|[A-Z]+\.md|[a-z]+:|#)([\w.-]+/[\w./-]*|LICENSE)(#[\w-]+)?\)")
"""Links to files that are no pages."""
_WORDS = 4
"""That the fixed text of a message has, at least; a shorter one is told by what it stands in."""


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that do not lie in docs/."""
    for name in COPIED:
        text = (TOP / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, name, content=text))
    files.append(File.generated(config, "messages.md", content=messages_page()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links stay within the site; a file that is no page is named, and not linked."""
    for name in COPIED:
        markdown = markdown.replace(f"](../{name}", f"]({name}")
    return OUTSIDE.sub(r"\1", markdown)


def messages_page() -> str:
    """All messages of the errors of mmadfer.errors, by class and by the module that raises them."""
    found = defaultdict[str, list[tuple[str, str]]](list)
    for path in sorted((TOP / "mmadfer").rglob("*.py")):
        for name, text in messages(path):
            found[name].append((path.relative_to(TOP).as_posix(), text))
    classes = _classes()
    lines = [_INTRODUCTION]
    for name in (name for name in classes if name in found):
        lines += [f"## {name}", "", classes[name], ""]
        lines += [f"- `{text}` ({place})" for place, text in sorted(set(found[name]), key=lambda one: one[1].lower())]
        lines.append("")
    return "\n".join(lines)


_INTRODUCTION = """# Error messages

Every message says what is wrong, where, the rule, and what to do. Here are all of them as the code has them, with the
module that raises each: search for the words that you see. `…` stands for what differs (a file, a number).
[troubleshooting.md](troubleshooting.md) goes by what you see instead.
"""


def _classes() -> dict[str, str]:
    """Class of error -> what its docstring says, in their order."""
    tree = ast.parse((TOP / "mmadfer" / "errors.py").read_text(encoding="utf-8"))
    own = (node for node in tree.body if isinstance(node, ast.ClassDef))
    return {node.name: ast.get_docstring(node) or "" for node in own}


def messages(path: Path) -> Iterator[tuple[str, str]]:
    """Class and text of each error that a module makes; what differs in the text is `…`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            name, text = node.func.id, " ".join(_text(node.args[0]).replace("`", "'").split())
            if name.endswith("Error") and len(re.findall(r"[a-z]{2,}", text)) >= _WORDS:
                yield name, text


def _text(node: ast.AST) -> str:
    """The fixed words of an expression."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_text, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    return "…"
