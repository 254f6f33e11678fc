"""YAML of strangers: a few lines may stand for a tree without end, or for values that the reader falls over."""

from pathlib import Path
from typing import Any

import yaml

from mmadfer.errors import ConfigError

SYNTAX = (yaml.scanner.ScannerError, yaml.parser.ParserError, yaml.reader.ReaderError)
_MAX_VALUES = 20_000
"""Values of a whole tree, with those that aliases stand for."""
_MAX_DEPTH = 40
"""Lists and mappings in each other."""
_MAX_NUMBER_CHARACTERS = 100
"""Signs of a number: those of base 60, which YAML 1.1 has, take time by the square of them."""


class _Loader(yaml.SafeLoader):
    """Refuses what YAML forbids and its loader takes: a key that is there twice, of which the first would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As the base class, but for keys that are there twice, and those that are no scalars."""
        seen = set[str]()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is no text or number", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def short(self, node: yaml.ScalarNode) -> Any:
        """A number that is not too long."""
        if len(node.value) > _MAX_NUMBER_CHARACTERS:
            raise yaml.constructor.ConstructorError(None, None, "a number is too long", node.start_mark)
        return self.construct_yaml_int(node) if node.tag.endswith(":int") else self.construct_yaml_float(node)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.short)


def parse_yaml(text: str, where: Path | str) -> Any:
    """What a YAML text says; `where` is named in errors. Nothing in it is executed.

    Raises:
        ConfigError: it is not valid YAML, says a key twice, or holds more than `_MAX_VALUES` values, or deeper than
            `_MAX_DEPTH`.
    """
    try:
        _check_size(text)
        return yaml.load(text, Loader=_Loader)  # as safe_load: the loader is a safe one
    except Exception as error:  # PyYAML raises whatever its constructors meet: ValueError, AttributeError, and others
        raise ConfigError(f"{where} is not valid YAML: {error}") from error


def _check_size(text: str) -> None:
    """Count values by events, which come one by one, before anything is made of them."""
    sizes: dict[str, int] = {}
    total, open_ = 0, list[tuple[str | None, int]]()
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise yaml.YAMLError(f"the alias {event.anchor!r} stands for what it is in, or for nothing")
            total += sizes[event.anchor]
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, total))
            total += 1
            sizes.pop(event.anchor or "", None)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            sizes[anchor or ""] = total - before
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            sizes[event.anchor or ""] = 1
        if total > _MAX_VALUES or len(open_) > _MAX_DEPTH:
            raise yaml.YAMLError(f"it holds more than {_MAX_VALUES} values, or some in more than {_MAX_DEPTH} others")
