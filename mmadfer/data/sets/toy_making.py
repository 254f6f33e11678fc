"""How a toy set is made: a plan first, then clip by clip in worker processes; a set begun can be finished."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from mmadfer.data.store.store import writing_store
from mmadfer.errors import DataError
from mmadfer.utils import cores
from mmadfer.utils.files import read_object, write_json
from mmadfer.utils.optional import need
from mmadfer.utils.progress import Meter
from mmadfer.utils.worker_processes import pool, submit_work

T = TypeVar("T")
PLAN = "plan.json"
"""What is being made, and how many clips of it."""
PER_CLASS = "clips_per_class"
"""The key of the count, of a set with as many clips of each class."""
LabelledClip = tuple[Path, str, int]
"""The set's folder, and a clip's label and number."""


def check_folder(root: Path, name: str) -> None:
    """Raise DataError where `root` holds something, and no toy set was begun there."""
    if (root / PLAN).is_file() or not root.exists():
        return
    if not root.is_dir() or any(path for path in root.iterdir() if path.suffix != ".tmp"):
        raise DataError(f"{root} is not a {name} set and not empty: choose another folder for it")


def begin_set(root: Path, plan: dict[str, Any], what: str, count: int) -> int:
    """Begin a set of `count` clips, or go on with the one begun; returns how many that has.

    Args:
        root: the folder of the set.
        plan: all else that decides what the clips hold, and `name`.
        what: the key of the count in the plan.
        count: how many clips, of each class or in all.

    Raises:
        DataError: `root` holds something else.
    """
    check_folder(root, plan["name"])
    if not (root / PLAN).is_file():
        write_json(root / PLAN, {**plan, what: count})
    return clips_begun(root, plan, what)


def clips_begun(root: Path, plan: dict[str, Any], what: str) -> int:
    """How many clips the set that `root` holds has, in all or of each class; DataError where its plan is another."""
    begun = read_object(root / PLAN)
    found = begun.pop(what, None)
    if begun != plan or type(found) is not int or found < 1:
        raise DataError(f"{root} holds another toy set than {plan['name']}: choose another folder, or delete this one")
    return found


def make_classes(
    root: Path,
    plan: dict[str, Any],
    count: int,
    classes: Iterable[str],
    make: Callable[[LabelledClip], None],
    made: Callable[[LabelledClip], bool],
    jobs: int | None,
) -> None:
    """A set with `count` clips of each class: what is there is left as it is, and a set begun is finished.

    Raises:
        DataError: `root` holds something else.
    """
    with writing_store(root):
        begin_set(root, plan, PER_CLASS, count)
        clips = [(root, label, k) for label, k in clips_of_classes(root, plan, classes)]
        make_clips(make, clips, made, jobs)


def clips_of_classes(root: Path, plan: dict[str, Any], classes: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Label and number of each clip of such a set; DataError where its plan is another."""
    return product(classes, range(clips_begun(root, plan, PER_CLASS)))


def make_clips(make: Callable[[T], None], clips: Sequence[T], made: Callable[[T], bool], jobs: int | None) -> None:
    """`make(clip)` for those that are not `made` yet, by so many processes at once, by default one for each core."""
    todo = [clip for clip in clips if not made(clip)]
    if not todo:
        return
    need("skimage.data", extra="demo")
    with (
        closing(_each(make, todo, jobs or cores.granted())) as each,
        Meter("making toy clips", len(todo), len(clips) - len(todo)) as meter,
    ):
        for _ in each:
            meter.step()


def _each(make: Callable[[T], None], todo: Sequence[T], processes: int) -> Generator[None]:
    """Yield after each clip that is made."""
    if min(processes, len(todo)) <= 1:
        yield from map(make, todo)
        return
    with pool(min(processes, len(todo))) as workers:
        for future in as_completed([submit_work(workers, make, clip) for clip in todo]):
            yield future.result()
