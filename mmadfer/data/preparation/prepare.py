"""A clip table to one store: resumable, in parallel, and nothing half-written is ever taken for whole.

Clips are prepared in parts of about 64, each a small store of its own in `OUT.partial/`. A restart keeps the parts
whose own clips have the same files and settings. Where one part ends and the next begins is up to the ids there, so
that a file that changed costs one part, and a clip that is new or gone one or two, seldom more.
When all parts are there, they are copied into OUT one after the other, and OUT appears by one rename.

Until then the disk holds both, twice the size of the store. The parts could be dropped as they are copied, but a kill
would then cost what was dropped, hours of work for minutes of disk space; and one growing file, without parts, could
not replace the clips of a file that changed.

Whether files are the same is decided by size and SHA-256. Their dates only say which need not be read again; they are
in `OUT.files.json`, which can be deleted, and not in the store, whose bytes do not change with a copy of the media.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import IO, Any

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.faces.detection import detector
from mmadfer.data.faces.landmarks import model_of
from mmadfer.data.preparation.side_files import files_of, read_stamps, write_beside, write_stamps
from mmadfer.data.preparation.summary import Summary, print_summary, report_of, summarise_preparation, write_report
from mmadfer.data.preparation.workers import ClipJob, PreparedClip, outcomes
from mmadfer.data.sets import ClipTable
from mmadfer.data.store.source_files import UNREAD, Digest, Files, changed_files
from mmadfer.data.store.store import Clip, Header, Store, write_store, writing_store
from mmadfer.errors import DataError
from mmadfer.run.lock import taken
from mmadfer.utils.files import open_lock, temporaries
from mmadfer.utils.progress import Meter

__all__ = ["Summary", "prepare", "print_summary"]

_PREPARATION_VERSION = 5
"""Raised whenever the same files and settings would give another store."""
PART = 64
"""Clips in a part, on average; at most twice as many."""


def prepare(table: ClipTable, out: Path | str, settings: PrepareConfig, jobs: int = 1, device: str = "cpu") -> Summary:
    """Prepare all clips of a table into the store `out`, and write `OUT.report.json` beside it.

    Clips without face or sound, and those that cannot be decoded, are left out and listed; none is replaced.

    Args:
        table: the clips.
        out: the store to write. If it is there, made of the same files with the same settings, nothing is done.
        settings: what is done to each clip.
        jobs: processes; the store has the same bytes with any number.
        device: where faces are looked for, `cpu` or `cuda`.

    Raises:
        DataError: `out` exists and is something else, its files have changed, another process prepares it, no clip is
            left, or a full disk.
        MissingDependencyError: neither PyTorch nor ONNX Runtime is installed, or there is no such device; landmarks
            are wanted, and ONNX Runtime is not installed.
    """
    begin, out = monotonic(), Path(out).absolute()
    model = model_of(settings.landmarks)
    header = Header(table.name, table.labels, settings, table.root, targets=table.targets, landmarks=model)
    tasks = _tasks(table, settings, device)
    if out.exists():
        return _already(out, table, tasks, header)
    if not all(source.cropped for source in table.clips):
        detector(device)  # tells here that it is missing, before workers are started
    partial = _partial(out)
    with writing_store(out), _locked(partial):
        if not out.exists():  # or another process has finished it since
            parts = _parts(tasks, partial)
            _prepare_parts(parts, header, jobs)
            clips, left_out, stamps = _assemble(parts, out, header)
            summary = summarise_preparation(out, table, clips, left_out, monotonic() - begin)
            if clips:
                _remove(parts)  # now, as the disk may be full
            write_beside(summary, stamps)
            shutil.rmtree(partial, ignore_errors=True)  # another process may look at the lock in it, and find the store
            return _not_empty(summary)
    return _already(out, table, tasks, header)


def _not_empty(summary: Summary) -> Summary:
    if not summary.kept:
        raise DataError(
            f"none of the {len(summary.left)} clips of {summary.data_set!r} can be used, so no store was written: "
            f"{_examples(summary)}; {summary.report} lists them all"
        )
    return summary


def _tasks(table: ClipTable, settings: PrepareConfig, device: str) -> list[ClipJob]:
    """The clips in the order of their ids, in which they are prepared and stored."""

    def relative(path: Path) -> str:
        return path.absolute().relative_to(table.root).as_posix()

    return [
        ClipJob(
            clip,
            relative(clip.media),
            settings,
            None if clip.sound is None else relative(clip.sound),
            device,
            {name: relative(path) for name, path in clip.tensors.items()},
            table.targets,
        )
        for clip in sorted(table.clips, key=lambda clip: clip.id)
    ]


def _fingerprint(header: Header, tasks: Iterable[ClipJob], digests: Mapping[str, Digest]) -> str:
    """SHA-256 over everything that decides what is in the store."""
    clips = [_identity(task, digests.get(task.source.id, UNREAD)) for task in tasks]
    targets = {name: asdict(found) for name, found in sorted(header.targets.items())}
    listed = [
        _PREPARATION_VERSION,
        header.data_set,
        header.labels,
        targets,
        header.prepare.model_dump(mode="json"),
        clips,
        *([header.landmarks] if header.landmarks else []),
    ]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _identity(task: ClipJob, found: Digest) -> list[Any]:
    clip = task.source
    named = [sorted(pairs.items()) for pairs in (clip.targets, clip.splits, task.tensors)]
    how = (clip.cropped, clip.numbered)
    more = [sorted(clip.groups.items())] if clip.groups else []  # those of before had none
    return [clip.id, task.media, task.sound, clip.label, clip.fold, clip.subject, *how, *named, *more, *found]


def _files(tasks: Iterable[ClipJob]) -> dict[str, Files]:
    return {task.source.id: task.source.files for task in tasks}


def _already(out: Path, table: ClipTable, tasks: list[ClipJob], header: Header) -> Summary:
    with Store(out) as store:
        if store.header.fingerprint != _fingerprint(header, tasks, store.digests):
            raise DataError(
                f"{out} exists and was prepared from other clips or with other settings: "
                "choose another --out, or delete it"
            )
        _check_files(out, _files(tasks), store.digests)
        summary = summarise_preparation(out, table, store.clips.values(), dict(store.left_out), 0.0)
        was = store.root
    if not summary.report.exists():
        with suppress(OSError):  # a disk that is only for reading
            write_report(summary)
    _clear(_partial(out))
    return replace(summary, already=True, notes=(*summary.notes, *_moved(out, was, table.root)))


def _moved(out: Path, was: Path, now: Path) -> tuple[str, ...]:
    if os.path.realpath(was) == os.path.realpath(now):
        return ()
    return (
        f"the clips' files are in {now}; {out.name} still looks for them in {was} (`mmadfer doctor STORE --media`): "
        "put them back, or a link to them, or prepare another store where that matters",
    )


def _check_files(out: Path, files: Mapping[str, Files], were: Mapping[str, Digest]) -> None:
    """Compare the clips' files with what they were, and note their dates where these alone have changed."""
    with Meter("looking at media files", len(files), goes_on=False) as meter:
        before = read_stamps(out)
        changed, now = changed_files(files, were, before, meter.step)
    if changed:
        first = ", ".join(f"{name} {how}" for name, how in list(changed.items())[:5])
        raise DataError(
            f"the files of {len(changed)} of {len(files)} clips are not those that {out} was prepared from ({first}): "
            "put them back, or delete it and prepare again, or choose another --out"
        )
    if now != before:
        write_stamps(out, now)


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
    out = partial.with_suffix("")
    with _lock_file(partial) as lock:
        if not taken(lock, partial, 0):
            raise DataError(f"another process is preparing {out}: wait for it, or end it")
        beside = (left for path in (out, files_of(out), report_of(out)) for left in temporaries(path))
        for left in (*partial.glob(".*.tmp"), *beside):
            left.unlink(missing_ok=True)
        yield


