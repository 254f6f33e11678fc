"""A clip table to one store: resumable, in parallel, and nothing half-written is ever taken for whole.

Clips are prepared in parts of 64, each a small store of its own in `OUT.partial/`. A restart keeps the finished parts
of the same files and settings. When all are there, they are assembled into OUT, which appears by one rename.
"""

import fcntl
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from time import monotonic

from mmadfer.config import PrepareConfig
from mmadfer.data.faces import detector
from mmadfer.data.progress import Meter
from mmadfer.data.sets import Source, Table
from mmadfer.data.store import Clip, Header, Store, write, writing
from mmadfer.data.summary import Summary, print_summary, summarise, write_report
from mmadfer.data.workers import Task, outcomes
from mmadfer.errors import DataError

__all__ = ["Summary", "prepare", "print_summary"]

VERSION = 1
"""Raised whenever the same files and settings would give another store."""
PART = 64


def prepare(table: Table, out: Path | str, settings: PrepareConfig, jobs: int = 1) -> Summary:
    """Prepare all clips of a table into the store `out`, and write `OUT.report.json` beside it.

    Clips without face or sound, and those that cannot be decoded, are left out and listed; none is replaced.

    Args:
        table: the clips.
        out: the store to write. If it is there, made of the same files with the same settings, nothing is done.
        settings: what is done to each clip.
        jobs: processes; the store has the same bytes with any number.

    Raises:
        DataError: `out` exists and is something else, another process prepares it, no clip is left, or a full disk.
        MissingDependencyError: facenet-pytorch is not installed.
    """
    begin, out = monotonic(), Path(out).absolute()
    header = Header(table.name, table.labels, settings, table.root, fingerprint(table, settings))
    if out.exists():
        return _already(out, table, header)
    detector()  # tells here that it is missing, before workers are started
    partial = _partial(out)
    with writing(out), _locked(partial):
        parts = _parts(table, settings, partial)
        _prepare_parts(parts, header, jobs)
        clips, left_out = _assemble(parts, out, header)
        summary = summarise(out, table, clips, left_out, monotonic() - begin)
        write_report(summary)
        shutil.rmtree(partial)
    if not clips:
        raise DataError(
            f"none of the {len(table.clips)} clips of {table.name!r} can be used, so no store was written: "
            f"{_examples(summary)}; {summary.report} lists them all"
        )
    return summary


def fingerprint(table: Table, settings: PrepareConfig) -> str:
    """SHA-256 over everything that decides what is in the store; of the media files their size and date."""
    clips = [[c.id, _relative(c, table), c.label, c.fold, c.subject, *_stamp(c.media)] for c in table.clips]
    listed = [
        VERSION,
        table.name,
        table.labels,
        settings.model_dump(mode="json"),
        sorted(clips, key=lambda c: str(c[0])),
    ]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _stamp(media: Path) -> tuple[int, int]:
    try:
        found = media.stat()
    except OSError:
        return (-1, -1)  # preparation will list it
    return (found.st_size, found.st_mtime_ns)


def _relative(source: Source, table: Table) -> str:
    return source.media.absolute().relative_to(table.root).as_posix()


def _already(out: Path, table: Table, header: Header) -> Summary:
    with Store(out) as store:
        if store.header.fingerprint != header.fingerprint:
            raise DataError(
                f"{out} exists and was prepared from other files or with other settings: "
                "choose another --out, or delete it"
            )
        summary = summarise(out, table, store.clips.values(), dict(store.left_out), 0.0)
    if not summary.report.exists():
        write_report(summary)
    _clear(_partial(out))
    return replace(summary, already=True)


def _partial(out: Path) -> Path:
    return out.with_name(out.name + ".partial")


def _clear(partial: Path) -> None:
    """Remove what a process left that was killed after it had written the store."""
    if partial.exists():
        with suppress(DataError, OSError), _locked(partial):  # its owner is at work, or this disk is only for reading
            shutil.rmtree(partial)


@contextmanager
def _locked(partial: Path) -> Iterator[None]:
    """Keep other processes off this folder, and clear away what a killed one left of its last file."""
    partial.mkdir(parents=True, exist_ok=True)
    with (partial / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                f"another process is preparing {partial.with_suffix('')}: wait for it, or end it"
            ) from error
        name = partial.name.removesuffix(".partial")
        for left in (*partial.glob(".*.tmp"), *partial.parent.glob(f".{name}.*.tmp")):
            left.unlink()
        yield


def _parts(table: Table, settings: PrepareConfig, partial: Path) -> dict[Path, list[Task]]:
    tasks = [Task(clip, _relative(clip, table), settings) for clip in sorted(table.clips, key=lambda clip: clip.id)]
    starts = range(0, len(tasks), PART)
    return {partial / f"part-{start // PART:05d}": tasks[start : start + PART] for start in starts}


def _prepare_parts(parts: dict[Path, list[Task]], header: Header, jobs: int) -> None:
    """Write the parts that are not there yet."""
    todo = {path: tasks for path, tasks in parts.items() if not _is_finished(path, tasks, header)}
    tasks, lost = [task for part in todo.values() for task in part], 0
    before = sum(map(len, parts.values())) - len(tasks)
    with closing(outcomes(tasks, jobs)) as results, Meter("preparing clips", len(tasks), before) as meter:
        for path, part in todo.items():
            clips, left_out = list[tuple[Clip, bytes]](), dict[str, str]()
            for outcome in islice(results, len(part)):
                if outcome.clip:
                    clips.append((outcome.clip, outcome.data))
                else:
                    left_out[outcome.id] = f"{outcome.reason}: {outcome.detail}"
                meter.step(f"{lost + len(left_out)} left out")
            write(path, replace(header, left_out=left_out), clips)
            lost += len(left_out)


def _is_finished(path: Path, tasks: list[Task], header: Header) -> bool:
    try:
        with Store(path) as part:
            same = part.header.fingerprint == header.fingerprint
            return same and {*part.clips, *part.left_out} == {task.source.id for task in tasks} and not part.verify()
    except DataError:
        return False


def _assemble(parts: Iterable[Path], out: Path, header: Header) -> tuple[list[Clip], dict[str, str]]:
    """Join the parts; without any clip no store is written."""
    with ExitStack() as stack:
        stores = [stack.enter_context(Store(path)) for path in parts]
        clips = [clip for store in stores for clip in store.clips.values()]
        left_out = {name: why for store in stores for name, why in store.left_out.items()}
        if clips:
            records = ((clip, store.raw(clip.id)) for store in stores for clip in store.clips.values())
            write(out, replace(header, left_out=left_out), records)
    return clips, left_out


def _examples(summary: Summary) -> str:
    counted = Counter(reason for _, reason in summary.left_out)
    kinds = ", ".join(f"{count} {reason}" for reason, count in counted.most_common())
    return f"{kinds}; the first: {summary.left[0].detail}"
