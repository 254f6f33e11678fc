"""From a sentence to the tokens that a text encoder takes; nothing here imports torch.

With a folder (`model.text.folder`) its `tokenizer.json` is used, by the package tokenizers. Without one, a token is a
word's hash: no vocabulary has to be made, so none is made of clips that a fold tests.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmadfer.config.text import TextConfig
from mmadfer.contract import Contract
from mmadfer.data.draws import digest
from mmadfer.errors import ConfigError, DataError, FileError, WeightsError
from mmadfer.utils.files import read_text, write_text
from mmadfer.utils.optional import need

NAME = "tokenizer.json"
_MAX_BYTES = 1 << 26
"""Of a tokenizer's file; those of large vocabularies have 20 MB."""
_PADDING = ("[PAD]", "<pad>")
"""What BERT's and RoBERTa's tokenizers call padding."""
_WORD = re.compile(r"\w+|[^\w\s]")
_FIRST, _LAST, _OTHERS = 2, 3, 8
"""Tokens before and after the words of a sentence, and the first one of a word; lower ones may be padding."""
HASHED = "hashed words, version 1"
"""Stands for the tokenizer's hash where there is no file."""


class Reading(NamedTuple):
    """What a model reads of a sentence."""

    tokens: np.ndarray
    """int64 (L,): cut to the model's tokens, or padded."""
    length: int
    """Tokens of the whole sentence, with those before and after it."""
    end: int
    """Characters of the sentence that are read."""

    @property
    def cut(self) -> bool:
        """Whether the rest is not read."""
        return self.length > len(self.tokens)


class Tokenizer(ABC):
    """What makes tokens."""

    hash: str
    """SHA-256 of its file, or `HASHED`."""

    @abstractmethod
    def read(self, text: str) -> Reading:
        """What the model reads of a sentence."""

    def __call__(self, text: str) -> np.ndarray:
        """The tokens, int64 (L,); raises as `read`."""
        return self.read(text).tokens


class HashedWords(Tokenizer):
    """Words and marks in lower case, each by its hash: two words may share a token, the fewer the larger `vocabulary`.

    Raises:
        ConfigError: padding would be a word.
    """

    hash = HASHED

    def __init__(self, config: TextConfig) -> None:
        if config.pad >= _FIRST:
            raise ConfigError(f"model.text.pad is {config.pad}: without a folder, padding is token 0 or 1")
        self._config = config

    def read(self, text: str) -> Reading:
        """As `Tokenizer`."""
        words, kept = [*_WORD.finditer(text.lower())], self._config.tokens - 2
        made = padded([_FIRST, *(self._token(word[0]) for word in words[:kept]), _LAST], self._config)
        return Reading(made, len(words) + 2, _place(text, words[kept - 1].end()) if len(words) > kept else len(text))

    def _token(self, word: str) -> int:
        return _OTHERS + int.from_bytes(digest("word", word)[:8], "little") % (self._config.vocabulary - _OTHERS)


def _place(text: str, end: int) -> int:
    """Where the first `end` characters of `text.lower()` end in the text: a small letter may be two characters."""
    return next(k for k, length in enumerate(accumulate(len(sign.lower()) for sign in text), 1) if length >= end)


