"""`WebSocket /live`: a browser's camera and microphone in, the predictions of rolling windows out.

    client   the greeting, then pictures and sound (`live_messages`)
    server   {"ready": true}
             {"prediction": as `Prediction.to_dict`, "at": the window's end on the client's clock,
              "left_out": windows up to now, "delay": seconds since the item came that ended the window,
              "boxes": [{"person": null, "times": [...], "boxes": [[x0, y0, x1, y1] in shares of the picture, ...]}]}
             {"error": words}, and the end

Each connection has a thread that predicts, one that reads (`Recogniser.stream`) and a process that decodes pictures;
all end with it.
"""

import asyncio
import json
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from mmadfer.data.video_windows import Windows, windows_of
from mmadfer.errors import ConfigError, DataError
from mmadfer.runtime.inputs import VideoPart
from mmadfer.runtime.live import LiveStream, why_not_live
from mmadfer.runtime.recogniser import Recogniser
from mmadfer.serve.jpeg_decoder import JpegDecoder
from mmadfer.serve.live_feed import EndedError, LiveFeed
from mmadfer.serve.live_messages import BROKEN, MOST_PIXELS, TRY_LATER, Checks, Greeting, RefusedError, read_greeting
from mmadfer.utils.logs import logger

LOGGER = logger(__name__)

PROTOCOL = "mmadfer.live.1"
MOST_GREETED = 16
"""Connections that have not said their token yet."""
MOST_WINDOW_SECONDS = 10.0
WINDOW, HOP = 5.0, 1.0
"""By default, in seconds."""
_SEND_SECONDS = 30.0
"""Seconds in which a client takes an answer."""


@dataclass(frozen=True)
class LiveLimits:
    """Of the live socket."""

    connections: int = 4
    """At once."""
    seconds: float = 3600.0
    """That one lasts."""
    idle_seconds: float = 30.0
    """Without a message."""
    greeting_seconds: float = 10.0
    """Until the first message."""


class LiveSockets:
    """The live connections of a server.

    Args:
        recogniser: predicts for all of them.
        token_is: whether a token, as a client says it first, is the server's.
        limits: how many, and how long.
    """

    def __init__(
        self, recogniser: Recogniser, token_is: Callable[[str | None], bool], limits: LiveLimits | None = None
    ) -> None:
        self._recogniser, self._token_is, self._limits = recogniser, token_is, limits or LiveLimits()
        self._open = self._greeted = 0

    @property
    def open(self) -> int:
        """Connections that predict."""
        return self._open

    async def handle(self, socket: WebSocket) -> None:
        """One connection, from its handshake to its end; who may ask at all is `guard`'s to say."""
        await socket.accept(PROTOCOL if PROTOCOL in socket.scope["subprotocols"] else None)
        try:
            await self._serve(socket)
        except RefusedError as error:
            await _close(socket, str(error), error.code)
        except WebSocketDisconnect:
            pass
        except Exception:
            LOGGER.exception("a live connection has failed")
            await _close(socket, "the server has failed: its log says why", BROKEN)

    async def _serve(self, socket: WebSocket) -> None:
        if not self._limits.connections:
            raise RefusedError("this server takes no live streams: it was started with --live 0")
        windows = self._windows(socket)
        greeting = await self._greet(socket)
        if self._open >= self._limits.connections:
            raise RefusedError(
                f"{self._open} live connections are open, as many as there may be: try again later", TRY_LATER
            )
        self._open += 1
        try:
            await _Connection(socket, self._recogniser, windows, greeting, self._limits).run()
        finally:
            self._open -= 1

    def _windows(self, socket: WebSocket) -> Windows:
        """What the address asks for.

        Raises:
            RefusedError: it cannot be, or the model predicts no live sources.
        """
        if PROTOCOL not in socket.scope["subprotocols"]:
            raise RefusedError(f"this socket speaks {PROTOCOL}: ask for that subprotocol")
        if reason := why_not_live(self._recogniser.contract, self._recogniser.tells_people_apart):
            raise RefusedError(f"the model {reason}")
        try:
            seconds = float(socket.query_params.get("window", WINDOW))
            hop = float(socket.query_params.get("hop", min(HOP, seconds)))
            if not math.isfinite(seconds) or seconds > MOST_WINDOW_SECONDS:
                raise RefusedError(f"a live window has {MOST_WINDOW_SECONDS:g} s at most, which are held in memory")
            windows = windows_of(seconds, hop)
        except (ValueError, ConfigError) as error:
            raise RefusedError(f"window and hop are seconds, as in /live?window=5&hop=1 ({error})") from error
        assert windows is not None
        return windows

    async def _greet(self, socket: WebSocket) -> Greeting:
        if self._greeted >= MOST_GREETED:
            raise RefusedError("too many connections have said nothing yet: try again later", TRY_LATER)
        self._greeted += 1
        try:
            async with asyncio.timeout(self._limits.greeting_seconds):
                message = await _received(socket)
        except TimeoutError as error:
            raise RefusedError(f"the first message has not come within {self._limits.greeting_seconds:g} s") from error
        finally:
            self._greeted -= 1
        greeting = read_greeting(message.get("text"))
        if not self._token_is(greeting.token):
            raise RefusedError("the first message must have the server's token")
        return greeting