def _lock_file(partial: Path, tries: int = 9) -> IO[str]:
    try:
        partial.mkdir(parents=True, exist_ok=True)
        if partial.is_symlink():  # what lies in it may be somebody else's, and is written and deleted there
            raise DataError(f"{partial} is a link, but must be a folder of this program: remove it")
        return open_lock(partial / "lock")
    except (FileNotFoundError, FileExistsError):  # a process that has finished is just removing the folder
        if not tries:
            raise
        return _lock_file(partial, tries - 1)


def _parts(tasks: list[ClipJob], partial: Path) -> dict[Path, list[ClipJob]]:
    """Cut before an id whose hash says so, whatever the other clips are, and name each part by its first clip."""
    parts, part = dict[Path, list[ClipJob]](), list[ClipJob]()
    for task in tasks:
        name = hashlib.blake2b(task.source.id.encode(), digest_size=8).hexdigest()
        if not part or len(part) >= 2 * PART or int(name, 16) % PART == 0:
            part = parts[partial / f"part-{name}"] = []
        part.append(task)
    return parts


def _prepare_parts(parts: dict[Path, list[ClipJob]], header: Header, jobs: int) -> None:
    """Write the parts that are not there yet."""
    todo = _unfinished(parts, header)
    tasks = [task for part in todo.values() for task in part]
    before = sum(map(len, parts.values())) - len(tasks)
    with closing(outcomes(tasks, jobs)) as results, Meter("preparing clips", len(tasks), before) as meter:
        shown = _shown(results, meter)
        for path, part in todo.items():
            _write_part(path, part, islice(shown, len(part)), header)


