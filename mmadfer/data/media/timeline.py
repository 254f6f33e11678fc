"""One line of time for a file whose clock starts again in the middle, or jumps.

Recordings that are put one behind the other by copying (parts of DVDs, cameras, receivers) each count from a time of
their own. FFmpeg hands their time stamps on as they are. Here each part goes on where the one before it ended, for all
streams alike, as players and the ffmpeg program do (there: "discontinuity correction").
"""

from dataclasses import dataclass
from typing import Any

BACK = 0.1
"""Seconds by which the time stamps of a stream go back where a clock starts again; decoding times never do."""
_MAX_JUMP_SECONDS = 10
"""Seconds that all streams skip where the clock of a broadcast jumps; other files' times are taken as they are."""
JUMPS = 0x0200
"""FFmpeg's mark (AVFMT_TS_DISCONT) of containers whose clocks may jump: transport and program streams."""


@dataclass
class _Part:
    """A recording; seconds of its own clock, but for `shift`."""

    shift: float
    begin: float
    end: float

    def holds(self, start: float) -> bool:
        return self.begin - 1 <= start <= self.end + _MAX_JUMP_SECONDS


class Clock:
    """Puts packets on the file's line of time; `parts` counts the recordings up to now.

    Streams come to a new part one after the other, and a packet of the part before may come late: each stream knows in
    which part it is.
    """

    def __init__(self, flags: int) -> None:
        self._jumps = bool(flags & JUMPS)
        self._parts = list[_Part]()
        self._at = dict[int, tuple[int, float, float]]()
        """Stream -> its part, and start and end of its last packet."""
        self._ticks = dict[int, float]()
        """Stream -> seconds that its time stamps count; asked of PyAV once, which makes a new fraction each time."""
        self._waits = dict[int, int]()
        """Stream -> ticks from decoding its last packet to showing it."""

    @property
    def parts(self) -> int:
        """Recordings up to now."""
        return len(self._parts)

    def place(self, packet: Any) -> None:
        """Move the time stamps of a packet (`av.Packet`) where its part lies."""
        if packet.dts is None and packet.pts is None:
            return
        stream = packet.stream.index
        tick = self._ticks.get(stream) or self._ticks.setdefault(stream, float(packet.time_base or 0))
        if not tick:
            return
        self._mend(packet, tick)
        part = self._parts[self._number(packet, tick)]
        if part.shift:
            ticks = round(part.shift / tick)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks

    def _mend(self, packet: Any, tick: float) -> None:
        """The last packet of a part may have the first time stamp of the next beside a decoding time of its own."""
        if packet.dts is None or packet.pts is None:
            return
        wait = packet.pts - packet.dts
        if abs(wait) * tick > _MAX_JUMP_SECONDS:
            packet.pts = packet.dts + self._waits.get(packet.stream.index, 0)
        else:
            self._waits[packet.stream.index] = wait

    def _number(self, packet: Any, tick: float) -> int:
        """Which part a packet is of; one without a decoding time, which a picture's own goes before, tells nothing."""
        stream = packet.stream.index
        if packet.dts is None and self._parts:
            return self._at[stream][0] if stream in self._at else self.parts - 1
        start = (packet.pts if packet.dts is None else packet.dts) * tick
        end = start + (packet.duration or 0) * tick
        number = self._part(stream, start)
        part = self._parts[number]
        part.begin, part.end = min(part.begin, start), max(part.end, end)
        if packet.dts is not None:
            self._at[stream] = (number, start, end)
        return number

    def _part(self, stream: int, start: float) -> int:
        if not self._parts:
            self._parts.append(_Part(0.0, start, start))
        if stream not in self._at:
            return self.parts - 1
        number, before, end = self._at[stream]
        if start >= before - BACK and not (self._jumps and start > self._parts[number].end + _MAX_JUMP_SECONDS):
            return number
        known = [k for k in range(number + 1, self.parts) if self._parts[k].holds(start)]
        if known:
            return known[-1]
        self._parts.append(_Part(self._parts[number].shift + end - start, start, start))
        return self.parts - 1
