"""Where a configuration's values come from: a file, the ones it is based on (`base:`), and `--set` on top of them.

name: mine
base: dfew_160          # a file beside this one, or the name of a shipped configuration; it may have a base of its own
train: {lr: 3.0e-4}     # what is other than there
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmadfer.errors import ConfigError
from mmadfer.utils.files import read_yaml
from mmadfer.utils.safe_yaml import SYNTAX, parse_yaml

CONFIGS = Path(__file__).parents[1] / "configs"
BASE, _PART = "base", "name"
MOST_BASES = 16
"""Files in a chain of bases."""
_Key = tuple[str, ...]


@dataclass
class Sources:
    """A tree of values, and which file, or `--set`, each value is from."""

    tree: dict[str, Any] = field(default_factory=dict)
    places: dict[_Key, str] = field(default_factory=dict)
    """Where each value stands, by its key; a section is where it was written last."""

    def change(self, tree: dict[str, Any], place: str, into: dict[str, Any] | None = None, key: _Key = ()) -> None:
        """Put a file's values over those that are there: sections key by key, all else as a whole.

        A section that names a part (`fusion: {name: mult}`) is a whole, since its other keys are of that part.
        """
        into = self.tree if into is None else into
        for name, value in tree.items():
            here = (*key, name)
            self.places[here] = place
            if isinstance(value, dict):
                below = into.get(name) if _PART not in value else None
                into[name] = dict(below) if isinstance(below, dict) else {}  # a copy: an alias may stand elsewhere
                self.change(value, place, into[name], here)
            else:
                into[name] = value

    def place(self, key: Sequence[int | str]) -> str | None:
        """Where the value stands that an error names, or else the section around it."""
        parts = tuple(str(part) for part in key)
        return next((self.places[parts[:n]] for n in range(len(parts), 0, -1) if parts[:n] in self.places), None)


def read(path: Path, overrides: Sequence[str] = ()) -> Sources:
    """The values of a file, over those of its bases, with `key.path=value` overrides on top.

    Raises:
        ConfigError: a file that cannot be read or is no YAML, bases in a circle, or an override of another form.
    """
    sources = Sources()
    for file, tree in reversed(_chain(path)):
        sources.change(tree, str(file))
    for override in overrides:
        _override(sources, override)
    return sources


def _chain(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """A file and its bases, the nearest first, each with its own values."""
    chain: list[tuple[Path, dict[str, Any]]] = []
    while True:
        tree = read_yaml(path)
        base = tree.pop(BASE, None)
        if chain:
            tree.pop(_PART, None)  # a configuration has a name of its own, since runs are named after it
        chain.append((path, tree))
        if base is None:
            return chain
        path = _base(path, base)
        files = [file for file, _ in chain]
        if any(path.samefile(file) for file in files):
            raise ConfigError(f"base goes in a circle: {' -> '.join(map(str, [*files, path]))}: leave one out")
        if len(chain) == MOST_BASES:
            raise ConfigError(f"{files[0]} has more than {MOST_BASES} bases, one upon the other")


def _base(path: Path, base: Any) -> Path:
    if not isinstance(base, str):
        raise ConfigError(f"{path}: base: it must be a file or the name of a shipped configuration (got {base!r:.100})")
    try:
        return find_config(base, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: base: {error}") from error


def find_config(source: str | Path, folder: Path = Path()) -> Path:
    """A configuration's file: `source` in `folder`, or the name of a shipped one.

    Raises:
        ConfigError: neither.
    """
    for candidate in (folder / source, CONFIGS / source, CONFIGS / f"{source}.yaml"):
        if candidate.is_file():
            return candidate
    shipped = ", ".join(sorted(str(p.relative_to(CONFIGS).with_suffix("")) for p in CONFIGS.glob("*.yaml")))
    raise ConfigError(f"no configuration {str(source)!r}: give a YAML file, or one of the shipped ones ({shipped})")


def _override(sources: Sources, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override!r} must read KEY=VALUE, for example --set train.lr=3e-4")
    if key.strip() == BASE:
        raise ConfigError(f"--set {override!r}: a base stands in a file, `base: NAME`; give that file")
    tree, (*parents, leaf) = sources.tree, key.strip().split(".", 10)
    for name in parents:
        child = {} if tree.get(name) is None else tree[name]  # null is a section that is left out
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override!r}: {name} is a value, not a section")
        tree[name] = tree = dict(child)  # a copy, since an alias may stand for it elsewhere, too
    tree[leaf] = value(text, f"--set {key}")
    sources.places[(*parents, leaf)] = "--set"


def value(text: str, where: str) -> Any:
    """What the right side of an override stands for; text that is no YAML is taken as it is.

    Raises:
        ConfigError: it is YAML that cannot be read; `where` is named.
    """
    try:
        found = parse_yaml(text, where)
    except ConfigError as error:
        if isinstance(error.__cause__, SYNTAX):
            return text
        raise
    if isinstance(found, str):  # YAML 1.1 reads 3e-4 as a string
        try:
            return float(found)
        except ValueError:
            return found
    return found
