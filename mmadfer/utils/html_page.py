"""Pages from the templates in `mmadfer/templates`: one column on a phone, light or dark; they fetch nothing.

They run nothing either, but for a script of ours that a page's policy names by its hash.
"""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import Any

import jinja2


def render_page(template: str, **values: Any) -> str:
    """A page; whatever `values` say is escaped, but for drawings of ours, which templates mark as `safe`.

    Raises:
        jinja2.UndefinedError: the template names what is not among them.
    """
    return _templates().get_template(template).render(**values)


def read_template(name: str) -> str:
    """A template as it is, such as a script."""
    return resources.files("mmadfer").joinpath("templates", name).read_text(encoding="utf-8")


def script_hash(script: str) -> str:
    """What a page's policy says of the one script that may run in it: a source expression of CSP."""
    return f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"


def jpeg_address(jpeg: bytes) -> str:
    """A picture as a `data:` address."""
    return f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("mmadfer"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_sayable,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _sayable(value: Any) -> Any:
    """What UTF-8 cannot say, as in odd file names, as `\\x..`."""
    return value if hasattr(value, "__html__") else str(value).encode("utf-8", "backslashreplace").decode()
