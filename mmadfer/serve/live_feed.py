"""From the messages of a live socket to the pictures and sound that `Recogniser.stream` reads in its thread."""

import asyncio
import queue
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

from mmadfer.data.video_windows import EXACT
from mmadfer.runtime import LiveFrame, LiveSound
from mmadfer.serve.jpeg_decoder import JpegDecoder
from mmadfer.serve.live_messages import PICTURE, Item

_MOST_WAITING = 32
"""Items that wait to be decoded; then the socket is not read, and the client's own buffer fills."""
_MOST_ARRIVALS = 20_000
"""Of which the time is kept: more than come in the longest window and its hop."""


class EndedError(Exception):
    """The socket has closed, so that nothing more is predicted."""


class LiveFeed:
    """Filled by the event loop, read by another thread.

    Args:
        decoder: of the pictures; whoever made it closes it.
        rate: of the sound in Hz.
    """

    def __init__(self, decoder: JpegDecoder, rate: int | None) -> None:
        self._decoder, self._rate = decoder, rate
        self._items, self._ended = queue.SimpleQueue[Item | None](), False
        self._room, self._loop = asyncio.Semaphore(_MOST_WAITING), asyncio.get_running_loop()
        self._arrivals = deque[tuple[float, float]](maxlen=_MOST_ARRIVALS)
        """Of items, their own time and when they came."""

    async def put(self, item: Item) -> None:
        """Add an item as soon as there is room."""
        self._arrivals.append((item.time, time.monotonic()))
        await self._room.acquire()
        self._items.put(item)

    def items(self) -> Iterator[LiveFrame | LiveSound]:
        """What has come, as it comes, without end.

        Raises:
            EndedError: by `end`.
            DataError: a picture that cannot be decoded.
        """
        while not self._ended and (item := self._items.get()) is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._room.release)
            if item.kind == PICTURE:
                yield LiveFrame(item.time, self._decoder.decode(item.data))
            else:
                assert self._rate is not None
                yield LiveSound(item.time, item.samples, self._rate)
        raise EndedError

    def since(self, end: float) -> float:
        """Seconds since the item came that ended the window which goes to `end`; later windows end later."""
        while self._arrivals and self._arrivals[0][0] < end - EXACT:
            self._arrivals.popleft()
        return time.monotonic() - self._arrivals[0][1] if self._arrivals else 0.0

    def end(self) -> None:
        """Let the reader end, also one that waits."""
        self._ended = True
        self._items.put(None)
        self._decoder.kill()
