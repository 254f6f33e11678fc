"""The cues of a clip as numbers, and the file with one row a clip that `mmadfer textualise` writes.

A row is one line of JSON: `id`, `template` (the version of the sentence), `calm_face`, `cues` and `sentence`. Cues that
are not known are not in the row.
"""

from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from mmadfer.config.base import Fraction, Line, Section, problems
from mmadfer.errors import FileError
from mmadfer.utils.files import open_regular, parse_json
from mmadfer.utils.terminal import HIDDEN

MOST_CHARACTERS = 20_000
"""Of a transcript; an hour of speech has three times as many, and no encoder of text reads that."""
MOST_LINE_BYTES = 1 << 20
"""Of a row in a file."""

CalmFace = Literal["own", "program"]
"""What is said of a face without an active unit: that none is active, or as the published program that there is no
face, which then has no expression either."""
Part = Literal["text", "face", "voice"]
PARTS: tuple[Part, ...] = ("text", "face", "voice")
"""In the order of the sentence."""


def one_line(text: str) -> str:
    """The text on one line, without control characters and without blanks at its ends."""
    return " ".join(HIDDEN.sub(" ", text).split())


_Facs = Annotated[int, Field(ge=1, le=99)]
_Number = Annotated[float, Field(ge=-1e6, le=1e6)]
_Count = Annotated[int, Field(ge=0, lt=1 << 31)]
_Name = Annotated[Line, Field(min_length=1, max_length=100)]
_Scores = Annotated[dict[_Name, Fraction], Field(max_length=1000)]
_Words = Annotated[str, Field(max_length=MOST_CHARACTERS), AfterValidator(one_line)]


class FaceCues(Section):
    """What mmadfer measures of a face by its 68 landmarks (`mmadfer.data.cues.face`)."""

    frames: _Count
    """Frames that were looked at."""
    found: _Count
    """Those with landmarks that can be relied on; where there is none, nothing below is known."""
    units: dict[_Facs, Fraction] = Field(default_factory=dict)
    """Number of an action unit in FACS -> a proxy of its intensity, reached in a tenth of the frames; empty
    where the head is turned too far in all frames, so that nothing is known of them."""
    yaw: _Number | None = None
    """Median over frames in degrees; positive to the right of the picture."""
    pitch: _Number | None = None
    """Likewise; positive down."""
    roll: _Number | None = None
    """Likewise; positive clockwise in the picture."""
    eyes_closed: Fraction | None = None
    """Share of the frames."""
    mouth_open: Fraction | None = None
    """Share of the frames."""


class VoiceCues(Section):
    """What Praat measures of the sound (`mmadfer.data.cues.voice`)."""

    speech: bool
    """Whether any part of the sound has a pitch; where none has, nothing below is known."""
    pitch_hz: _Number | None = None
    """Median."""
    pitch_range_semitones: _Number | None = None
    """Between the 10th and the 90th percentile."""
    level_dbfs: _Number | None = None
    """Median of the parts with a pitch; 0 is the loudest that a recording can hold."""
    level_range_db: _Number | None = None
    """Between the 10th and the 90th percentile of these parts."""
    voiced_per_second: _Number | None = None
    """Stretches with a pitch in a second of speech, about one for each syllable or two."""
    words_per_second: _Number | None = None
    """Words of the transcript in a second of speech; where there is a transcript."""
    pauses: _Count | None = None
    """Between the first and the last sound."""
    pause_share: Fraction | None = None
    """Of the time between the first and the last sound."""


class DetectedCues(Section):
    """What detectors of the user's say of a clip; mmadfer has none of these. None is what is not known."""

    units: dict[_Facs, Fraction] | None = None
    """Number of an action unit in FACS -> intensity; goes before `face.units`."""
    emotions: _Scores | None = None
    """Emotion of the face -> probability."""
    prosody: _Scores | None = None
    """Emotion of the voice -> score; empty where no speech was found."""
    arousal: Fraction | None = None
    """Of the voice, as are the next two."""
    dominance: Fraction | None = None
    valence: Fraction | None = None

    def of(self, use: Container[Part]) -> dict[str, Any]:
        """What is known, of the parts of the sentence that are used."""
        parts: dict[Part, tuple[str, ...]] = {
            "face": ("units", "emotions"),
            "voice": ("prosody", "arousal", "dominance", "valence"),
        }
        names = [name for part, some in parts.items() if part in use for name in some]
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class Cues(DetectedCues):
    """All that is known of a clip; None is what is not known or not used."""

    transcript: _Words | None = None
    """Empty where nothing is said."""
    face: FaceCues | None = None
    voice: VoiceCues | None = None


class DetectedRow(Section):
    """A line of a file of the user's."""

    id: Annotated[Line, Field(min_length=1)]
    cues: DetectedCues


class Row(Section):
    """A line of the file."""

    id: Annotated[Line, Field(min_length=1)]
    template: Annotated[int, Field(ge=1)]
    """The version of the template that made the sentence (`mmadfer.data.cues.template`)."""
    calm_face: CalmFace = "own"
    cues: Cues = Cues()
    sentence: Line
    notes: tuple[Line, ...] = ()
    """What a person should know of the clip."""

    def to_line(self) -> str:
        """The row as it stands in the file, with its line break."""
        return self.model_dump_json(exclude_none=True, exclude=None if self.notes else {"notes"}) + "\n"


def read_rows(path: Path | str, seen: Callable[[bytes], object] | None = None) -> Iterator[Row]:
    """The rows of a file, one after the other; of the whole file, the ids alone are held.

    `seen` is called with the bytes of each line, in their order: together they are the file's.

    Raises:
        FileError: no regular file, a line that is no row (it is named) or too long, or an id that is there twice.
        OSError: it cannot be read.
    """
    return (row for _, row in _rows(path, Row, seen))


def read_detected(path: Path | str) -> dict[str, tuple[int, DetectedCues]]:
    """Id of each clip in a file of the user's -> the line, from 1, and what detectors say there; as `read_rows`."""
    return {row.id: (number, row.cues) for number, row in _rows(path, DetectedRow)}


R = TypeVar("R", Row, DetectedRow)


def _rows(path: Path | str, kind: type[R], seen: Callable[[bytes], object] | None = None) -> Iterator[tuple[int, R]]:
    """The rows, each with its line, from 1; blank lines are no rows."""
    ids = set[str]()
    with open_regular(path) as file:
        for number, line in enumerate(_lines(file, path), 1):
            if seen is not None:
                seen(line)
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            row = _row(line, where, kind)
            if row.id in ids:
                raise FileError(f"{where}: clip {row.id!r:.200} has a row before; each clip has one")
            ids.add(row.id)
            yield number, row


def _lines(file: BinaryIO, path: Path | str) -> Iterator[bytes]:
    while line := file.readline(MOST_LINE_BYTES + 1):
        if len(line) > MOST_LINE_BYTES:
            raise FileError(f"{path} has a line of more than {MOST_LINE_BYTES} bytes: it is no file of cues")
        yield line


def _row(line: bytes, where: str, kind: type[R]) -> R:
    try:
        return kind.model_validate(parse_json(line, where))
    except ValidationError as error:
        told = "; ".join(problems(error, kind)[:5])
        raise FileError(f"{where} is no row of cues: {told}. docs/cues.md says what a row has") from error
