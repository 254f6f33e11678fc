"""Transcripts that a user gives: a CSV with one for each clip, or the subtitles of one film, cut to its clips.

Both may come from a stranger: sizes are bounded, and a clip that is not among those to be textualised is refused by its
name, as transcripts of another set would be no words of these clips.
"""

import csv
import io
from bisect import bisect_left
from collections.abc import Collection, Mapping
from html import unescape
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from mmadfer.data.cues.cues import MOST_CHARACTERS, one_line
from mmadfer.errors import ClipError, DataError, FileError
from mmadfer.utils.files import read_text
from mmadfer.utils.folders import some
from mmadfer.utils.names import one_form
from mmadfer.utils.optional import need

CSV, SUBTITLES = ".csv", {".srt": "subrip.SubripFormat", ".vtt": "webvtt.WebVTTFormat"}
CLIP, TEXT = "clip", "text"
"""Columns of the CSV; others are passed over."""
SEPARATORS = ",;\t"
"""Between columns: a comma, or what spreadsheets write in its place; the header has it."""
_MOST_SHOWN = 5
"""Clips that a message names."""
_MOST_SUBTITLE_BYTES = 1 << 20
"""Of a file of subtitles; those of a long film have a tenth."""
_MOST_CAPTION_CHARACTERS = 2000
"""Between two time stamps: the parser's time grows with the square of it."""

Span = tuple[float, float]
"""Start and end of a clip in its media file, in seconds."""


class Transcripts(Protocol):
    """The words of clips."""

    passed_over: tuple[str, ...]
    """Clips that have a row, and that the store has left out."""

    def of(self, clip: str, span: Span) -> str | None:
        """On one line, empty where nothing is said; None where they are not known."""


def read_transcripts(path: Path, media: Mapping[str, Path], left_out: Collection[str] = ()) -> Transcripts:
    """The transcripts in a file.

    Args:
        path: .csv, .srt or .vtt.
        media: id of each clip that is to be textualised -> its media file.
        left_out: ids of others that may have a row, which is passed over.

    Raises:
        DataError: not such a file, a line that cannot be understood, clips that are among neither (they are named) or a
            clip that is there twice, or subtitles of none of them, or nobody knows of which.
        FileError: the file is too large, or no text.
        MissingDependencyError: pysubs2 is not installed, and it is needed.
    """
    kind = path.suffix.lower()
    if kind == CSV:
        return _Table(path, media, left_out)
    if kind in SUBTITLES:
        return _Subtitles(path, media)
    raise DataError(f"{path} is no file of transcripts by its name: give {CSV}, {' or '.join(SUBTITLES)}")


def timed(path: Path | None) -> bool:
    """Whether the words in a file go by time, as of subtitles; those of a table do not."""
    return path is not None and path.suffix.lower() in SUBTITLES


def words_of(words: Transcripts | None, clip: str, media: Path, needed: bool, span: Span) -> str | None:
    """The words of a clip, where they are known.

    Raises:
        ClipError: they are not, and they are `needed`.
        DataError: there are too many.
    """
    found = words.of(clip, span) if words else None
    if needed and found is None:
        raise ClipError(
            f"{media} has no transcript, and the model has learnt from what is said: give it in --transcripts FILE",
            "no transcript",
        )
    return found


def passed_over(
    what: str, lines: Mapping[str, int], known: Collection[str], left_out: Collection[str]
) -> tuple[str, ...]:
    """The clips with a line in a file, as `what` says, that the store has left out.

    Raises:
        DataError: there are lines of clips that are neither among the `known` nor left out.
    """
    odd = [clip for clip in lines if clip not in known and clip not in left_out]
    if odd:
        told = ", ".join(f"{clip!r:.220} (line {lines[clip]})" for clip in odd[:_MOST_SHOWN])
        more = f" and {len(odd) - _MOST_SHOWN} more" if len(odd) > _MOST_SHOWN else ""
        clips = "1 clip that is" if len(odd) == 1 else f"{len(odd)} clips that are"
        raise DataError(
            f"{what} {clips} none of the {len(known)} that are put into words ({some([*known])}): {told}{more}: is the "
            "file of another data set? Take these lines out, or give the right file"
        )
    return tuple(clip for clip in lines if clip not in known)


# ---------------------------------------------------------------- a table


