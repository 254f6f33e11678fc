"""Cards as Markdown, with metadata in front as the Hugging Face hub reads it; what they say of files is escaped."""

import re
from functools import cache
from typing import Any

import jinja2
import yaml

from mmadfer.utils.terminal import shown

_SIGNS = re.compile(r"([\\`*_\[\]|~#$])")
"""What Markdown reads as more than a sign; HTML's are escaped by themselves."""
_EMPTY = re.compile(r"\n{3,}")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def render_card(template: str, metadata: dict[str, Any], **values: Any) -> str:
    """A card: YAML between lines of three dashes, then Markdown.

    Args:
        template: of `mmadfer/templates`.
        metadata: what the hub reads; keys without a value are left out.
        values: what the template names; text of any origin.
    """
    there = {key: value for key, value in metadata.items() if value not in (None, [], "")}
    front = yaml.safe_dump(there, sort_keys=False, allow_unicode=True, width=1000)
    text = _templates().get_template(template).render(**values)
    text = _EMPTY.sub("\n\n", text).rstrip()
    return f"---\n{front}---\n\n{text}\n"


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("mmadfer"),
        autoescape=False,  # by `plain`, for Markdown
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if hasattr(value, "__html__") else plain(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
    )


def plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    marked = _SIGNS.sub(r"\\\1", "".join(_HTML.get(sign, sign) for sign in shown(text)))
    return marked.encode("utf-8", "backslashreplace").decode()
