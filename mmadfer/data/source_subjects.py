"""Which people a fold is trained on, where `task.subjects` draws their features together.

Nothing here imports torch, so that a launcher can ask.
"""

from collections.abc import Iterable

from mmadfer.config.schema import Config
from mmadfer.data.fold_clips import training_clips
from mmadfer.data.store.record import Clip
from mmadfer.data.store.store import Store
from mmadfer.errors import DataError


def subjects_of(clips: Iterable[Clip]) -> list[str]:
    """The subjects of clips, sorted."""
    return sorted({clip.subject for clip in clips if clip.subject})


def check_subjects(config: Config, store: Store, folds: Iterable[int]) -> None:
    """Refuse `task.subjects` where the clips that a fold is trained on are not of two people or more.

    Raises:
        DataError: a clip has no subject, or all are of one.
    """
    if config.task.subjects is None:
        return
    for fold in folds:
        clips = training_clips(config, store, fold)
        if nameless := [clip.id for clip in clips if not clip.subject]:
            raise DataError(
                f"{store.path} ({store.data_set}) has no subject of {len(nameless)} of {len(clips)} training clips of "
                f"fold {fold} ({nameless[0]} for one), and task.subjects draws people together: prepare a set that "
                "says whom its clips show (crema_d, ravdess, or a CSV file with a column subject), or leave "
                "task.subjects out"
            )
        if len(people := subjects_of(clips)) < 2:
            raise DataError(
                f"{store.path}: the training clips of fold {fold} are all of {people[0]!r}, and task.subjects draws "
                "people together: two or more are needed, or leave task.subjects out"
            )