class _Table:
    def __init__(self, path: Path, media: Mapping[str, Path], left_out: Collection[str]) -> None:
        known, lines = {one_form(clip): clip for clip in (*left_out, *media)}, dict[str, int]()
        self._words = dict[str, str]()
        for line, name, text in _rows(path):
            clip, where = known.get(one_form(name), name), f"{path}, line {line}"
            if clip in self._words:
                raise DataError(f"{where}: clip {clip!r} is there twice; give each clip one transcript")
            if len(text) > MOST_CHARACTERS:
                raise DataError(f"{where}: {len(text)} characters are too many for a transcript ({MOST_CHARACTERS})")
            self._words[clip], lines[clip] = one_line(text), line
        self.passed_over = passed_over(f"{path} has words of", lines, media, left_out)

    def of(self, clip: str, span: Span) -> str | None:
        return self._words.get(clip)


def _rows(path: Path) -> list[tuple[int, str, str]]:
    """Of each row that is not blank: its line, the clip and its text."""
    text = read_text(path)
    begin = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=max(SEPARATORS, key=begin.count))
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if {CLIP, TEXT} - {*header} or len({*header}) < len(header):
            raise DataError(f"{path} has the columns {', '.join(header) or 'none'!s:.200}: {CLIP},{TEXT} are meant")
        rows = [(reader.line_num, cells) for cells in reader if any(cells)]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}; quote a text with commas as a whole") from error
    if short := next((line for line, cells in rows if len(cells) != len(header)), None):
        cure = "quote a text with commas as a whole"
        raise DataError(f"{path}, line {short} has not {len(header)} cells as the first line; {cure}")
    clip, words = header.index(CLIP), header.index(TEXT)
    return [(line, cells[clip].strip(), cells[words]) for line, cells in rows]


# ---------------------------------------------------------------- subtitles


class _Caption(NamedTuple):
    start: float
    end: float
    text: str


class _Subtitles:
    passed_over: tuple[str, ...] = ()

    def __init__(self, path: Path, media: Mapping[str, Path]) -> None:
        films = {file for file in media.values() if one_form(file.stem) == one_form(path.stem)}
        films = films or ({*media.values()} if len({*media.values()}) == 1 else set())
        if len(films) != 1:
            what = f"{len(films)} films have its name" if films else f"it is named as none of {len(media)} clips' films"
            raise DataError(f"{path} is of one film, but {what}: name it as the film, or give a CSV with {CLIP},{TEXT}")
        self._clips = {clip for clip, file in media.items() if file in films}
        self._captions = _captions(path)
        self._longest = max((one.end - one.start for one in self._captions), default=0.0)

    def of(self, clip: str, span: Span) -> str | None:
        """What is shown at any time of the span; captions that it cuts are told as a whole."""
        if clip not in self._clips:
            return None
        start, end = span
        first = bisect_left(self._captions, start - self._longest, key=attrgetter("start"))
        last = bisect_left(self._captions, end, key=attrgetter("start"))
        text = " ".join(one.text for one in self._captions[first:last] if one.end > start)
        if len(text) > MOST_CHARACTERS:
            raise DataError(f"clip {clip!r} has {len(text)} characters of subtitles: more than {MOST_CHARACTERS}")
        return text


def _captions(path: Path) -> list[_Caption]:
    """Those with text, in the order of time."""
    pysubs2: Any = need("pysubs2", extra="cues")
    module, name = SUBTITLES[path.suffix.lower()].split(".")
    kind = getattr(need(f"pysubs2.formats.{module}", extra="cues"), name)
    text = read_text(path, _MOST_SUBTITLE_BYTES)
    _check_lengths(path, text, kind.TIMESTAMP)
    try:
        events = pysubs2.SSAFile.from_string(text, format_=path.suffix.lower()[1:])
    except (pysubs2.exceptions.Pysubs2Error, ValueError, OverflowError) as error:
        raise DataError(f"{path} cannot be read as subtitles ({error!s:.200})") from error
    found = [_Caption(one.start / 1000, one.end / 1000, one_line(unescape(one.plaintext))) for one in events]
    if not found:
        raise DataError(f"{path} has no subtitles: is it of another kind than its name says?")
    return sorted(one for one in found if one.text and one.end > one.start)


def _check_lengths(path: Path, text: str, stamp: Any) -> None:
    """Refuse long stretches without time stamps, as the parser counts these."""
    length = 0
    for number, line in enumerate(text.splitlines(), 1):
        length = 0 if len(stamp.findall(line)) == 2 else length + len(line) + 1
        if length > _MOST_CAPTION_CHARACTERS:
            raise FileError(
                f"{path}, line {number}: more than {_MOST_CAPTION_CHARACTERS} characters without a time stamp: these "
                "are no subtitles"
            )
