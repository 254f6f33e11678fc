"""Tensors out of pickled torch files, without unpickling: nothing in the file is ever executed.

torch's own files are pickles beside raw tensor data. The pickle is read by a machine that knows four things: dicts,
tensors, parameters and storage types. Every other class in the file becomes `Inert`, which takes whatever the file
does to it and does nothing. Tensors are read only when asked for, so an optimizer's state costs no memory.
Both of torch's formats are read: the zip archive (since 1.6) and the older stream of pickles.
"""

import io
import pickle
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any

import torch

from mmadfer.errors import WeightsError

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
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
Fetch = Callable[["Storage"], bytes]


class _Sealed(type):
    """A class on which a pickle can set nothing."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise pickle.UnpicklingError(f"the file tries to set {name} on a class")


class Inert(metaclass=_Sealed):
    """Stands for any object of a class that we do not know: made, filled and called without effect."""

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> "Inert":
        """Take any arguments."""
        return object.__new__(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def ignore(self, *args: Any) -> None:
        """Take anything, do nothing."""

    __setstate__ = append = extend = add = ignore


class Dict(dict[Any, Any], metaclass=_Sealed):
    """An OrderedDict of the file, without its attributes (torch keeps `_metadata` there)."""

    __slots__ = ()

    def __setstate__(self, *state: Any) -> None:
        pass


class Storage(metaclass=_Sealed):
    """Where a tensor's numbers lie in the file: a key, a number type and a count."""

    __slots__ = ("count", "dtype", "key")

    def __init__(self, dtype: torch.dtype, key: str, count: int):
        self.dtype, self.key, self.count = dtype, key, count

    @property
    def bytes(self) -> int:
        """Size in the file."""
        return self.count * self.dtype.itemsize

    def __setstate__(self, *state: Any) -> None:
        raise pickle.UnpicklingError("the file tries to change a storage")


class Lazy(metaclass=_Sealed):
    """A tensor that has not been read yet; stands for torch._utils._rebuild_tensor(_v2)."""

    __slots__ = ("offset", "shape", "storage", "stride")

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __new__(cls, storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> "Lazy":
        """Check that the sizes lie within the storage; what else torch keeps (gradient, hooks) is dropped."""
        numbers = (offset, *shape, *stride)
        if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in numbers):
            raise pickle.UnpicklingError("a tensor is not described by a storage and sizes")
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        if prod(shape) and last >= storage.count:
            raise pickle.UnpicklingError(f"a tensor of {list(shape)} reaches beyond its storage of {storage.count}")
        self = object.__new__(cls)
        self.storage, self.offset, self.shape, self.stride = storage, offset, tuple(shape), tuple(stride)
        return self

    def __setstate__(self, *state: Any) -> None:
        raise pickle.UnpicklingError("the file tries to change a tensor")

    def read(self, fetch: Fetch) -> torch.Tensor:
        """Float32, contiguous, with memory of its own."""
        if not prod(self.shape):
            return torch.empty(self.shape)
        flat = torch.frombuffer(bytearray(fetch(self.storage)), dtype=self.storage.dtype)
        return flat.as_strided(self.shape, self.stride, self.offset).to(torch.float32, copy=True).contiguous()


class Parameter(metaclass=_Sealed):
    """Stands for torch._utils._rebuild_parameter: gives the tensor itself."""

    __slots__ = ()

    def __new__(cls, data: Any, *rest: Any) -> Any:
        """Return `data`."""
        return data


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Dict,
    ("torch._utils", "_rebuild_tensor"): Lazy,
    ("torch._utils", "_rebuild_tensor_v2"): Lazy,
    ("torch._utils", "_rebuild_parameter"): Parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): Parameter,
    **{("torch", name): dtype for name, dtype in _DTYPES.items()},
}


class _Reader(pickle.Unpickler):
    """Looks classes up in our table only: no module of the file's choosing is imported, none of its names is called."""

    def __init__(self, file: IO[bytes]):
        super().__init__(file)
        self.item_sizes: dict[str, int] = {}

    def find_class(self, module: str, name: str, /) -> Any:
        """Our own class for this name, or `Inert`."""
        return _KNOWN.get((module, name), Inert)

    def persistent_load(self, pid: Any, /) -> Storage:
        """Note a storage that the pickle refers to; views of storages (torch < 0.4) are refused."""
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or type(key) is not str or type(count) is not int:
            raise pickle.UnpicklingError("a reference to something else than a storage")
        if view not in ([], [None]):
            raise pickle.UnpicklingError("a view of a storage, of a very old torch")
        self.item_sizes[key] = dtype.itemsize
        return Storage(dtype, key, count)


