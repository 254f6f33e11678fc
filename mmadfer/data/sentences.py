"""A sentence for each clip of a store, of the file that `mmadfer textualise` writes (`mmadfer.data.cues.cues`).

Nothing here imports torch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from mmadfer.config.schema import Config
from mmadfer.contract import Contract
from mmadfer.contract.facts import TextFacts
from mmadfer.data.cues.cues import PARTS, CalmFace, Cues, Part, Row, read_rows
from mmadfer.data.cues.template import VERSION, Template, sentence
from mmadfer.data.fold_clips import used_clips
from mmadfer.data.store.store import Store
from mmadfer.data.tokens import NAME, Tokenizer, cut_words, tokenizer_of
from mmadfer.errors import ConfigError, DataError, FileError, WeightsError

SUFFIX = ".cues.jsonl"
_MAX_SHOWN = 5
"""Clips that a message names."""
_OF = {"transcript": "text", "face": "face", "voice": "voice"}
"""Cue that mmadfer measures or is given -> its part of a sentence; all others are of the user's own detectors."""


@dataclass(frozen=True)
class Sentences:
    """Sentences by clip."""

    path: Path
    texts: dict[str, str]
    template: int
    """The version of the template that they were made by."""
    calm_face: CalmFace
    use: tuple[Part, ...]
    """Parts of which they were made; none where they are not what the template makes of cues that a video gives."""
    hash: str
    """SHA-256 of the file."""

    def of(self, clips: Iterable[str]) -> list[str]:
        """Those of the clips.

        Raises:
            DataError: there is none of one of them.
        """
        return [self._one(name) for name in clips]

    def _one(self, name: str) -> str:
        if name not in self.texts:
            raise DataError(f"{self.path} has no sentence of clip {name!r}: make it again with `mmadfer textualise`")
        return self.texts[name]


def read_sentences(path: Path) -> Sentences:
    """What a file says.

    Raises:
        DataError: it cannot be read, a line is no row, a clip is there twice, or templates differ.
    """
    digest = sha256()
    try:
        rows = list(read_rows(path, digest.update))
    except (FileError, OSError) as error:
        raise DataError(f"the sentences of clips cannot be read: {error}") from error
    ways = {(row.template, row.calm_face) for row in rows}
    if len(ways) != 1:
        told = " and ".join(f"{version} (calm_face {calm})" for version, calm in sorted(ways)) or "none"
        raise DataError(f"{path} has sentences of template {told}: make them all anew, in one way")
    ((version, calm_face),) = ways
    return Sentences(path, {row.id: row.sentence for row in rows}, version, calm_face, _parts(rows), digest.hexdigest())


def _parts(rows: Sequence[Row]) -> tuple[Part, ...]:
    """The parts of the sentences, where they are what a template of ours makes of what a video gives; else none."""
    told = {name for row in rows for name in Cues.model_fields if getattr(row.cues, name) is not None}
    use = tuple(part for part in PARTS if part in {_OF.get(name) for name in told})
    if told - _OF.keys() or not use or rows[0].template != VERSION:
        return ()
    template = Template(calm_face=rows[0].calm_face, use=use)
    return use if all(sentence(row.cues, template) == row.sentence for row in rows) else ()


def sentences_path(config: Config, store: Store) -> Path:
    """`data.text`, or without it the file beside the store: `clips.cues.jsonl` of `clips.store`."""
    return config.data.text or store.path.with_suffix(SUFFIX)


class ClipTokens:
    """The tokens of clips, of sentences that were read once: those that were checked are those that are used."""

    def __init__(self, sentences: Sentences, tokenizer: Tokenizer) -> None:
        self.sentences, self.tokenizer = sentences, tokenizer
        self.facts = facts_of(sentences, tokenizer)

    def of(self, clips: Sequence[str]) -> np.ndarray:
        """int64 (B, L).

        Raises:
            DataError: there is no sentence of one of them, or no token of it.
        """
        return np.stack([self.tokenizer(text) for text in self.sentences.of(clips)])

    def cut(self, clips: Iterable[str]) -> str:
        """How many of their sentences are longer than what the model reads, for a person; empty where none is."""
        readings = [self.tokenizer.read(text) for text in self.sentences.of(clips)]
        return cut_words(readings)


def check_sentences(config: Config, store: Store, tokenizer: Tokenizer | None = None) -> ClipTokens | None:
    """Whether every clip that is used has a sentence, and every sentence is of a clip of the store.

    `tokenizer` is the model's; by default that of the configuration.

    Returns:
        The tokens of the clips; None for a model that reads none.

    Raises:
        ConfigError: the file is not there.
        DataError: a clip has no sentence, or a sentence is of another clip; names them. Or the file is damaged.
        WeightsError: the tokenizer cannot be used.
    """
    if config.model.text is None:
        return None
    path = sentences_path(config, store)
    if not path.is_file():
        raise ConfigError(
            f"the model reads sentences, and there are none at {path}: make them with `mmadfer textualise "
            f"{store.path} --out {path}`, or set data.text (`mmadfer evaluate --sentences`)"
        )
    found, used = read_sentences(path), [clip.id for clip in used_clips(config, store)]
    _refuse(f"{path} has no sentence of", sorted({*used} - found.texts.keys()), f"make it again of {store.path}")
    odd = sorted(found.texts.keys() - store.clips.keys())
    _refuse(f"{path} has sentences of", odd, f"which {store.path} has not: it was made of another store")
    return ClipTokens(found, tokenizer or tokenizer_of(config.model.text))


def _refuse(what: str, clips: Sequence[str], cure: str) -> None:
    if clips:
        more = f" and {len(clips) - _MAX_SHOWN} more" if len(clips) > _MAX_SHOWN else ""
        raise DataError(f"{what} {len(clips)} clip(s), {', '.join(clips[:_MAX_SHOWN])}{more}: {cure}")


def facts_of(found: Sentences, tokenizer: Tokenizer) -> TextFacts:
    """What a contract says of them."""
    return TextFacts(
        template=found.template,
        calm_face=found.calm_face,
        use=found.use,
        tokenizer=tokenizer.hash,
        sentences=found.hash,
    )


def check_facts(trained: TextFacts | None, now: TextFacts | None) -> None:
    """Whether sentences are made, and tokens of them, as those that a model was trained on.

    Raises:
        DataError: another template made the sentences.
        WeightsError: it is another tokenizer.
    """
    if trained is None or now is None:
        return
    ways = [
        f"{one.template}, calm_face {one.calm_face}, of {', '.join(one.use) or 'own cues'}" for one in (trained, now)
    ]
    if ways[0] != ways[1]:
        raise DataError(
            f"the model was trained on sentences of template {ways[0]}, and these are of {ways[1]}: make them that way"
        )
    if trained.tokenizer != now.tokenizer:
        raise WeightsError(
            f"the tokenizer (hash {now.tokenizer[:12]}) is not the one that the model was trained with "
            f"({trained.tokenizer[:12]}): put that {NAME} back"
        )


def check_same_sentences(contract: Contract, store: Store, now: TextFacts | None) -> None:
    """As `check_facts`; on the store that the model was trained on, the sentences must be those of training, too.

    Raises:
        DataError: they are others.
    """
    check_facts(contract.text, now)
    if contract.text is None or now is None or contract.store != store.header.fingerprint:
        return
    if contract.text.sentences != now.sentences:
        raise DataError(
            f"the model was trained on other sentences of {store.path} (hash {contract.text.sentences[:12]}) than "
            f"the given ones ({now.sentences[:12]}): give those of training, beside the store or by --sentences"
        )
