"""All kinds of the matrix of media, what is to be borne in mind with some, and which are read wrongly."""

from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

import media_clocks
import media_plain
import media_streams
from media_clocks import LATE_PICTURES, LATE_SOUND, UNEVEN
from media_kinds import Kind

COMMANDS = {
    "from_5": "{} -output_ts_offset 5",
    "late_sound": f"{LATE_SOUND} {{}}",
    "late_pictures": f"{LATE_PICTURES} {{}}",
    "uneven": f"{UNEVEN} {{}}",
    "six": "-i source.mkv -i six.wav -map 0:v -map 1:a {}",
    "wide": "-vf setsar=16/15 {}",
}
"""What is done to every codec and container in the larger matrix."""
CROSSED = {"may_lack": True, "colours": 3.0, "lag": 0.01, "slack": 0.003}
SPECIAL: dict[str, dict[str, Any]] = {
    # the first packet of sound lasts 0.08 s by its time stamp, and has 0.02 s of samples
    "h264_fragmented*.mp4 h264_no_edit_list*.mp4 streamed.mp4 from_5_fragmented.mp4": {"joined": True},
    "wmv2.wmv wmv1.asf wma1.wma wma2.wma streamed.wmv uneven.wmv from_5.wmv late_sound.wmv msmpeg4.avi": {"lag": 0.001},
    "vp8.webm vorbis.webm vorbis.ogg theora.ogv streamed.ogv from_5.ogg": {"lag": 0.004},
    "two.vob two.m2ts": {"alone": True},
    "aspect_16_15.mp4 aspect_half.mp4": {"colours": 3.0},
    "telecine.mpg": {"slack": 0.034},  # where fields are shown twice, a picture has the time of the one before it
}
"""What is to be borne in mind, by patterns of names."""
WRONG: dict[str, str] = {}
"""What is read wrongly, by patterns of names; as soon as it is right, the test says so."""


def kinds(everything: bool = False) -> list[Kind]:
    """Each has a name of its own; `everything` is the larger matrix."""
    found = [*media_plain.kinds(), *media_clocks.kinds(), *media_streams.kinds()]
    names = {kind.name for kind in found}
    assert len(names) == len(found)
    assert all(any(fnmatch(name, one) for name in names) for patterns in SPECIAL for one in patterns.split())
    return [_completed(kind) for kind in [*found, *(_crossed() if everything else ())]]


def _crossed() -> Iterator[Kind]:
    for name, command in media_plain.BOTH.items():
        stem, _, ending = name.rpartition(".")
        for what, with_ in COMMANDS.items():
            if not ("-t 0.4" in command and "late" in what):  # over before it starts
                yield Kind(f"{stem}_{what}.{ending}", with_.format(command), **CROSSED)


def _completed(kind: Kind) -> Kind:
    for patterns, what in SPECIAL.items():
        kind = replace(kind, **what) if _is_one(kind, patterns) else kind
    wrong = next((reason for patterns, reason in WRONG.items() if _is_one(kind, patterns)), "")
    return replace(kind, wrong=wrong)


def _is_one(kind: Kind, patterns: str) -> bool:
    return any(fnmatch(kind.name, pattern) for pattern in patterns.split())