class PickledFile:
    """A torch file: `tree` holds dicts, lists, numbers, strings, `Lazy` tensors and `Inert` objects.

    Raises:
        WeightsError: no such file, or not a torch file, or a damaged one.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        if not self.path.is_file():
            raise WeightsError(f"no weights file at {path}")
        with self._refusing("this file"):
            self._format: _Zip | _Stream = (_Zip if zipfile.is_zipfile(path) else _Stream)(self.path)
            self.tree: Any = self._format.tree

    def read(self, tensors: dict[str, Lazy]) -> dict[str, torch.Tensor]:
        """Read tensors as float32; their names are for errors.

        Raises:
            WeightsError: one is not made of floating-point numbers, or its data is damaged or missing.
        """
        values = {}
        with self._format.opened() as fetch:
            for name, lazy in tensors.items():
                if not lazy.storage.dtype.is_floating_point:
                    raise WeightsError(f"{self.path}: {name} holds {lazy.storage.dtype}: expected floating point")
                with self._refusing(name):
                    values[name] = lazy.read(fetch)
        return values

    @contextmanager
    def _refusing(self, what: str) -> Iterator[None]:
        """Whatever reading `what` raises (a hostile file can break in any way) becomes a WeightsError."""
        try:
            yield
        except Exception as error:
            text = str(error).strip() or type(error).__name__
            message = f"{self.path}: {what} cannot be read as weights of torch.save ({text.splitlines()[0][:120]})"
            raise WeightsError(f"{message}: get the file again, or give the right one") from error


class _Zip:
    """Format since torch 1.6: `data.pkl` and one uncompressed record a storage, each with its CRC-32."""

    def __init__(self, path: Path):
        self.path = path
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            entry = next((name for name in names if name.endswith("/data.pkl")), None)
            if entry is None or any(name.endswith("/constants.pkl") for name in names):
                raise ValueError("a zip archive of another kind")
            self.prefix = entry.removesuffix("data.pkl")
            byteorder = self.prefix + "byteorder"
            _require_little(byteorder not in names or self._record(archive, byteorder) == b"little")
            self.tree = _Reader(io.BytesIO(self._record(archive, entry))).load()

    @contextmanager
    def opened(self) -> Iterator[Fetch]:
        """Yield a function that reads storages."""
        with zipfile.ZipFile(self.path) as archive:
            yield lambda storage: self._record(archive, f"{self.prefix}data/{storage.key}", storage.bytes)

    @staticmethod
    def _record(archive: zipfile.ZipFile, name: str, size: int | None = None) -> bytes:
        """Read a record, unless it would swell."""
        info = archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED or size not in (None, info.file_size):
            raise ValueError(f"record {name} has {info.file_size} bytes, expected {size}, uncompressed")
        return archive.read(info)


class _Stream:
    """Format before torch 1.6: pickles of magic, protocol, system, tree and storage keys; then counts and numbers."""

    def __init__(self, path: Path):
        self.path = path
        self.offsets: dict[str, int] = {}
        with path.open("rb") as file:
            if _Reader(file).load() != _LEGACY_MAGIC:
                raise ValueError("a pickle of another kind")
            _protocol, system = _Reader(file).load(), _Reader(file).load()
            _require_little(system["little_endian"])
            reader = _Reader(file)
            self.tree = reader.load()
            for key in _Reader(file).load():
                count = int.from_bytes(file.read(8), "little")
                self.offsets[key] = file.tell()
                file.seek(count * reader.item_sizes[key], io.SEEK_CUR)
            if file.tell() > path.stat().st_size:  # also where only what nobody reads is cut off
                raise EOFError("the file ends too early")

    @contextmanager
    def opened(self) -> Iterator[Fetch]:
        """Yield a function that reads storages."""
        with self.path.open("rb") as file:
            yield lambda storage: self._numbers(file, storage)

    def _numbers(self, file: IO[bytes], storage: Storage) -> bytes:
        file.seek(self.offsets[storage.key])
        data = file.read(storage.bytes)
        if len(data) != storage.bytes:
            raise EOFError("the file ends too early")
        return data


def _require_little(little: bool) -> None:
    if not little:
        raise ValueError("written big-endian, which is not read here")
