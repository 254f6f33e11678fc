"""The frame and look of our pages: one column on a phone, light or dark as the reader's device is, nothing fetched."""

from html import escape
from typing import Any

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""A page asks for nothing, and runs nothing."""

CSS = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --dim: #5c6670; --line: #d9dee3; --soft: #f4f6f8;
  --hue: 59, 130, 196; --bad: #b3261e; --bad-soft: #fdecea; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e6e9ec; --dim: #9aa4ad; --line: #333a41;
  --soft: #1d2226; --hue: 88, 160, 226; --bad: #ff8a80; --bad-soft: #3a1c1b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .4rem 0; } .dim, caption, dt { color: var(--dim); } .small { font-size: .86rem; }
.alarm { border: 2px solid var(--bad); background: var(--bad-soft); border-radius: .6rem; padding: .8rem 1rem;
  margin: 1.2rem 0; overflow-wrap: anywhere; }
.alarm strong { color: var(--bad); } .alarm ul { margin: .4rem 0 0; padding-left: 1.2rem; } .bad { color: var(--bad); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; margin: 1.2rem 0; }
.figure { background: var(--soft); border-radius: .6rem; padding: .8rem 1rem; }
.figure b { display: block; font-size: 1.9rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; padding-top: .5rem; font-size: .86rem; }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; } th:first-child, .text { text-align: left; } td.text { white-space: normal; }
tfoot th, tfoot td:not(.dim) { font-weight: 700; }
tfoot th, tfoot td { border-bottom: 0; border-top: 2px solid var(--line); }
td.dim, th.dim { font-weight: 400; color: var(--dim); }
.matrix td { text-align: center; min-width: 3.6rem; border: 1px solid var(--paper); }
.matrix td span { display: block; }
.matrix thead th { text-align: center; } .matrix th, .matrix td.side { border-bottom: 0; }
.matrix td span + span { font-size: .78rem; opacity: .75; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); gap: 1rem; }
.plots svg { width: 100%; height: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: 0; }
dd { margin: 0; overflow-wrap: anywhere; }
details { margin-top: 1rem; } summary { cursor: pointer; }
pre { background: var(--soft); border-radius: .6rem; padding: .8rem 1rem; overflow-x: auto; font-size: .82rem; }
@media (max-width: 40rem) { th, td { padding: .3rem .45rem; font-size: .9rem; } .matrix td { min-width: 3rem; }
  dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
@media print { body { max-width: none; } details { display: none; } }
"""


def text(value: Any) -> str:
    """Any value as HTML text or attribute; what UTF-8 cannot say, as in odd file names, as `\\x..`."""
    return escape(str(value).encode("utf-8", "backslashreplace").decode())


def document(title: str, body: str, css: str = "") -> str:
    """A whole HTML page of a plain title and a body in HTML; `css` is added to the common one."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{text(title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{CSS}{css}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def section(title: str, body: str) -> str:
    """A part of a page under a heading; both are HTML."""
    return f"<section><h2>{title}</h2>\n{body}</section>\n"


def table(head: str, body: str, foot: str = "", caption: str = "", kind: str = "") -> str:
    """A table of rows and cells in HTML, that scrolls where the page is too narrow for it."""
    tail = f"<tfoot><tr>{foot}</tr></tfoot>" if foot else ""
    under = f"<caption>{caption}</caption>" if caption else ""
    return (
        f'<div class="scroll"><table class="{kind}">{under}<thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody>{tail}</table></div>\n"
    )