def _shown(results: Iterable[PreparedClip], meter: Meter) -> Iterator[PreparedClip]:
    lost = 0
    for outcome in results:
        lost += outcome.clip is None
        meter.step(f"{lost} left out")
        yield outcome


def _write_part(path: Path, tasks: Sequence[ClipJob], results: Iterable[PreparedClip], header: Header) -> None:
    """Write clips as they come, so that not all of a part's records are in memory."""
    done = list[PreparedClip]()

    def kept() -> Iterator[tuple[Clip, bytes]]:
        for outcome in results:
            done.append(replace(outcome, data=b""))
            if outcome.clip:
                yield outcome.clip, outcome.data

    write_store(path, header, kept(), lambda header: _part_header(header, tasks, done))


def _part_header(header: Header, tasks: Sequence[ClipJob], done: Sequence[PreparedClip]) -> Header:
    lost = [outcome for outcome in done if outcome.clip is None]
    return replace(
        header,
        fingerprint=_fingerprint(header, tasks, {outcome.id: outcome.digest for outcome in done}),
        left_out={outcome.id: f"{outcome.reason}: {outcome.detail}" for outcome in lost},
        left_out_files={outcome.id: outcome.digest for outcome in lost},
        stamps={outcome.id: outcome.stamp for outcome in done},
    )


def _unfinished(parts: dict[Path, list[ClipJob]], header: Header) -> dict[Path, list[ClipJob]]:
    there = {path: tasks for path, tasks in parts.items() if path.exists()}
    kept = set[Path]()
    with Meter("checking finished parts", sum(map(len, there.values())), goes_on=False) as meter:
        for path, tasks in there.items():
            kept |= {path} if _is_finished(path, tasks, header) else set()
            for _ in tasks:
                meter.step()
    return {path: tasks for path, tasks in parts.items() if path not in kept}


def _is_finished(path: Path, tasks: list[ClipJob], header: Header) -> bool:
    try:
        with Store(path) as part:
            if part.header.fingerprint != _fingerprint(header, tasks, part.digests):
                return False
            return not changed_files(_files(tasks), part.digests, part.header.stamps)[0] and not part.verify()
    except DataError:
        return False


def _assemble(
    parts: Mapping[Path, list[ClipJob]], out: Path, header: Header
) -> tuple[list[Clip], dict[str, str], dict[str, str]]:
    """Join the parts, one after the other; without any clip no store is written.

    Returns:
        the clips, id -> why it is left out, and id -> stamp of its files.
    """
    clips, digests, stamps = list[Clip](), dict[str, Digest](), dict[str, str]()
    left_out, left_out_files = dict[str, str](), dict[str, Digest]()
    for path in parts:
        with Store(path) as part:
            clips += part.clips.values()
            digests |= part.digests
            left_out |= part.left_out
            left_out_files |= part.header.left_out_files
            stamps |= part.header.stamps
    if clips:
        print_ = _fingerprint(header, (task for tasks in parts.values() for task in tasks), digests)
        about = replace(header, fingerprint=print_, left_out=left_out, left_out_files=left_out_files)
        write_store(out, about, _records(parts))
    return clips, left_out, stamps


def _remove(parts: Iterable[Path]) -> None:
    for path in parts:
        path.unlink(missing_ok=True)


def _records(parts: Iterable[Path]) -> Iterator[tuple[Clip, bytes]]:
    for path in parts:
        with Store(path) as part:
            for clip in part.clips.values():
                yield clip, part.raw(clip.id)


def _examples(summary: Summary) -> str:
    counted = Counter(reason for _, reason in summary.left_out)
    kinds = ", ".join(f"{count} {reason}" for reason, count in counted.most_common())
    return f"{kinds}; the first: {summary.left[0].detail}"
