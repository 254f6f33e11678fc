"""The sentences that a fold is trained on: the same ones on all of its ranks."""

from pathlib import Path

from mmadfer.config.schema import Config
from mmadfer.contract.facts import TextFacts
from mmadfer.data.draws import digest
from mmadfer.data.sentences import ClipTokens, check_sentences
from mmadfer.data.store.store import Store
from mmadfer.distributed.ranks import Ranks
from mmadfer.errors import DataError
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.text import said_by
from mmadfer.model.weights.build import tensors_hash
from mmadfer.run import checkpoint_state
from mmadfer.run import directory as runs
from mmadfer.run.records import TextRead

_BYTES = 6
"""Of a hash that ranks compare: as many as a float64 holds."""


def data_origin(store: Store, text: TextFacts | None) -> str:
    """What a checkpoint says of the data that it was trained on."""
    read = {"sentences": text.sentences, "tokenizer": text.tokenizer} if text else {}
    return checkpoint_state.data_origin(store.header.fingerprint, read)


def text_read(tokens: ClipTokens | None, model: MMADFER) -> TextRead | None:
    """What a run says of the sentences and of the text encoder of a model that has just been built."""
    if tokens is None:
        return None
    own = {name: value for name, value in model.state_dict().items() if said_by("text", name)}
    return TextRead(sentences=tokens.facts.sentences, tokenizer=tokens.facts.tokenizer, encoder=tensors_hash(own))


def note_text(folder: Path, fold: int, read: TextRead | None) -> None:
    """Write into the run of a fold directory what it reads; raises as `mmadfer.run.directory.note_text`."""
    run = folder.parent
    if read is not None and folder == runs.fold_dir(run, fold):
        runs.note_text(run, fold, read)


def ranks_sentences(config: Config, store: Store, ranks: Ranks) -> ClipTokens | None:
    """The tokens of the clips; None for a model that reads none. All ranks must ask.

    Raises:
        ConfigError, DataError, WeightsError: as `check_sentences`; or the ranks have read other files.
    """
    found = check_sentences(config, store)
    if found is None:
        return None
    mine = int.from_bytes(digest(found.facts.sentences, found.facts.tokenizer)[:_BYTES], "big")
    if len({row[0] for row in ranks.gather([mine])}) > 1:
        raise DataError(
            f"the ranks have read other contents of {found.sentences.path}, or of the tokenizer: it was changed while "
            "they started, or is another file on some node; put the same file there for all, and start again"
        )
    return found
