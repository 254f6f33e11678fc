"""The files of a shared model: nothing of another name is sent, fetched or read."""

import re
from collections.abc import Iterable

WEIGHTS, ONNX, CONTRACT = "model.safetensors", "model.onnx", "contract.json"
CARD, DATA_CARD, PARITY, SIGNATURE = "README.md", "DATA_CARD.md", "parity.json", "model.sig"
TOKENIZER = "model.tokenizer.json"
_MIB, _GIB = 1 << 20, 1 << 30
_MOST_BYTES = {
    CONTRACT: _MIB,
    CARD: 4 * _MIB,
    DATA_CARD: 4 * _MIB,
    PARITY: 4 * _MIB,
    SIGNATURE: 4 * _MIB,
    TOKENIZER: 64 * _MIB,
    ONNX: 2 * _GIB,
    WEIGHTS: 32 * _GIB,
}
"""Of each file; a larger one is refused before it is fetched."""
_ONNX_DATA = re.compile(r"model\.onnx\.[0-9a-f]{12}\.data")
_MOST_DATA_BYTES = 32 * _GIB
_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib")
FORMS = {"onnx": ONNX, "weights": WEIGHTS}
"""What a backend reads -> its file."""


def most_bytes(name: str) -> int | None:
    """The largest that a file of this name may be; None for one that is none of a shared model."""
    return _MOST_DATA_BYTES if _ONNX_DATA.fullmatch(name) else _MOST_BYTES.get(name)


def allowed(names: Iterable[str]) -> list[str]:
    """Those that are files of a shared model, sorted."""
    return sorted(name for name in names if most_bytes(name) is not None)


def needed(names: Iterable[str], form: str) -> list[str]:
    """Of these, what a form needs to run: `onnx` or `weights`."""
    own = {FORMS[form], CONTRACT, TOKENIZER}
    return [name for name in allowed(names) if name in own or (form == "onnx" and _ONNX_DATA.fullmatch(name))]


def pickles(names: Iterable[str]) -> list[str]:
    """Files that are programs to whoever loads them: never fetched."""
    return sorted(name for name in names if name.lower().endswith(_PICKLES))
