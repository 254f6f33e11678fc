"""A toy set in which only words tell two compound classes apart: drawn faces that look the same, and what is said.

    root/LABEL/ID/00.jpg …   the frames, which show nothing but the face and what is around it
    root/transcripts.csv     clip,text: for `mmadfer textualise --transcripts`

A face of `happiness_surprise` and one of `fear_surprise` move as one of surprise; one of `sadness` is another. What is
said names a reason of the class, between words that are the same for all. There is no sound. The names of the classes
are of the field; nobody's emotion is measured here.
"""

from pathlib import Path

import numpy as np

from mmadfer.data.sets import ClipTable, SourceClip
from mmadfer.data.sets.toy_making import clips_of_classes, make_classes
from mmadfer.data.sets.toy_units import FRAMES, content, write_frames
from mmadfer.data.store.store import writing_store
from mmadfer.utils.csv_cells import to_csv
from mmadfer.utils.files import write_text

FACES = {"happiness_surprise": "surprise", "fear_surprise": "surprise", "sadness": "sad"}
"""Label -> the class of `toy_units` that its face is of."""
REASONS = {
    "happiness_surprise": ("a gift", "we won", "my birthday", "good news", "you came back", "a party"),
    "fear_surprise": ("a noise", "in the dark", "someone is there", "the door moved", "we must run", "a scream"),
    "sadness": ("she is gone", "it is over", "we lost", "nobody called", "bad news", "I miss him"),
}
BEFORE = ("Oh,", "Look,", "Wait,", "Now", "Well,", "So")
AFTER = ("today.", "at last.", "I think.", "you know.", "this time.", "really.")
CLIPS_PER_CLASS = 60
TRANSCRIPTS = "transcripts.csv"
_SEED = 1
_PLAN = {"name": "toy_words", "version": 1, "seed": _SEED}


def table(root: Path | str, folds: int = 3) -> ClipTable:
    """The clips under `root`, which are made where they are not there yet; folds have equal shares of the classes.

    Raises:
        DataError: `root` holds something else.
    """
    root = Path(root)
    make(root)
    clips = [
        SourceClip(_folder(root, label, k).name, _folder(root, label, k), label, k % folds + 1, cropped=True)
        for label, k in clips_of_classes(root, _PLAN, FACES)
    ]
    return ClipTable("toy_words", tuple(FACES), clips)


def make(root: Path, clips_per_class: int = CLIPS_PER_CLASS, jobs: int | None = None) -> None:
    """Make the clips and their transcripts; what is there is left as it is, and a set begun is finished.

    Raises:
        DataError: `root` holds something else.
    """
    make_classes(root, _PLAN, clips_per_class, FACES, _make_one, _whole, jobs)
    said = [(_folder(root, label, k).name, said_in(label, k)) for label, k in clips_of_classes(root, _PLAN, FACES)]
    with writing_store(root):
        write_text(root / TRANSCRIPTS, to_csv([("clip", "text"), *said]))


def said_in(label: str, number: int) -> str:
    """What is said in a clip."""
    rng = np.random.RandomState([_SEED, list(FACES).index(label), number])
    return " ".join(words[rng.randint(len(words))] for words in (BEFORE, REASONS[label], AFTER))


def _folder(root: Path, label: str, number: int) -> Path:
    return root / label / f"{label}-{number:03d}"


def _whole(asked: tuple[Path, str, int]) -> bool:
    return (_folder(*asked) / f"{FRAMES - 1:02d}.jpg").is_file()


def _make_one(asked: tuple[Path, str, int]) -> None:
    _, label, number = asked
    frames, _ = content(FACES[label], number + CLIPS_PER_CLASS * list(FACES).index(label))
    write_frames(_folder(*asked), frames)
