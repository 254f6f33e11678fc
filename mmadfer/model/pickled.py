"""Tensors out of pickled torch files, without unpickling: nothing in the file is ever executed.

torch's own files are pickles beside raw tensor data. The pickle is read by a machine that knows four things: dicts,
tensors, parameters and storage types. Every other class in the file becomes `Inert`, which takes whatever the file
does to it and does nothing. Tensors are read only when asked for, so an optimizer's state costs no memory.
Both of torch's formats are read: the zip archive (since 1.6) and the older stream of pickles.
"""

import io
import pickle
import zipfile
from collections.abc import Callable
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

    def __setstate__(self, *state: Any) -> None:
        raise pickle.UnpicklingError("the file tries to change a storage")


class Lazy(metaclass=_Sealed):
    """A tensor that has not been read yet; stands for torch._utils._rebuild_tensor(_v2)."""

    __slots__ = ("offset", "shape", "storage", "stride")

    def __init__(self, storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any):
        numbers = (offset, *shape, *stride)
        if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in numbers):
            raise pickle.UnpicklingError("a tensor is not described by a storage and sizes")
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        if prod(shape) and last >= storage.count:
            raise pickle.UnpicklingError(f"a tensor of {list(shape)} reaches beyond its storage of {storage.count}")
        self.storage, self.offset, self.shape, self.stride = storage, offset, tuple(shape), tuple(stride)

    def __setstate__(self, *state: Any) -> None:
        raise pickle.UnpicklingError("the file tries to change a tensor")

    def read(self, fetch: Fetch) -> torch.Tensor:
        """The numbers, as a contiguous float32 tensor of its own."""
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
    **{("torch", name): dtype for name, dtype in _DTYPES.items()},
}


class _Reader(pickle.Unpickler):
    """Looks classes up in our table only: no module of the file's choosing is imported, none of its names is called."""

    def find_class(self, module: str, name: str, /) -> Any:
        return _KNOWN.get((module, name), Inert)

    def persistent_load(self, pid: Any, /) -> Storage:
        kind, dtype, key, _, count = pid[:5]
        if kind != "storage" or not isinstance(dtype, torch.dtype) or type(key) is not str or type(count) is not int:
            raise pickle.UnpicklingError(f"unknown reference {pid!r:.80}")
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
        self._offsets: dict[str, int] = {}
        self._prefix = ""
        try:
            self._zip = zipfile.is_zipfile(self.path)
            self.tree = self._read_zip() if self._zip else self._read_stream()
        except WeightsError:
            raise
        except Exception as error:  # a pickle can be broken in any way
            raise WeightsError(
                f"{path} is not a whole torch file ({_said(error)}): give a .pth, .pt or .tar"
            ) from error

    def tensor(self, lazy: Lazy, name: str) -> torch.Tensor:
        """Read one tensor as float32; `name` is for errors.

        Raises:
            WeightsError: it is not made of floating-point numbers, or its data is damaged or missing.
        """
        if not lazy.storage.dtype.is_floating_point:
            raise WeightsError(f"{self.path}: {name} holds {lazy.storage.dtype}: expected floating-point numbers")
        try:
            return lazy.read(self._fetch_zip if self._zip else self._fetch_stream)
        except Exception as error:  # damaged data; the checksum of the archive says so
            raise WeightsError(f"{self.path}: {name} cannot be read ({_said(error)}): get the file again") from error

    def _read_zip(self) -> Any:
        with zipfile.ZipFile(self.path) as archive:
            names = archive.namelist()
            entry = next((name for name in names if name.endswith("/data.pkl")), None)
            if entry is None or any(name.endswith("/constants.pkl") for name in names):
                raise WeightsError(
                    f"{self.path} is a zip archive, but not of torch.save: give a .pth or .pt of weights"
                )
            self._prefix = entry.removesuffix("data.pkl")
            if self._prefix + "byteorder" in names and archive.read(self._prefix + "byteorder") != b"little":
                raise WeightsError(f"{self.path} was written big-endian, which is not read here: save it again")
            return _Reader(io.BytesIO(archive.read(entry))).load()

    def _fetch_zip(self, storage: Storage) -> bytes:
        with zipfile.ZipFile(self.path) as archive:
            info = archive.getinfo(f"{self._prefix}data/{storage.key}")
            if info.file_size != storage.count * storage.dtype.itemsize or info.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"record {storage.key} has {info.file_size} bytes")
            return archive.read(info)

    def _read_stream(self) -> Any:
        """Legacy format: magic, protocol, system, object, storage keys, then a count and the numbers of each key."""
        with self.path.open("rb") as file:
            if _Reader(file).load() != _LEGACY_MAGIC:
                raise WeightsError(f"{self.path} is a pickle, but not of torch.save: give a .pth or .pt of weights")
            _protocol, system = _Reader(file).load(), _Reader(file).load()
            if not system["little_endian"]:
                raise WeightsError(f"{self.path} was written big-endian, which is not read here: save it again")
            reader = _StreamReader(file)
            tree = reader.load()
            self._index_stream(file, _Reader(file).load(), reader.sizes)
        return tree

    def _index_stream(self, file: IO[bytes], keys: list[str], sizes: dict[str, int]) -> None:
        for key in keys:
            count = int.from_bytes(file.read(8), "little")
            self._offsets[key] = file.tell()
            file.seek(count * sizes[key], io.SEEK_CUR)

    def _fetch_stream(self, storage: Storage) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self._offsets[storage.key])
            data = file.read(storage.count * storage.dtype.itemsize)
        if len(data) != storage.count * storage.dtype.itemsize:
            raise ValueError("the file ends too early")
        return data


class _StreamReader(_Reader):
    """Notes the bytes per number of each storage, which the legacy format needs to find the next one."""

    def __init__(self, file: IO[bytes]):
        super().__init__(file)
        self.sizes: dict[str, int] = {}

    def persistent_load(self, pid: Any, /) -> Storage:
        storage = super().persistent_load(pid)
        self.sizes[storage.key] = storage.dtype.itemsize
        return storage


def _said(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
