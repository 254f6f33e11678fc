"""The pickles inside of torch files, read by a machine that knows dicts, lists, tensors and storage types.

A pickle is a program. This machine runs none of it but what puts such things together: no module is imported, no name
of the file's is called, and every object of another class becomes an `Inert`, whatever the file does to it. A file of
strangers decides neither how much memory nor how much time that takes: both grow with its size alone, since memory is
numbered by a dict, keys are texts and numbers (others would be hashed part by part), and nothing is copied but once.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import IO, Any, cast

import torch

MAX_PICKLE_BYTES = 64 << 20
"""Of one pickle; the numbers of tensors lie outside of it."""
MOST_STEPS = 1_000_000
"""Of one pickle: operations, and values that are gone through a second time."""
MOST_BITS = 4096
"""Of a whole number."""
MOST_AXES = 16
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
Numbers = tuple[int, ...]


class PickleError(ValueError):
    """The pickle asks for something that weights do not need."""


class Inert:
    """Stands for any object of a class that we do not know."""


@dataclass(frozen=True)
class Storage:
    """Where a tensor's numbers lie in the file: a key, a number type and a count."""

    dtype: torch.dtype
    key: str
    count: int

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self.count * self.dtype.itemsize


@dataclass(frozen=True)
class Lazy:
    """A tensor that has not been read yet."""

    storage: Storage
    offset: int
    shape: Numbers
    stride: Numbers

    @property
    def size(self) -> int:
        """Bytes of its numbers in the file."""
        return prod(self.shape) * self.storage.dtype.itemsize

    def of(self, data: bytes) -> torch.Tensor:
        """The tensor out of its storage's bytes: float32, contiguous, with memory of its own."""
        if not prod(self.shape):
            return torch.empty(self.shape)
        flat = torch.frombuffer(bytearray(data), dtype=self.storage.dtype)
        return flat.as_strided(self.shape, self.stride, self.offset).to(torch.float32, copy=True).contiguous()


def _tensor(storage: Any = None, offset: Any = None, shape: Any = None, stride: Any = None, *_: Any) -> Lazy:
    """For torch._utils._rebuild_tensor(_v2); what else torch keeps (gradient, hooks) is dropped."""
    sizes = isinstance(shape, tuple) and isinstance(stride, tuple) and len(shape) == len(stride) <= MOST_AXES
    if not isinstance(storage, Storage) or not sizes:
        raise PickleError("a tensor is not described by a storage and sizes")
    numbers = (offset, *shape, *stride)
    if not all(type(n) is int and 0 <= n < 1 << 63 for n in numbers):
        raise PickleError("a tensor is not described by a storage and sizes")
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if prod(shape) and last >= storage.count:
        raise PickleError(f"a tensor of {list(shape)} reaches beyond its storage of {storage.count}")
    return Lazy(storage, offset, shape, stride)


def _parameter(data: Any = None, *_: Any) -> Any:
    """For torch._utils._rebuild_parameter(_with_state): the tensor itself."""
    return data


def _dict(pairs: Any = (), *_: Any) -> dict[Any, Any]:
    """For collections.OrderedDict, of which other programs pickle a list of pairs."""
    if not isinstance(pairs, list | tuple):
        raise PickleError(f"a dict of a {type(pairs).__name__}")
    return {_key(key): value for key, value in pairs}


def _key(key: Any) -> Any:
    if not isinstance(key, str | int | float | bytes | None):
        raise PickleError(f"a key that is a {type(key).__name__}, and no text or number")
    return key


