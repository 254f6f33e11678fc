"""ONNX files, and the file beside one that holds the weights where they are more than a protobuf message can be.

The weights' file is named after its content, `model.onnx.1a2b3c4d5e6f.data`, so that at any time the ONNX file and the
weights that it names belong together: the new weights come first, then the ONNX file, then the old weights go. Whatever
takes the files anywhere (`weight_files`) compares content and name; what only computes with them does not.
"""

import glob
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from mmadfer.data.tokens import file_beside
from mmadfer.errors import WeightsError
from mmadfer.export.graph import protos
from mmadfer.utils.files import atomic, sync
from mmadfer.utils.optional import need

ONE_FILE = 2**31 * 0.98
"""Bytes of weights that fit into one ONNX file; a protobuf message holds 2 GiB, and the graph needs some room."""
SMALL = 1024
"""Bytes; smaller tensors stay in the ONNX file, where shape inference looks for them."""
_WEIGHTS_NAME = re.compile(r"\.([0-9a-f]{12})\.data$")
"""Of a weights' file: the start of the SHA-256 of its tensors, one after the other."""
ALIGNED = 4096
"""Every tensor starts at a multiple of so many bytes, so that it can be mapped into memory."""


def size(proto: Any) -> int:
    """Bytes of the graph's weights."""
    return sum(len(tensor.raw_data) for tensor in proto.graph.initializer)


def save(proto: Any, out: Path) -> Path:
    """Write a graph, checked by ONNX's checker and shape inference; what lay at `out` is replaced, or left as it was.

    Args:
        proto: an `onnx.ModelProto`; it loses its weights where they go to a file of their own.
        out: the ONNX file to write.
    """
    onnx = need("onnx", extra="export")
    out.parent.mkdir(parents=True, exist_ok=True)
    large = size(proto) > ONE_FILE
    data = out.parent / f"{out.name}.{_digest(one.raw_data for one in _large(proto))}.data" if large else None
    fresh = data is not None and not data.exists()
    try:
        if data is not None:
            with atomic(data) as temporary, temporary.open("wb") as file:
                _move_out(proto, file, data.name)
        with atomic(out) as temporary:
            temporary.write_bytes(proto.SerializeToString(deterministic=True))
            onnx.checker.check_model(str(temporary), full_check=True)
    except BaseException:
        if data is not None and fresh:
            data.unlink(missing_ok=True)
        raise
    _forget_others(out, [] if data is None else [data])
    return out


def deliver(candidate: Path, out: Path) -> None:
    """Move an ONNX file of the same name, with its weights and tokenizer, to where `out` says; what lay there goes.

    Raises:
        WeightsError: as `weight_files`.
    """
    files = weight_files(candidate)
    for file in files:
        file.replace(out.parent / file.name)
    if (tokenizer := file_beside(candidate)).is_file():
        tokenizer.replace(file_beside(out))
    sync(out.parent)
    candidate.replace(out)
    sync(out.parent)
    _forget_others(out, [out.parent / file.name for file in files])


def weight_files(path: Path) -> list[Path]:
    """The files with weights that an ONNX file names; none for most.

    Their content is read, and compared with the name that it has given them.

    Raises:
        WeightsError: it is no ONNX file; or one of its files is missing, too short, not in the same folder, or changed.
    """
    onnx = need("onnx", extra="export")
    parts: dict[str, list[tuple[int, int]]] = {}
    for tensor in _messages(protos.read(path), onnx.TensorProto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            part = _number(path, entries, "offset"), _number(path, entries, "length")
            parts.setdefault(entries.get("location", ""), []).append(part)
    return [_checked(path, name, places) for name, places in parts.items()]


def _messages(message: Any, kind: type[Any]) -> Iterator[Any]:
    """All messages of a kind, however deep: tensors are also in constant nodes, functions and inner graphs."""
    if isinstance(message, kind):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if isinstance(value, Sequence) else (value,):
                yield from _messages(part, kind)


def _number(path: Path, entries: dict[str, str], key: str) -> int:
    text = entries.get(key, "0")
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise WeightsError(f"{path} says {text!r} where the {key} of a weight should be: export it anew")
    return int(text)


def _checked(path: Path, name: str, places: list[tuple[int, int]]) -> Path:
    file = path.parent / name
    if file.stat().st_size < max(map(sum, places)):
        raise WeightsError(f"{path} takes weights from {name}, which is not there in full: copy both files again")
    named = _WEIGHTS_NAME.search(name)  # another program's file need not be named after its content
    if named and _digest(_read(file, places)) != named[1]:
        raise WeightsError(f"{path} takes weights from {name}, which has changed since: copy both files again")
    return file


def _read(file: Path, places: list[tuple[int, int]]) -> Iterator[bytes]:
    with file.open("rb") as source:
        for offset, length in places:
            source.seek(offset)
            yield source.read(length)


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:12]


def _large(proto: Any) -> Iterator[Any]:
    return (tensor for tensor in proto.graph.initializer if len(tensor.raw_data) >= SMALL)


def _move_out(proto: Any, file: BinaryIO, name: str) -> None:
    onnx = need("onnx", extra="export")
    for tensor in _large(proto):
        file.seek(-(-file.tell() // ALIGNED) * ALIGNED)
        facts = {"location": name, "offset": file.tell(), "length": len(tensor.raw_data)}
        file.write(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in facts.items():
            tensor.external_data.add(key=key, value=str(value))


def _forget_others(out: Path, kept: list[Path]) -> None:
    """Remove weights that an earlier file at `out` took; no other program gives files such names."""
    for file in out.parent.glob(f"{glob.escape(out.name)}.{'[0-9a-f]' * 12}.data"):
        if file not in kept:
            file.unlink()
