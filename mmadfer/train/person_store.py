"""A store of labelled sources and of one person's own videos, whose labels nobody knows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from mmadfer.contract import Contract
from mmadfer.data.store.store import Clip, ClipRecord, Header, Store, write_store
from mmadfer.data.video_windows import Windows
from mmadfer.errors import DataError
from mmadfer.runtime.inputs import Video, VideoPart, read_parts
from mmadfer.utils.files import sha256
from mmadfer.utils.prefetch import ahead
from mmadfer.utils.progress import Meter

SPLIT, PERSON, SOURCES = "person", "1", "2"
"""The split of such a store, its fold with the person's clips, and that with the sources'."""
_READY = 4
"""Clips of each video that lie ready."""


@dataclass
class Read:
    """What became of the person's videos."""

    clips: int = 0
    videos: int = 0
    """That gave clips."""
    problems: list[str] = field(default_factory=list)
    """A line for each video, or window, that gave none."""


def write_person_store(
    path: Path,
    contract: Contract,
    name: str,
    videos: Sequence[Video],
    windows: Windows | None,
    sources: tuple[Store, Sequence[Clip]],
    jobs: int = 1,
) -> Read:
    """Write the store; the person's clips are made as `predict` makes them, and hold the frames that the model sees.

    Each bears the first label, which says nothing: under `adapt`, labels of clips that are adapted to are not read.

    Args:
        path: to write.
        contract: of the model that is adapted.
        name: of the person.
        videos: theirs.
        windows: to cut them into; None: each is one clip.
        sources: clips of another store, with their subjects.
        jobs: threads that read videos.

    Raises:
        DataError: a source cannot be read, or the disk is full.
    """
    read, (store, clips) = Read(), sources
    prepare = contract.prepare.model_copy(update={"landmarks": "none"})
    header = Header(contract.data_set, contract.labels, prepare, path.parent)

    def records() -> Iterator[tuple[Clip, ClipRecord | bytes]]:
        for clip in clips:
            plain = replace(clip, fold=2, splits={SPLIT: SOURCES}, targets={}, tensors={})
            if clip.tensors:  # and the sound that a model does not hear
                plain = replace(plain, sound_frames=min(clip.sound_frames, prepare.sound.frames))
            yield plain, _plain(store, clip)
        labelled = {clip.media_digest: str(clip.subject) for clip in clips}
        yield from _own(name, _distinct(videos, labelled, read), contract, windows, jobs, read)

    write_store(path, header, records())
    return read


def _plain(store: Store, clip: Clip) -> ClipRecord | bytes:
    """A source's record, without tensors that a model does not take."""
    if not clip.tensors:
        return store.raw(clip.id)
    record = store.read(clip.id, range(clip.frames))
    return replace(record, tensors={})


def _own(
    name: str, videos: Sequence[Video], contract: Contract, windows: Windows | None, jobs: int, read: Read
) -> Iterator[tuple[Clip, ClipRecord]]:
    """The person's clips, video by video; what cannot be used is noted and left out."""
    with Meter("reading", len(videos), goes_on=False) as meter:
        work = partial(read_parts, contract=contract, windows=windows)
        for number, (video, parts) in enumerate(ahead(videos, work, jobs, _READY)):
            before = read.clips
            for part in _usable(video, parts, read):
                yield _record(f"adapt/{number:05}/{read.clips - before:05}", str(number), name, part, contract)
                read.clips += 1
            read.videos += read.clips > before
            meter.step()


def _distinct(videos: Sequence[Video], labelled: Mapping[str, str], read: Read) -> list[Video]:
    """Without copies of a file, of which one would adapt and another be held out; and without those of the sources,
    which have been learnt with their labels (digest -> subject)."""
    found = dict[str, Video]()
    for video in videos:
        digest = _digest(video.path)
        if digest in labelled:
            read.problems.append(f"{video.path} is among the labelled clips, as one of {labelled[digest]!r}")
            continue
        if digest in found:
            read.problems.append(f"{video.path} is a copy of {found[digest].path}")
        found.setdefault(digest, video)
    return [*found.values()]


def _digest(path: Path) -> str:
    """What copies of one file have in common."""
    try:
        return sha256(path) if path.is_file() else str(path.absolute())
    except OSError:  # told when it is read
        return str(path.absolute())


def _usable(video: Video, parts: Iterable[VideoPart], read: Read) -> Iterator[VideoPart]:
    try:
        for part in parts:
            if part.inputs is None:
                read.problems.append(
                    f"{video.path}, {part.start:g} to {part.end:g} s: {'; '.join(map(str, part.notes))}"
                )
            else:
                yield part
    except DataError as error:
        read.problems.append(str(error))


def _record(clip: str, media: str, name: str, part: VideoPart, contract: Contract) -> tuple[Clip, ClipRecord]:
    assert part.clip is not None
    made = part.clip
    times = np.asarray(made.times)[part.shown[0]]
    about = Clip(clip, contract.labels[0], 1, media, len(made.jpegs), subject=name, rate=made.rate, silent=made.silent)
    return replace(about, splits={SPLIT: PERSON}), ClipRecord(made.jpegs, made.fbank, times)
