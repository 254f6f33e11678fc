"""MELD (Poria et al. 2019): 13,708 utterances of dialogues of a television series, with words, speaker and emotion.

train_sent_emo.csv, dev_sent_emo.csv, test_sent_emo.csv     Utterance, Speaker, Emotion, Dialogue_ID, Utterance_ID
train_splits/, dev_splits_complete/, output_repeated_splits_test/    dia0_utt0.mp4 …
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mmadfer.data import splits as fold
from mmadfer.data.sets import ClipTable, SourceClip, layout
from mmadfer.data.sets.listing import list_text
from mmadfer.errors import DataError
from mmadfer.utils.csv_cells import to_csv
from mmadfer.utils.files import write_text
from mmadfer.utils.folders import Folders
from mmadfer.utils.names import one_form

LABELS = ("neutral", "joy", "sadness", "anger", "surprise", "fear", "disgust")
"""Nobody has published an order, so this one is ours."""
SPLIT = "official"
PARTS = {
    "train": ("train", "train_splits"),
    "dev": ("validation", "dev_splits_complete"),
    "test": ("test", "output_repeated_splits_test"),
}
"""As files are called -> part of the split `official`, and folder of the films."""
_TOTAL_CLIPS = 13_708
_COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")
_LAYOUT = "train_sent_emo.csv, dev_sent_emo.csv and test_sent_emo.csv, and films such as train_splits/dia0_utt0.mp4"


class _Utterance(NamedTuple):
    """A row of a list."""

    part: str
    dialogue: int
    number: int
    text: str
    speaker: str
    label: str

    @property
    def id(self) -> str:
        return f"{self.part}-{self.film}"

    @property
    def film(self) -> str:
        return f"dia{self.dialogue}_utt{self.number}"


def table(root: Path, folds: int = 5) -> ClipTable:
    """The utterances; ids are `train-dia0_utt0`, subjects the speakers. Folds keep dialogues whole.

    The split `official` has the owners' parts for training, validation and testing. Films without a row are passed
    over, as their owners advise.

    Raises:
        DataError: a list is missing or cannot be understood (the line is named), or none of the films is there.
    """
    rows = _rows(root)
    folder = {part: layout.locate(root, name) or root / name for part, (_, name) in PARTS.items()}
    media = {row.id: folder[row.part] / f"{row.film}.mp4" for row in rows}
    dialogues = {row.id: f"{row.part}-{row.dialogue}" for row in rows}
    fold_of = fold.assign({row.id: row.label for row in rows}, folds, subjects=dialogues)
    clips = [
        SourceClip(row.id, media[row.id], row.label, fold_of[row.id], row.speaker, splits={SPLIT: PARTS[row.part][0]})
        for row in rows
    ]
    gone = layout.missing([*media.values()], Folders(), _LAYOUT)
    return ClipTable("meld", LABELS, clips, (*layout.size_notes(len(rows), _TOTAL_CLIPS, "MELD"), *gone))


def write_transcripts(root: Path | str, out: Path | str) -> None:
    """Write what is said in each clip as `mmadfer textualise --transcripts` takes it, `clip,text`.

    Raises:
        DataError: as `table`.
    """
    write_text(Path(out), to_csv([("clip", "text"), *((row.id, row.text) for row in _rows(Path(root)))]))


def _rows(root: Path) -> list[_Utterance]:
    rows = [row for part in PARTS for row in _read(_list(root, f"{part}_sent_emo.csv"), part)]
    ids = [row.id for row in rows]
    if len({*ids}) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise DataError(f"{root} lists {twice} twice: each utterance has one row")
    return rows


def _list(root: Path, name: str) -> Path:
    found = next((folder / name for folder in layout.below(root) if (folder / name).is_file()), None)
    if found is None:
        raise DataError(f"{root} has no {name}: expected {_LAYOUT}")
    return found


def _read(path: Path, part: str) -> Iterator[_Utterance]:
    reader = csv.DictReader(io.StringIO(list_text(path), newline=""), strict=True)
    if lacking := [name for name in _COLUMNS if name not in (reader.fieldnames or ())]:
        raise DataError(f"{path} has no column {lacking[0]}: it needs {', '.join(_COLUMNS)}")
    try:
        for cells in reader:
            yield _utterance(f"{path}, line {reader.line_num}", cells, part)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error


def _utterance(where: str, cells: dict[str, str], part: str) -> _Utterance:
    text, speaker, label, dialogue, number = (one_form((cells[name] or "").strip()) for name in _COLUMNS)
    if label not in LABELS or not (dialogue.isdecimal() and number.isdecimal()) or not speaker:
        raise DataError(
            f"{where}: emotion {label!r:.40} of {speaker!r:.40} in dialogue {dialogue!r:.20}, utterance "
            f"{number!r:.20}: expected one of {', '.join(LABELS)}, a speaker, and two numbers"
        )
    return _Utterance(part, int(dialogue), int(number), text, speaker, label)
