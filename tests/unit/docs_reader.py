"""README.md and docs/*.md as a test reads them: headings, links, code, and the commands in it."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob(".github/*.md"), ROOT / "slurm/cluster/README.md"]
)
ENDS = {"|", "||", "&&", "&", ";", "(", ")", "$("}
"""What stands between two commands in a line."""


@dataclass(frozen=True)
class Code:
    """A block of code, or code within a line."""

    text: str
    language: str = ""
    inline: bool = False
    file: str = ""
    """The word after the language: the file that the code is, where a reader is to write one."""


@dataclass(frozen=True)
class Page:
    """What a page has."""

    path: Path
    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    codes: list[Code] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))


def read(path: Path) -> Page:
    page = Page(path)
    tokens = MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))
    for token, following in zip(tokens, [*tokens[1:], Token("", "", 0)], strict=False):
        if token.type in ("fence", "code_block"):
            language, _, file = token.info.partition(" ")
            page.codes.append(Code(token.content, language, file=file))
        elif token.type == "heading_open":
            page.anchors.add(_anchor(following, page.anchors))
        for part in token.children or ():
            if part.type == "code_inline":
                page.codes.append(Code(part.content, inline=True))
            elif part.type == "link_open":
                page.links.append(str(part.attrs["href"]))
    return page


def _anchor(heading: Token, taken: set[str]) -> str:
    """As GitHub makes it of a heading: small letters, no punctuation, blanks are hyphens."""
    text = "".join(part.content for part in heading.children or () if part.type in ("text", "code_inline"))
    name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
    return next(f"{name}{end}" for end in ("", *(f"-{n}" for n in range(1, 99))) if f"{name}{end}" not in taken)


def commands(code: Code) -> Iterator[list[str]]:
    """The words of every command in code that a shell would run."""
    if code.language not in ("", "sh", "bash", "console"):
        return
    for line in re.sub(r"\\\n\s*", " ", code.text).splitlines():
        try:
            lexer = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars="();&")
            lexer.whitespace_split, lexer.commenters = True, "#"
            yield from _split(list(lexer))
        except ValueError:  # a quotation mark in prose: no command
            continue


def _split(words: list[str]) -> Iterator[list[str]]:
    command: list[str] = []
    for word in [*words, ";"]:
        if word in ENDS or word.endswith("=$"):
            if command:
                yield command
            command = []
        elif command or not re.fullmatch(r"[A-Z_]+=.*", word):  # a variable before the command
            command.append(word)
