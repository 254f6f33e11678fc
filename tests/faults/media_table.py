"""All kinds of the matrix of media."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import media_clocks
import media_plain
import media_streams
from media_clocks import LATE_PICTURES, LATE_SOUND, UNEVEN
from media_edits import edited, pause, without
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

CODECS = {"lag": 0.004}
SPECIAL: dict[str, dict[str, Any]] = {
    # the first packet of sound lasts 0.08 s by its time stamp, and has 0.02 s of samples
    "h264_fragmented.mp4 h264_no_edit_list.mp4 streamed.mp4 from_5_fragmented.mp4": {"joined": True},
    "wmv2.wmv wmv1.asf wma1.wma wma2.wma streamed.wmv uneven.wmv msmpeg4.avi": {"lag": 0.001},
    "vp8.webm vorbis.webm vorbis.ogg theora.ogv streamed.ogv from_5.ogg": CODECS,
    "two.vob two.m2ts": {"alone": True},
    "aspect_16_15.mp4 aspect_half.mp4": {"colours": 3.0},
    "telecine.mpg": {"slack": 0.034},  # where fields are shown twice, a picture has the time of the one before it
}
"""What is to be borne in mind with some kinds."""


def kinds(everything: bool = False) -> list[Kind]:
    """Each has a name of its own; `everything` is the larger matrix."""
    found = [*media_plain.kinds(), *media_clocks.kinds(), *media_streams.kinds()]
    found += _crossed() if everything else ()
    special = {name: what for names, what in SPECIAL.items() for name in names.split()}
    names = [kind.name for kind in found]
    assert len(set(names)) == len(names)
    assert special.keys() <= set(names)
    return [replace(kind, **special.get(kind.name, {})) for kind in found]


def _crossed() -> Iterator[Kind]:
    common = {"may_lack": True, "colours": 3.0, **CODECS}
    for name, command in media_plain.BOTH.items():
        stem, _, ending = name.rpartition(".")
        for what, with_ in COMMANDS.items():
            joined = any(name in names.split() and special.get("joined") for names, special in SPECIAL.items())
            yield Kind(f"{stem}_{what}.{ending}", with_.format(command), joined=joined, **common)
        yield Kind(f"{stem}_gap.{ending}", edited(command, without("audio", 0.4, 0.9)), joined=True, **common)
        yield Kind(f"{stem}_paused.{ending}", edited(command, pause(0.8, 1.0)), joined=True, **common)