class _Connection:
    """One that may predict."""

    def __init__(
        self, socket: WebSocket, recogniser: Recogniser, windows: Windows, greeting: Greeting, limits: LiveLimits
    ) -> None:
        self._socket, self._recogniser, self._windows = socket, recogniser, windows
        self._greeting, self._limits, self._loop = greeting, limits, asyncio.get_running_loop()

    async def run(self) -> None:
        """Until the client goes, or something is wrong.

        Raises:
            RefusedError: by what the client has sent, or how long it stays.
            WebSocketDisconnect: it has gone.
        """
        decoder = JpegDecoder(MOST_PIXELS)
        try:
            await asyncio.to_thread(decoder.wait)
            await self._run(decoder)
        finally:
            await asyncio.shield(asyncio.to_thread(decoder.close))

    async def _run(self, decoder: JpegDecoder) -> None:
        feed, over = LiveFeed(decoder, self._greeting.rate), self._loop.create_future()
        thread = threading.Thread(target=self._predict, args=(feed, over), name="live", daemon=True)
        thread.start()
        receiving = asyncio.ensure_future(self._receive(feed))
        for one in (over, receiving):
            one.add_done_callback(_seen)
        try:
            await self._socket.send_json({"ready": True})
            await asyncio.wait({receiving, over}, timeout=self._limits.seconds, return_when=asyncio.FIRST_COMPLETED)
            for done in (over, receiving):
                if done.done():
                    await done
            raise RefusedError(f"a live connection lasts {self._limits.seconds:g} s at most: open a new one")
        finally:
            receiving.cancel()
            feed.end()
            await asyncio.shield(asyncio.to_thread(thread.join))

    async def _receive(self, feed: LiveFeed) -> None:
        checks = Checks(self._greeting.rate)
        while True:
            try:
                async with asyncio.timeout(self._limits.idle_seconds):
                    message = await _received(self._socket)
            except TimeoutError as error:
                raise RefusedError(f"nothing has come for {self._limits.idle_seconds:g} s") from error
            await feed.put(checks.item(message.get("bytes")))

    def _predict(self, feed: LiveFeed, over: asyncio.Future[None]) -> None:
        """In a thread; how it ends is the result of `over`."""
        problem: Exception = EndedError()
        try:
            seconds, hop, cropped = self._windows.seconds, self._windows.hop, self._greeting.cropped
            with self._recogniser.stream(feed.items(), window=seconds, hop=hop, cropped=cropped) as stream:
                for prediction in stream:
                    self._send(answer(prediction.to_dict(), stream, feed))
        except (EndedError, WebSocketDisconnect) as error:
            problem = error
        except (DataError, ConfigError) as error:
            problem = RefusedError(str(error))
        except Exception as error:
            problem = error
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(_fail, over, problem)

    def _send(self, told: dict[str, Any]) -> None:
        """Hand an answer to the loop and wait until it is sent; windows are left out meanwhile."""
        text = json.dumps(told, allow_nan=False)
        sending = asyncio.run_coroutine_threadsafe(self._socket.send_text(text), self._loop)
        try:
            sending.result(_SEND_SECONDS)
        except TimeoutError as error:
            sending.cancel()
            raise WebSocketDisconnect(1006) from error
        except RuntimeError as error:  # it has closed meanwhile
            raise WebSocketDisconnect(1006) from error


def answer(prediction: dict[str, Any], stream: LiveStream, feed: LiveFeed) -> dict[str, Any]:
    """What is said of a window."""
    end = prediction["segments"][0]["end"]
    return {
        "prediction": prediction,
        "at": end,
        "left_out": stream.left_out,
        "boxes": _boxes(stream.part),
        "delay": round(feed.since(end), 3),
    }


def _boxes(part: VideoPart | None) -> list[dict[str, Any]]:
    if part is None or part.boxes is None:
        return []
    return [{"person": None, "times": part.times.round(3).tolist(), "boxes": part.boxes.round(4).tolist()}]


async def _received(socket: WebSocket) -> dict[str, Any]:
    """The next message.

    Raises:
        WebSocketDisconnect: there is none.
    """
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    return dict(message)


async def _close(socket: WebSocket, words: str, code: int) -> None:
    """Say why, and close."""
    if socket.client_state is WebSocketState.CONNECTED and socket.application_state is WebSocketState.CONNECTED:
        with suppress(WebSocketDisconnect, RuntimeError, OSError):  # it has gone
            async with asyncio.timeout(_SEND_SECONDS):
                await socket.send_json({"error": words})
                await socket.close(code)


def _seen(done: asyncio.Future[None]) -> None:
    """What one of two raises is of no interest once the other has."""
    if not done.cancelled():
        done.exception()


def _fail(over: asyncio.Future[None], problem: Exception) -> None:
    if not over.done():
        over.set_exception(problem)
