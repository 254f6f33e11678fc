"""A file with the cues and the sentence of each clip, of a store or of videos; whole when it is there, or not there."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mmadfer.data.cues.cues import PARTS, Cues, DetectedCues, Part, Row, read_detected
from mmadfer.data.cues.stores import measure_clip
from mmadfer.data.cues.template import Template, sentence
from mmadfer.data.cues.transcripts import passed_over, read_transcripts, timed, words_of
from mmadfer.data.cues.videos import Measured, measured_with_words
from mmadfer.data.faces.face_mesh import network
from mmadfer.data.store.store import Store
from mmadfer.errors import ConfigError, DataError
from mmadfer.utils.files import atomic, check_place
from mmadfer.utils.folders import some
from mmadfer.utils.optional import need
from mmadfer.utils.prefetch import ahead
from mmadfer.utils.progress import Meter
from mmadfer.utils.terminal import shown

SUFFIX = ".jsonl"


class Source(NamedTuple):
    """A clip to be put into words."""

    id: str
    media: Path
    measure: Callable[[], Measured]


@dataclass
class Summary:
    """What became of the clips."""

    rows: int = 0
    lacking: Counter[str] = field(default_factory=Counter)
    """What a clip can lack -> how many do."""
    failures: list[DataError] = field(default_factory=list)
    passed_over: dict[Path, Sequence[str]] = field(default_factory=dict)
    """File of the user's -> clips that it has a row of, and the store has not."""

    def count(self, cues: Cues, use: Sequence[Part]) -> None:
        """One more row, with these parts."""
        self.rows += 1
        self.lacking["a face"] += cues.face is not None and not cues.face.found
        self.lacking["speech"] += cues.voice is not None and not cues.voice.speech
        self.lacking["a transcript"] += "text" in use and cues.transcript is None

    def notes(self) -> Iterator[str]:
        """What was not used of files, for a person."""
        for path, clips in self.passed_over.items():
            rows, are = ("1 row is of a clip", "is") if len(clips) == 1 else (f"{len(clips)} rows are of clips", "are")
            yield f"{path}: {rows} that the store has left out ({some(clips)}), and {are} passed over"

    def __str__(self) -> str:
        return ", ".join(f"{count} without {what}" for what, count in self.lacking.items() if count)


def parts(use: Sequence[str], transcripts: Path | None) -> tuple[Part, ...]:
    """The parts of the sentences: those asked for, by default all that there can be.

    Raises:
        ConfigError: no such part; words are asked for and there are none, or the other way round.
    """
    if odd := [name for name in use if name not in PARTS]:
        raise ConfigError(f"--use {odd[0]}: a sentence has the parts {', '.join(PARTS)}")
    if not use:
        return PARTS if transcripts else PARTS[1:]
    if ("text" in use) != (transcripts is not None):
        what = "--use text needs --transcripts FILE" if transcripts is None else "--transcripts needs --use text, too"
        raise ConfigError(f"{what}: the words of a clip are not recognised, but given")
    return tuple(part for part in PARTS if part in use)


def of_store(store: Store, use: Sequence[Part]) -> list[Source]:
    """The clips of a store, by id."""
    were = store.digests
    return [
        Source(clip, store.media(clip), partial(measure_clip, store, clip, use, were[clip])) for clip in store.clips
    ]


def textualise(
    sources: Sequence[Source],
    out: Path,
    template: Template,
    transcripts: Path | None = None,
    detected: Path | None = None,
    *,
    left_out: Collection[str] = (),
    jobs: int = 1,
    go_on: bool = False,
    needs_words: bool = False,
) -> Summary:
    """Write a row for each clip, in their order; the same clips give the same bytes.

    Args:
        sources: the clips.
        out: the file, .jsonl; one that is there is replaced when the last row is written.
        template: how sentences are made; only what it uses is measured.
        transcripts: a file as `read_transcripts` takes it.
        detected: a file with rows of `DetectedCues`, of all or some of the clips.
        left_out: clips that these files may have rows of, too, which are passed over.
        jobs: clips that are read at once.
        go_on: a clip that cannot be read is told of, and has no row; otherwise it ends the work.
        needs_words: one without a transcript cannot be read.

    Raises:
        DataError: a clip twice, none that can be read, or transcripts or detected cues that are not of these clips.
        FileError: these files are damaged.
        ConfigError: nothing can be written there.
        MissingDependencyError: what measures sound or finds landmarks is not installed.
    """
    _check(sources, out, template)
    media = {one.id: one.media for one in sources}
    words = read_transcripts(transcripts, media, left_out) if transcripts else None
    brought, passed = _brought(detected, sources, left_out) if detected else ({}, [])
    told = [(transcripts, words.passed_over if words else []), (detected, passed)]
    summary = Summary(passed_over={file: clips for file, clips in told if file and clips})

    def rows(source: Source) -> Iterator[Row]:
        find = partial(words_of, words, source.id, source.media, needs_words)
        measured, transcript = measured_with_words(source.measure, find, timed(transcripts))
        yield _row(source.id, measured, transcript, brought.get(source.id, DetectedCues()), template)

    made = closing(ahead(sources, rows, jobs, 1))  # type: ignore[type-var]
    with atomic(out) as temporary, temporary.open("w", encoding="utf-8") as file, made as found:
        with Meter("textualising", len(sources), goes_on=False) as meter:
            for _, ready in found:
                try:
                    for row in ready:
                        file.write(row.to_line())
                        summary.count(row.cues, template.use)
                except DataError as error:
                    summary.failures.append(error)
                    if not go_on:
                        raise
                meter.step()
        if not summary.rows:
            raise summary.failures[0] if summary.failures else DataError("there is no clip to put into words")
    return summary


def _check(sources: Sequence[Source], out: Path, template: Template) -> None:
    """Ask before hours of work, not after them."""
    if out.suffix.lower() != SUFFIX:
        raise ConfigError(f"--out {out}: the name must end in {SUFFIX}, as there is one JSON object on each line")
    check_place(out)
    if twice := [name for name, count in Counter(one.id for one in sources).items() if count > 1]:
        raise DataError(f"{twice[0]} is there twice: name each clip once")
    if "face" in template.use:
        network()
    if "voice" in template.use:
        need("parselmouth", extra="cues")


def _brought(
    detected: Path, sources: Sequence[Source], left_out: Collection[str]
) -> tuple[dict[str, DetectedCues], Sequence[str]]:
    """Cues by clip, and the clips of them that were left out."""
    found = read_detected(detected)
    lines = {clip: line for clip, (line, _) in found.items()}
    passed = passed_over(f"{detected} has cues of", lines, {one.id: one for one in sources}, left_out)
    return {clip: cues for clip, (_, cues) in found.items()}, passed


def _row(clip: str, measured: Measured, transcript: str | None, detected: DetectedCues, template: Template) -> Row:
    cues = measured.cues(transcript, detected.of(template.use))
    told = sentence(cues, template)
    notes = tuple(map(shown, measured.notes))
    return Row(id=clip, template=template.version, calm_face=template.calm_face, cues=cues, sentence=told, notes=notes)
