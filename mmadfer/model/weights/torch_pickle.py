"""Tensors out of pickled torch files, without unpickling: nothing in the file is ever executed.

torch's own files are pickles beside raw tensor data. `mmadfer.model.weights.pickle_reader` reads the pickle.
Tensors are read only when asked for, so an
optimizer's state costs no memory, and all of them together are no more than the file has bytes.
Both of torch's formats are read: the zip archive (since 1.6) and the older stream of pickles.

`torch.load(weights_only=True)` executes nothing either, but is not enough for files of strangers (torch 2.11): 536
bytes keep it busy for ever (a key of pairs of pairs, hashed part by part), it takes a record that is shorter than its
tensor and bits that have changed, shows one number as a tensor of terabytes, and reads neither pickle protocols 1, 3, 4
and 5 nor, in the older format, the objects of unknown classes that published checkpoints hold.
"""

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import torch

from mmadfer.errors import WeightsError
from mmadfer.model.weights.pickle_reader import MAX_PICKLE_BYTES, Inert, Lazy, Storage, loaded

__all__ = ["Inert", "Lazy", "PickledFile"]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MOST_LIST = 16 << 20
"""Bytes of a zip archive's list of records, of which torch writes one for each tensor."""
SHARED = 2
"""How often the bytes of a file may be tensors: weights that are tied are two."""
Fetch = Callable[[Storage], bytes]


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
            self._size = self.path.stat().st_size
            self._format: _Zip | _Stream = (_Zip if zipfile.is_zipfile(path) else _Stream)(self.path)
            self.tree: Any = self._format.tree

    def read(self, tensors: dict[str, Lazy]) -> dict[str, torch.Tensor]:
        """Read tensors as float32; their names are for errors.

        Raises:
            WeightsError: one is not made of floating-point numbers, its data is damaged or missing, or all of them
                together are more than the file holds.
        """
        for name, lazy in tensors.items():
            if not lazy.storage.dtype.is_floating_point:
                raise WeightsError(f"{self.path}: {name} holds {lazy.storage.dtype}: expected floating point")
        with self._refusing("this file"):
            if sum(lazy.size for lazy in tensors.values()) > SHARED * self._size:
                raise ValueError(f"its tensors are more than its {self._size} bytes hold")
        values = dict[str, torch.Tensor]()
        with self._format.opened() as fetch:
            for storage, group in _by_storage(tensors):
                with self._refusing(group[0][0]):
                    data = fetch(storage)
                    values.update((name, lazy.of(data)) for name, lazy in group)
        return {name: values[name] for name in tensors}

    @contextmanager
    def _refusing(self, what: str) -> Iterator[None]:
        """Whatever reading `what` raises (a hostile file can break in any way) becomes a WeightsError."""
        try:
            yield
        except Exception as error:
            text = str(error).strip() or type(error).__name__
            message = f"{self.path}: {what} cannot be read as weights of torch.save ({text.splitlines()[0][:120]})"
            raise WeightsError(f"{message}: get the file again, or give the right one") from error


def _by_storage(tensors: dict[str, Lazy]) -> Iterable[tuple[Storage, list[tuple[str, Lazy]]]]:
    """Tensors with the storage that they lie in, each of which is read once."""

    def place(item: tuple[str, Lazy]) -> tuple[str, str, int]:
        storage = item[1].storage
        return storage.key, str(storage.dtype), storage.count

    groups = (list(group) for _, group in groupby(sorted(tensors.items(), key=place), key=place))
    return ((group[0][1].storage, group) for group in groups)


class _Zip:
    """Format since torch 1.6: `data.pkl` and one uncompressed record a storage, each with its CRC-32."""

    def __init__(self, path: Path):
        self.path = path
        _check_records(path)
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            entry = next((name for name in names if name.endswith("/data.pkl")), None)
            if entry is None or any(name.endswith("/constants.pkl") for name in names):
                raise ValueError("a zip archive of another kind")
            self.prefix = entry.removesuffix("data.pkl")
            byteorder = self.prefix + "byteorder"
            _require_little(byteorder not in names or self._record(archive, byteorder) == b"little")
            self.tree, _ = loaded(io.BytesIO(self._record(archive, entry)))

    @contextmanager
    def opened(self) -> Iterator[Fetch]:
        """Yield a function that reads storages."""
        with zipfile.ZipFile(self.path) as archive:
            yield lambda storage: self._record(archive, f"{self.prefix}data/{storage.key}", storage.size)

    @staticmethod
    def _record(archive: zipfile.ZipFile, name: str, size: int | None = None) -> bytes:
        """Read a record, unless it would swell, or, without a size, is larger than a pickle may be."""
        info = archive.getinfo(name)
        stored = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
        if not stored or size not in (None, info.file_size):
            raise ValueError(f"record {name} has {info.file_size} bytes, expected {size}, uncompressed")
        if size is None and info.file_size > MAX_PICKLE_BYTES:
            raise ValueError(f"record {name} has {info.file_size} bytes, at most {MAX_PICKLE_BYTES} are read")
        return archive.read(info)


def _check_records(path: Path) -> None:
    """Refuse an archive with more records than weights have, before all of them are read."""
    with path.open("rb") as file:
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]  # where ZipFile finds the list
    if end is None or end[zipfile._ECD_SIZE] > _MOST_LIST:  # type: ignore[attr-defined]
        raise ValueError("a zip archive of more records than weights have")


class _Stream:
    """Format before torch 1.6: pickles of magic, protocol, system, tree and storage keys; then counts and numbers."""

    def __init__(self, path: Path):
        self.path = path
        self.places: dict[str, tuple[int, int]] = {}
        """Where a storage begins, and its bytes."""
        with path.open("rb") as file:
            if loaded(file)[0] != _LEGACY_MAGIC:
                raise ValueError("a pickle of another kind")
            _protocol, system = loaded(file)[0], loaded(file)[0]
            _require_little(system["little_endian"])
            self.tree, item_sizes = loaded(file)
            for key in loaded(file)[0]:
                size = int.from_bytes(file.read(8), "little") * item_sizes[key]
                self.places[key] = file.tell(), size
                file.seek(size, io.SEEK_CUR)
            if file.tell() > path.stat().st_size:  # also where only what nobody reads is cut off
                raise EOFError("the file ends too early")

    @contextmanager
    def opened(self) -> Iterator[Fetch]:
        """Yield a function that reads storages."""
        with self.path.open("rb") as file:
            yield lambda storage: self._numbers(file, storage)

    def _numbers(self, file: IO[bytes], storage: Storage) -> bytes:
        start, size = self.places[storage.key]
        if storage.size > size:
            raise EOFError(f"a storage of {storage.size} bytes, of which {size} are there")
        file.seek(start)
        return file.read(storage.size)


def _require_little(little: bool) -> None:
    if not little:
        raise ValueError("written big-endian, which is not read here")