_KNOWN: dict[str, Any] = {
    "collections OrderedDict": _dict,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
    "torch._utils _rebuild_parameter_with_state": _parameter,
    **{f"torch {name}": dtype for name, dtype in _DTYPES.items()},
}
_NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
_TEXTS = {"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"}
_VALUES = {*_NUMBERS, *_TEXTS, "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
"""Operations that put their argument on the stack."""


def loaded(file: IO[bytes]) -> tuple[Any, dict[str, int]]:
    """What one pickle holds, and the bytes of a number of each storage that it names, by key; `file` stands behind it.

    Raises:
        ValueError: it is damaged, larger than `MAX_PICKLE_BYTES`, or asks for something that weights do not need.
    """
    machine = _Machine()
    for code, argument, _ in pickletools.genops(cast(IO[bytes], _Bounded(file))):
        machine.step(code.name, argument)
    return machine.pop(), machine.item_sizes


class _Bounded:
    """So much of a file as a pickle may have."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._left = file, MAX_PICKLE_BYTES

    def read(self, size: int) -> bytes:
        """As of a file."""
        return self._counted(self._file.read(min(size, self._left)))

    def readline(self) -> bytes:
        """As of a file."""
        return self._counted(self._file.readline(self._left))

    def _counted(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left <= 0:
            raise PickleError(f"a pickle of more than {MAX_PICKLE_BYTES} bytes")
        return data


class _Machine:
    """A stack, and values that are remembered by number."""

    def __init__(self) -> None:
        self.item_sizes: dict[str, int] = {}
        self._stack = list[Any]()
        self._marks = list[int]()
        self._memo: dict[int, Any] = {}
        self._steps = 0

    def step(self, name: str, argument: Any) -> None:
        """Do one operation.

        Raises:
            PickleError: it is none of those that weights need, or there have been too many.
        """
        self._spend(1)
        if name in _VALUES:
            if type(argument) is int and argument.bit_length() > MOST_BITS:
                raise PickleError(f"a number of more than {MOST_BITS} bits")
            self.push(argument)
        elif name in _CONSTANTS:
            self.push(_CONSTANTS[name]())
        elif name in _STEPS:
            _STEPS[name](self, argument)
        else:
            raise PickleError(f"the operation {name}, which weights do not need")

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self._stack.append(value)

    def last(self, count: int) -> list[Any]:
        """Take the last values, in their order; none from before the last mark."""
        start = len(self._stack) - count
        if start < (self._marks[-1] if self._marks else 0):
            raise PickleError("a value that is not there")
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def pop(self) -> Any:
        """Take the last value."""
        return self.last(1)[0]

    def top(self) -> Any:
        """The last value, which stays."""
        self.push(value := self.pop())
        return value

    def mark(self) -> None:
        """Remember how many values there are."""
        self._marks.append(len(self._stack))

    def marked(self) -> list[Any]:
        """Take all values since the last mark."""
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def remember(self, number: int | None) -> None:
        """Keep the last value under a number, or the next one."""
        self._memo[len(self._memo) if number is None else number] = self.top()

    def recall(self, number: int) -> None:
        """Put what was kept on the stack."""
        self.push(self._memo[number])

    def set_items(self, values: list[Any], target: Any) -> None:
        """Keys and values, in turn, into a dict, which comes back onto the stack."""
        self.push(target)
        if isinstance(target, Inert):
            return
        if not isinstance(target, dict) or len(values) % 2:
            raise PickleError(f"items of a {type(target).__name__}")
        target.update((_key(key), value) for key, value in zip(values[::2], values[1::2], strict=True))

    def add(self, values: list[Any]) -> None:
        """Append to a list."""
        target = self.top()
        if isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, Inert):
            raise PickleError(f"members of a {type(target).__name__}")

    def freeze(self) -> None:
        """A frozen set of the values since the last mark: of no use for weights, and its members would be hashed."""
        self.marked()
        self.push(Inert())

    def named(self, name: str) -> None:
        """What stands for a class or function of this module and name."""
        self.push(_KNOWN.get(name, Inert))

    def named_by(self, module: Any, name: Any) -> None:
        """The same, of two texts."""
        self.named(f"{module} {name}" if isinstance(module, str) and isinstance(name, str) else "")

    def call(self, make: Any, given: Any) -> None:
        """An object of a class: those that we do not know take anything."""
        if not isinstance(given, tuple):
            raise PickleError("a call without arguments")
        if make is Inert:
            self.push(Inert())
            return
        if make not in (_tensor, _parameter, _dict):
            raise PickleError(f"a call of a {type(make).__name__}")
        self._spend(sum(len(one) for one in (given, *given[:1]) if isinstance(one, list | tuple)))
        self.push(make(*given))

    def build(self, state: Any) -> None:
        """What a class keeps beside its items: of none that we know does it matter (torch's `_metadata`)."""
        if not isinstance(target := self.top(), Inert | dict):
            raise PickleError(f"a change of a {type(target).__name__}")

    def refer(self, pid: Any) -> None:
        """A storage that the pickle refers to; views of storages (torch < 0.4) are refused."""
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise PickleError("a reference to something else than a storage")
        _, dtype, key, _, count, *view = pid
        if not isinstance(dtype, torch.dtype) or type(key) is not str or type(count) is not int or count < 0:
            raise PickleError("a reference to something else than a storage")
        if view not in ([], [None]):
            raise PickleError("a view of a storage, of a very old torch")
        self.item_sizes[key] = dtype.itemsize
        self.push(Storage(dtype, key, count))

    def _spend(self, count: int) -> None:
        self._steps += count
        if self._steps > MOST_STEPS:
            raise PickleError(f"more than {MOST_STEPS} operations")


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": Inert,
}
_STEPS: dict[str, Callable[[_Machine, Any], object]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    "MARK": lambda machine, _: machine.mark(),
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine.marked(),
    "DUP": lambda machine, _: machine.push(machine.top()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda machine, number: machine.remember(number)),
    "MEMOIZE": lambda machine, _: machine.remember(None),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, number: machine.recall(number)),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.marked())),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.last(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.last(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.last(3))),
    "LIST": lambda machine, _: machine.push(machine.marked()),
    "DICT": lambda machine, _: machine.set_items(machine.marked(), {}),
    "SETITEM": lambda machine, _: machine.set_items(machine.last(2), machine.pop()),
    "SETITEMS": lambda machine, _: machine.set_items(machine.marked(), machine.pop()),
    "APPEND": lambda machine, _: machine.add(machine.last(1)),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda machine, _: machine.add(machine.marked())),
    "FROZENSET": lambda machine, _: machine.freeze(),
    "GLOBAL": lambda machine, name: machine.named(name),
    "STACK_GLOBAL": lambda machine, _: machine.named_by(*machine.last(2)),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), lambda machine, _: machine.call(*machine.last(2))),
    "NEWOBJ_EX": lambda machine, _: machine.call(*machine.last(3)[:2]),
    "BUILD": lambda machine, _: machine.build(machine.pop()),
    "BINPERSID": lambda machine, _: machine.refer(machine.pop()),
}
"""Operation -> what it does with the machine and its argument. The others make objects and calls of other kinds."""
