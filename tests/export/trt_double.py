"""TensorRT's own bindings as a double: nothing is computed, and every use that they would refuse is an error here.

The bindings of TensorRT 10 and 11 install without the libraries behind them. They are loaded over empty ones, so
classes, enumerations and signatures are the real ones; what a call returns is a double of the type that its signature
names.
"""

import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

OBJECTS = ("Builder", "OnnxParser", "Runtime")
"""What the library makes; everything else of the module is real."""
PLAIN = {"int": 1, "bool": True, "str": "name", "None": None, "float": 1.0}
ALIAS = {"nvonnxparser::IParserError": "ParserError"}


class Api:
    """A module of the bindings.

    Args:
        real: the module.
        answers: (class, member) -> what it gives; for a method, called with the double and the arguments.
    """

    def __init__(self, real: ModuleType, answers: dict[tuple[str, str], Any] | None = None) -> None:
        self._real, self._answers = real, answers or {}
        self.used: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._real, name)
        return self._maker(value) if name in OBJECTS else value

    def _maker(self, kind: type) -> Callable[..., Any]:
        def make(*arguments: Any) -> Any:
            self.called(kind.__name__, "__init__", kind.__init__.__doc__, arguments)
            return Double(self, kind)

        return make

    def called(self, owner: str, name: str, doc: str, arguments: tuple[Any, ...]) -> str:
        """Bind arguments to one of the signatures; the type that it returns."""
        self.used.add(f"{owner}.{name}")
        found = signatures(doc)
        for parameters, returned in found:
            if self._binds(parameters, arguments):
                return returned
        raise TypeError(f"{owner}.{name}{arguments} fits none of {found}")

    def _binds(self, parameters: list[tuple[str, bool]], arguments: tuple[Any, ...]) -> bool:
        needed = sum(not optional for _, optional in parameters)
        kinds = (kind for kind, _ in parameters)
        return needed <= len(arguments) <= len(parameters) and all(map(self.takes, kinds, arguments))

    def takes(self, kind: str, value: Any) -> bool:
        """Whether the bindings would convert a value to a type of theirs."""
        if kind in ("int", "typing.SupportsInt"):
            return hasattr(value, "__int__") and not isinstance(value, str)
        if kind == "typing_extensions.Buffer":
            return bool(memoryview(value).nbytes >= 0)
        if "." not in kind:
            return kind == "object" or type(value).__name__ == kind
        wanted = getattr(self._real, kind.rpartition(".")[2])
        if kind.endswith(".Dims"):
            return len(self._real.Dims(value)) == len(value)
        return issubclass(value.kind, wanted) if isinstance(value, Double) else isinstance(value, wanted)

    def returns(self, owner: str, name: str, returned: str) -> Any:
        """A value of the type that a signature names."""
        if (owner, name) in self._answers:
            return self._answers[owner, name]
        if returned in PLAIN:
            return PLAIN[returned]
        kind = ALIAS.get(returned, returned).rpartition(".")[2]
        return b"plan" if kind == "IHostMemory" else Double(self, getattr(self._real, kind))


class Double:
    """An object of the library, which is not there."""

    def __init__(self, api: Api, kind: type) -> None:
        self.__dict__.update(api=api, kind=kind)

    def __getattr__(self, name: str) -> Any:
        member, owner = getattr(self.kind, name), self.kind.__name__
        if isinstance(member, property):
            self.api.used.add(f"{owner}.{name}")
            return self.api.returns(owner, name, signatures(member.fget.__doc__)[0][1])

        def call(*arguments: Any) -> Any:
            returned = self.api.called(owner, name, member.__doc__, arguments)
            answer = self.api.returns(owner, name, returned)
            return answer(self, *arguments) if callable(answer) else answer

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        member, owner = getattr(self.kind, name), self.kind.__name__
        self.api.used.add(f"{owner}.{name}")
        kind = signatures(member.fset.__doc__)[0][0][0][0]
        if not self.api.takes(kind, value):
            raise TypeError(f"{owner}.{name} = {value!r} is no {kind}")


def signatures(doc: str) -> list[tuple[list[tuple[str, bool]], str]]:
    """Of a docstring: for each overload the types of its parameters without self, whether they have a default, and
    the type that it returns."""
    found = re.findall(r"^(?:\d+\. )?\w*\((.*)\) -> (\S.*?)\s*$", doc, re.MULTILINE)
    return [([_parameter(part) for part in re.split(r", (?=\w+: )", given)[1:]], returned) for given, returned in found]


def _parameter(text: str) -> tuple[str, bool]:
    kind, equals, _ = text.partition(": ")[2].partition(" = ")
    return kind, bool(equals)
