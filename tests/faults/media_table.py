"""All kinds of the matrix of media."""

from collections.abc import Iterator

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


def kinds(everything: bool = False) -> list[Kind]:
    """Each has a name of its own; `everything` is the larger matrix."""
    found = [*media_plain.kinds(), *media_clocks.kinds(), *media_streams.kinds()]
    found += _crossed() if everything else ()
    assert len({kind.name for kind in found}) == len(found)
    return found


def _crossed() -> Iterator[Kind]:
    for name, command in media_plain.BOTH.items():
        stem, _, ending = name.rpartition(".")
        for what, with_ in COMMANDS.items():
            yield Kind(f"{stem}_{what}.{ending}", with_.format(command), may_lack=True)
        yield Kind(f"{stem}_gap.{ending}", edited(command, without("audio", 0.4, 0.9)), joined=True, may_lack=True)
        yield Kind(f"{stem}_paused.{ending}", edited(command, pause(0.8, 1.0)), joined=True, may_lack=True)
