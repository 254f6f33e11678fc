"""Every value of a reference file beside ours: python tests/related/check.py b-jmt GOLDEN.npz [--seed N].

Prints key, largest difference and tolerance. Exit code 1 where a difference is over, 2 for a file of another form.
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from golden import FormError, Row, read

METHODS = {"a-text": "text", "b-jmt": "jmt", "c-aus": "aus", "d-pkdot": "pkdot", "e-msda": "msda", "f-tss": "tss"}
"""Modules of this folder; each has `rows(path, golden, seed)`, and may have `WORDS`, the keys that are text."""


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    given = _options(arguments)
    try:
        method = import_module(METHODS[given.name])
        golden = read(given.golden, getattr(method, "WORDS", ()))
        rows: list[Row] = method.rows(given.golden, golden, given.seed)
    except FormError as error:
        print(f"not of the form of {given.name}: {error}", file=sys.stderr)
        return 2
    width = max(len(row.key) for row in rows)
    print(f"{'key':{width}}  difference  tolerance")
    for row in rows:
        print(f"{row.key:{width}}  {row.difference:10.1e}  {row.tolerance:9.0e} {row.kind}{'  OVER' * row.over}")
    over = sum(row.over for row in rows)
    print(f"{len(rows)} keys, {over} over")
    return int(over > 0)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=METHODS)
    parser.add_argument("golden", type=Path)
    parser.add_argument("--seed", type=int, help="of the numbers behind the file (default: found out)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