class FileTokenizer(Tokenizer):
    """A `tokenizer.json`.

    Raises:
        WeightsError: there is none, it is damaged, or it has tokens that the encoder does not know.
        MissingDependencyError: the package tokenizers is not installed.
    """

    def __init__(self, config: TextConfig, path: Path) -> None:
        self._config, self._path = config, path
        text = _read(path)
        self.hash = _hash(text)
        self._tokenizer = _made(path, text)
        self._padding = _padding(self._tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(config.tokens)
        last = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        if last >= config.vocabulary:
            raise WeightsError(
                f"{path} has a token {last}, but model.text.vocabulary is {config.vocabulary}: it is another encoder's"
            )

    def check_padding(self) -> None:
        """Whether what is not attended to is the tokenizer's padding, and no token of every sentence.

        Asked where training begins: a model that is trained reads sentences with the padding that it was trained with.

        Raises:
            WeightsError: it is not; says what to set.
        """
        own, pad = self._padding, self._config.pad
        if own is not None and own != pad:
            raise WeightsError(
                f"{self._path}: its padding is token {own}, but model.text.pad is {pad}: set that to {own}, and begin "
                "a run anew that was trained otherwise"
            )
        if pad in self._tokenizer.encode("").ids:
            name = self._tokenizer.id_to_token(pad)
            raise WeightsError(
                f"{self._path}: model.text.pad is {pad}, and that is {name!r:.40}, with which all sentences begin or "
                "end: give the encoder's padding"
            )

    def read(self, text: str) -> Reading:
        """As `Tokenizer`.

        Raises:
            DataError: it makes no token of the sentence, or nothing but padding.
        """
        made = self._tokenizer.encode(text)
        found, rest = made.ids, made.overflowing
        if not {*found} - {self._config.pad}:
            raise DataError(f"{self._path} makes no token of the sentence {text[:80]!r}: give another one")
        count = len(found) + sum(len(piece.ids) - sum(piece.special_tokens_mask) for piece in rest)
        end = max(last for _, last in made.offsets) if rest else len(text)
        return Reading(padded(found, self._config), count, end)


def cut_words(readings: Sequence[Reading]) -> str:
    """How many sentences are longer than what the model reads, for a person; empty where none is."""
    long = [one.length for one in readings if one.cut]
    if not long:
        return ""
    told = f"{len(long)} of {len(readings)} sentences {'is' if len(long) == 1 else 'are'}"
    return (
        f"{told} longer than the {len(readings[0].tokens)} tokens that the model reads (model.text.tokens), and what "
        f"is behind is not seen; the longest has {max(long)}"
    )


def _read(path: Path) -> str:
    try:
        return read_text(path, _MAX_BYTES)
    except (FileError, OSError) as error:
        raise WeightsError(
            f"the text encoder needs {path}, as transformers' save_pretrained writes it: {error}"
        ) from error


def _made(path: Path, text: str) -> Any:
    library = need("tokenizers", extra="text")
    try:
        return library.Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing more special
        raise WeightsError(f"{path} is no tokenizer ({error}): get it again") from error


def _padding(tokenizer: Any) -> int | None:
    """The number of a tokenizer's padding: what it says, or what is called so; None where it has none."""
    if tokenizer.padding:
        return int(tokenizer.padding["pad_id"])
    found = (tokenizer.token_to_id(name) for name in _PADDING)
    return next((number for number in found if number is not None), None)


def padded(tokens: list[int], config: TextConfig) -> np.ndarray:
    """int64 (L,), with padding behind."""
    return np.array(tokens + [config.pad] * (config.tokens - len(tokens)), np.int64)


def tokenizer_of(config: TextConfig) -> Tokenizer:
    """That which a training begins with: of the configuration's folder, or without one that of hashed words.

    Raises:
        ConfigError, WeightsError, MissingDependencyError: as these, and as `FileTokenizer.check_padding`.
    """
    if config.folder is None:
        return HashedWords(config)
    made = FileTokenizer(config, config.folder / NAME)
    made.check_padding()
    return made


def file_beside(model: Path) -> Path:
    """Where the tokenizer of an exported model lies: `fold-1.tokenizer.json` of `fold-1.onnx`."""
    return model.with_suffix(f".{NAME}")


def find_file(model: Path, config: TextConfig) -> Path | None:
    """The file of a model's tokenizer, beside it or in the folder of its text encoder; None where it needs none.

    Raises:
        WeightsError: it is in neither place.
    """
    if config.folder is None:
        return None
    places = [file_beside(model), config.folder / NAME]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise WeightsError(
            f"{model} reads sentences, and its tokenizer is neither at {places[0]} nor at {places[1]}: put it beside it"
        )
    return found


def tokenizer_beside(model: Path, config: TextConfig, wanted: str | None) -> Tokenizer:
    """The tokenizer of a model, which must be the one that it was trained with, by the hash `wanted` if it is known.

    Raises:
        WeightsError: there is none, or it is another one.
    """
    file = find_file(model, config)
    made: Tokenizer = HashedWords(config) if file is None else FileTokenizer(config, file)
    if wanted is not None:
        _check_hash(model, str(file or "the tokenizer"), made.hash, wanted)
    return made


def check_tokenizer(model: Path, contract: Contract) -> None:
    """Whether a model that is exported has the tokenizer that it was trained with.

    Raises:
        WeightsError: as `find_file`; or it is another one.
    """
    file = None if contract.model.text is None else find_file(model, contract.model.text)
    if file is not None and contract.text is not None:
        _check_hash(model, str(file), _hash(_read(file)), contract.text.tokenizer)


def deliver_tokenizer(model: Path, contract: Contract, out: Path) -> None:
    """Put the file of a model's tokenizer, if it has one, beside what is exported of it.

    Raises:
        WeightsError: as `check_tokenizer`.
    """
    check_tokenizer(model, contract)
    file = None if contract.model.text is None else find_file(model, contract.model.text)
    if file is not None and file != file_beside(out):
        write_text(file_beside(out), _read(file))


def _check_hash(model: Path, file: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise WeightsError(
            f"{file} (hash {found[:12]}) is not the tokenizer that {model} was trained with ({wanted[:12]}): put that "
            "one there"
        )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
