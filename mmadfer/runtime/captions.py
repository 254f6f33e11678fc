"""Predictions as captions of a video, for players and editors: WebVTT and SubRip (SRT)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mmadfer.errors import ConfigError
from mmadfer.runtime.prediction import Failure, Prediction
from mmadfer.runtime.stretches import Stretch, by_person, said, stretches
from mmadfer.utils.files import write_text
from mmadfer.utils.terminal import shown

ENDINGS = (".vtt", ".srt")
_PLAIN = str.maketrans("<>{}", "()()")
"""SubRip has no way to write signs of its own (tags, `{\\an8}`, `-->`) as text: brackets take their place."""


def write_vtt(path: Path | str, results: Sequence[Prediction | Failure], *_: object) -> None:
    """Write the captions of one video as WebVTT (W3C), atomically; a video that could not be read has none."""
    escaped = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
    cues = (f"{_clock(one, '.')}\n{text.translate(escaped)}\n" for one, text in _captions(results))
    write_text(path, "\n".join(["WEBVTT\n", *cues]))


def write_srt(path: Path | str, results: Sequence[Prediction | Failure], *_: object) -> None:
    """Write the captions of one video as SubRip, atomically; a video that could not be read has none."""
    found = enumerate(_captions(results), 1)
    cues = (f"{k}\n{_clock(one, ',')}\n{text.translate(_PLAIN)}\n" for k, (one, text) in found)
    write_text(path, "\n".join(cues))


def check_captions(paths: Sequence[Path], videos: int) -> None:
    """Raise ConfigError where captions are asked for, which are of one video, and there are several."""
    if videos > 1 and (odd := [path for path in paths if path.suffix.lower() in ENDINGS]):
        raise ConfigError(
            f"--out {odd[0]} takes the captions of one video, and there are {videos}: name one video, or ask for "
            ".json or .csv"
        )


def _captions(results: Sequence[Prediction | Failure]) -> list[tuple[Stretch, str]]:
    """In time, and then by person; of segments that could be predicted and last a thousandth of a second."""
    found = [one for result in results if isinstance(result, Prediction) for one in _of(result)]
    return sorted(found, key=lambda one: one[0].start)


def _of(prediction: Prediction) -> Iterator[tuple[Stretch, str]]:
    for number, segments in by_person(prediction.people, prediction.segments).items():
        who = "" if number is None else f"person {number}: "
        for one in stretches(segments):
            if (text := said(one.segment)) and _thousandths(one.start) < _thousandths(one.end):
                yield one, shown(who + text)


def _clock(one: Stretch, point: str) -> str:
    return f"{_time(one.start, point)} --> {_time(one.end, point)}"


def _time(seconds: float, point: str) -> str:
    """Hours, minutes, seconds and thousandths."""
    whole, thousandths = divmod(_thousandths(seconds), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{thousandths:03}"


def _thousandths(seconds: float) -> int:
    """A video may begin before 0, a caption may not."""
    return max(0, round(1000 * seconds))
