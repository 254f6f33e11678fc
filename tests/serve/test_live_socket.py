"""The live socket: predictions of what a browser sends, and the end of all that a connection has begun."""

import json
import os
import signal
import socket as sockets
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
import uvicorn
from export_setup import CONTRACT
from make_media import FPS, RATE, moving_face
from PIL import Image
from serve_setup import LONG, Served, served, until
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from mmadfer.data.media.image import decode_jpeg, encode_jpeg
from mmadfer.errors import DataError, MmadferError
from mmadfer.runtime import LiveFrame, LiveSound, Recogniser
from mmadfer.serve import jpeg_decoder
from mmadfer.serve.guard import Guard, token_is
from mmadfer.serve.jpeg_decoder import JpegDecoder
from mmadfer.serve.limits import Limits
from mmadfer.serve.live_messages import MOST_BYTES, MOST_PICTURES, Checks, RefusedError, read_greeting
from mmadfer.serve.live_socket import PROTOCOL, LiveLimits, LiveSockets
from mmadfer.serve.metrics import Metrics

TOKEN = "0123456789abcdef"
BEGIN = 1000.25
"""A browser's clock begins anywhere."""


@pytest.fixture(scope="module")
def recogniser(model: Path) -> Recogniser:
    found = Recogniser(model)
    settings = CONTRACT.prepare.model_copy(update={"detect_every": 5})
    found.backend.contract = CONTRACT.model_copy(update={"prepare": settings})
    return found.warm()


@contextmanager
def serving(recogniser: Recogniser, **limits: Any) -> Iterator[str]:
    """A server with the socket alone; its address."""
    ours = Limits(token=TOKEN)
    live = LiveSockets(recogniser, partial(token_is, ours), LiveLimits(**limits))
    app = Guard(Starlette(routes=[WebSocketRoute("/live", live.handle)]), ours, Metrics())
    with sockets.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"ws://127.0.0.1:{listening.getsockname()[1]}/live"
            until(lambda: not live.open)
        finally:
            server.should_exit = True
            thread.join(LONG)
    assert not thread.is_alive()
    until(lambda: not left())


def left() -> list[str]:
    """Threads and processes of connections."""
    threads = [one.name for one in threading.enumerate() if one.name in ("live", "read-live")]
    return threads + decoders(os.getpid())


def decoders(server: int) -> list[str]:
    """The processes of a server that decode pictures."""
    found = list[str]()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent == server:
                found.append(status.with_name("cmdline").read_text())
        except (OSError, ValueError):
            pass
    return [command for command in found if "jpeg_process" in command]


@pytest.fixture(scope="module")
def address(recogniser: Recogniser) -> Iterator[str]:
    with serving(recogniser, connections=2) as found:
        yield found


def opened(address: str, query: str = "?window=1&hop=0.4", **others: Any) -> ClientConnection:
    here = address.replace("ws:", "http:").removesuffix("/live")
    given = {"subprotocols": [PROTOCOL], "origin": here, "proxy": None, "compression": None, "open_timeout": LONG}
    return connect(address + query, **given | others)  # type: ignore[arg-type]


def greet(one: ClientConnection, **others: Any) -> dict[str, Any]:
    one.send(json.dumps({"token": TOKEN, "rate": RATE, "cropped": False} | others))
    return said(one)


def said(one: ClientConnection) -> dict[str, Any]:
    return dict(json.loads(one.recv(LONG)))


def is_ready(address: str) -> bool:
    """Whether there is room for one more."""
    with opened(address) as one:
        return greet(one) == {"ready": True}


def ended(one: ClientConnection) -> tuple[str, int | None]:
    """The error, and the code with which the server has closed."""
    errors = list[str]()
    with suppress(ConnectionClosed):
        while True:
            errors += [said(one).get("error", "")]
    return "".join(errors), one.close_code


def picture(time: float, data: bytes) -> bytes:
    return struct.pack("<Bd", 1, time) + data


def sound(time: float, samples: np.ndarray) -> bytes:
    return struct.pack("<Bd", 2, time) + samples.astype("<f4").tobytes()


@pytest.fixture(scope="module")
def items() -> list[tuple[LiveFrame | LiveSound, bytes]]:
    """2.6 s of a face and a tone, in order of time: as the server sees them, and as they are sent."""
    found = list[tuple[LiveFrame | LiveSound, bytes]]()
    for k, image in enumerate(moving_face(65, step=2)):
        data = encode_jpeg(image, 90)
        found.append((LiveFrame(BEGIN + k / FPS, decode_jpeg(data)), picture(BEGIN + k / FPS, data)))
    wave = (0.3 * np.sin(np.arange(round(2.6 * RATE)) / 20)).astype(np.float32)
    for start in range(0, len(wave), 2048):
        time, piece = BEGIN - 0.01 + start / RATE, wave[start : start + 2048]
        found.append((LiveSound(time, piece[None], RATE), sound(time, piece)))
    return sorted(found, key=lambda one: one[0].time)


def test_predictions_are_those_of_the_stream(
    address: str, recogniser: Recogniser, items: list[tuple[LiveFrame | LiveSound, bytes]]
) -> None:
    stream = recogniser.stream((item for item, _ in items), window=1, hop=0.4, leave_out=False)
    whole = [(json.loads(json.dumps(one.to_dict())), stream.part) for one in stream][:4]
    told, hop = list[dict[str, Any]](), 0
    with opened(address) as one:
        assert greet(one) == {"ready": True}
        for item, message in items:
            one.send(message)
            if item.time >= BEGIN + 1 + 0.4 * hop - 1e-6:  # the window is over: none is left out
                told.append(said(one))
                hop += 1
    assert len(told) == 4
    assert [one["prediction"] for one in told] == [prediction for prediction, _ in whole]
    assert all(one["prediction"]["label"] for one in told)
    assert [one["at"] for one in told] == pytest.approx([BEGIN + 1 + 0.4 * k for k in range(4)])
    assert {one["left_out"] for one in told} == {0}
    assert all(0 <= one["delay"] < LONG for one in told)
    for one, (_, part) in zip(told, whole, strict=True):
        assert part is not None
        assert part.boxes is not None
        times, boxes = part.times.round(3).tolist(), part.boxes.round(4).tolist()
        assert one["boxes"] == [{"person": None, "times": times, "boxes": boxes}]
        assert times[-1] < one["at"] <= times[-1] + 1.5 / FPS


def test_two_clients_have_answers_of_their_own_and_a_third_is_told_to_come_back(
    address: str, items: list[tuple[LiveFrame | LiveSound, bytes]]
) -> None:
    with opened(address) as one, opened(address) as two:
        assert greet(one) == greet(two, rate=None) == {"ready": True}
        with opened(address) as three:
            three.send(json.dumps({"token": TOKEN}))
            words, code = ended(three)
            assert (code, "2 live connections are open" in words) == (1013, True)
        for item, message in items:
            one.send(message)
            if isinstance(item, LiveFrame):
                two.send(message)
        heard, unheard = said(one)["prediction"], said(two)["prediction"]
        assert heard["label"]
        assert (unheard["label"], unheard["notes"][0]) == (None, "no sound in this part of the source")
    until(lambda: is_ready(address))


GOOD = encode_jpeg(np.zeros((32, 32, 3), np.uint8), 90)


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        ({"token": None, "rate": RATE, "cropped": False}, "token"),
        ({"token": TOKEN[:-1], "rate": RATE, "cropped": False}, "token"),
        ({"token": TOKEN, "rate": 1e9}, "the first message must be"),
        ({"token": TOKEN, "rate": True}, "the first message must be"),
        ({"token": TOKEN, "cropped": 1}, "the first message must be"),
        ({"token": TOKEN, "more": 1}, "the first message must be"),
        ([TOKEN], "the first message must be"),
        ("x" * 9000, "the first message must be"),
    ],
)
def test_a_greeting_that_is_none_ends_the_connection(address: str, greeting: Any, words: str) -> None:
    with opened(address) as one:
        one.send(json.dumps(greeting))
        error, code = ended(one)
        assert (code, words in error) == (1008, True), error


def test_whatever_comes_is_taken_or_refused() -> None:
    rng = np.random.default_rng(0)
    kinds, taken = [b"", b"\x01", b"\x02", b"\x03"], 0
    for _ in range(2000):
        checks, words = Checks(RATE), kinds[rng.integers(4)] + rng.bytes(rng.integers(24))
        with suppress(RefusedError):
            for message in (words, words[:1] + struct.pack("<d", rng.normal()) + words[9:]):
                item = checks.item(message)
                assert np.isfinite(item.time)
                assert item.kind == 1 or (np.isfinite(item.samples).all() and np.abs(item.samples).max() <= 1)
                taken += 1
        with suppress(RefusedError):
            read_greeting(rng.bytes(9).decode("utf-8", "replace"))
    assert taken > 100


def png(path: Path) -> bytes:
    Image.new("RGB", (32, 32)).save(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("messages", "code", "words"),
    [
        (["words"], 1008, "must be binary"),
        ([b"\x01"], 1008, "1 bytes"),
        ([struct.pack("<Bd", 7, 1.0) + GOOD], 1008, "kind 7"),
        ([picture(1, GOOD + bytes(MOST_BYTES))], 1009, "bytes: send"),
        ([picture(1, b"not a picture" * 9)], 1008, "no JPEG"),
        ([picture(1, GOOD[: len(GOOD) // 2])], 1008, "no JPEG"),
        ([picture(1, GOOD), picture(0.5, GOOD)], 1008, "times must rise"),
        ([sound(1, np.zeros(9)), picture(1, GOOD), picture(1, GOOD)], 1008, "times must rise"),
        ([picture(float("nan"), GOOD)], 1008, "number of seconds"),
        ([picture(1, GOOD), picture(9999, GOOD)], 1008, "an hour"),
        ([sound(1, np.array([np.nan]))], 1008, "float32"),
        ([sound(1, np.zeros(9))[:-1]], 1008, "float32"),
        ([sound(1 + k / 8, np.zeros(RATE // 2)) for k in range(5)], 1008, "send fewer"),
        ([picture(1 + k / 99, GOOD) for k in range(MOST_PICTURES + 1)], 1008, "send fewer"),
    ],
)
def test_a_message_against_the_rules_ends_the_connection(
    address: str, messages: list[bytes | str], code: int, words: str
) -> None:
    with opened(address) as one:
        assert greet(one) == {"ready": True}
        for message in messages:
            one.send(message)
        error, found = ended(one)
        assert (found, words in error) == (code, True), error
    until(lambda: not left())


def test_pictures_that_are_too_large_or_no_jpeg_are_not_decoded(tmp_path: Path) -> None:
    decoder = JpegDecoder(32 * 32)
    try:
        decoder.wait()
        np.testing.assert_array_equal(decoder.decode(GOOD), decode_jpeg(GOOD))
        for data, words in (
            (encode_jpeg(np.zeros((33, 32, 3), np.uint8), 90), "32 x 33 pixels: send 1024"),
            (png(tmp_path / "a.png"), "no JPEG"),
            (b"", "no JPEG"),
        ):
            with pytest.raises(DataError, match=words):
                decoder.decode(data)
        np.testing.assert_array_equal(decoder.decode(GOOD), decode_jpeg(GOOD))  # it goes on
        decoder.kill()
        with pytest.raises(DataError, match="was lost"):
            decoder.decode(GOOD)
    finally:
        decoder.close()
    assert not left()


def test_a_picture_that_is_not_decoded_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg_decoder, "_SECONDS", 0.2)
    decoder = JpegDecoder(32 * 32)
    try:
        decoder.wait()
        os.kill(decoder.process, signal.SIGSTOP)
        with pytest.raises(DataError, match=r"more than 0\.2 s to decode"):
            decoder.decode(GOOD)
    finally:
        decoder.close()
    assert not left()


def test_a_process_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL, "__file__", str(tmp_path / "PIL" / "__init__.py"))
    decoder = JpegDecoder(32 * 32)
    try:
        with pytest.raises(MmadferError, match="No module named 'PIL'"):
            decoder.wait()
    finally:
        decoder.close()


def test_the_process_that_decodes_can_open_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    decoder = JpegDecoder(32 * 32)
    try:
        decoder.wait()
        decoder.decode(GOOD)
        limits = Path(f"/proc/{decoder.process}/limits").read_text()
        assert [line.split()[-3:-1] for line in limits.splitlines() if "open files" in line] == [["0", "0"]]
        assert Path(f"/proc/{decoder.process}/environ").read_bytes() == b"LD_LIBRARY_PATH=/nowhere\0"
    finally:
        decoder.close()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?window=11&hop=1", "10 s at most"),
        ("?window=nan", "10 s at most"),
        ("?window=1&hop=2", "window and hop"),
        ("?window=x", "window and hop"),
        ("?window=0.01&hop=0.01", "window and hop"),
    ],
)
def test_windows_that_cannot_be_are_refused(address: str, query: str, words: str) -> None:
    with opened(address, query) as one:
        error, code = ended(one)
        assert (code, words in error) == (1008, True), error


def test_another_page_and_another_protocol_are_refused(address: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        opened(address, origin="http://elsewhere")
    assert refused.value.response.status_code == 403
    with opened(address, subprotocols=None) as one:
        assert ended(one) == (f"this socket speaks {PROTOCOL}: ask for that subprotocol", 1008)


def test_a_client_that_goes_in_the_middle_leaves_nothing(
    address: str, items: list[tuple[LiveFrame | LiveSound, bytes]]
) -> None:
    for _ in range(3):
        with opened(address) as one:
            assert greet(one) == {"ready": True}
            assert left().count("live") == 1
            for _, message in items:
                one.send(message)
            one.socket.shutdown(sockets.SHUT_RDWR)  # without a word
            until(lambda: not left())


def test_a_connection_ends_in_time_and_one_that_says_nothing_too(recogniser: Recogniser) -> None:
    for limits, words in (({"seconds": 0.2}, "lasts 0.2 s at most"), ({"idle_seconds": 0.2}, "nothing has come")):
        with serving(recogniser, **limits) as address, opened(address) as one:
            assert greet(one) == {"ready": True}
            error, code = ended(one)
            assert (code, words in error) == (1008, True), error
    with serving(recogniser, connections=0) as address, opened(address) as one:
        error, code = ended(one)
        assert (code, "--live 0" in error) == (1008, True), error
    with serving(recogniser, greeting_seconds=0.2) as address, opened(address) as one:
        error, code = ended(one)
        assert (code, "the first message has not come" in error) == (1008, True), error


def test_the_server_tells_of_its_live_socket_and_ends_it(
    model: Path, tmp_path: Path, items: list[tuple[LiveFrame | LiveSound, bytes]]
) -> None:
    with served(model, tmp_path, "--live", 1) as server, opened(url(server)) as one:
        assert server.client.get("/model").json()["live"] is True
        assert greet(one, token=None) == {"ready": True}
        for _, message in items:
            one.send(message)
        assert said(one)["prediction"]["label"]
        assert 'mmadfer_live{state="open"} 1.0' in server.client.get("/metrics").text
        assert len(decoders(server.process.pid)) == 1
        with opened(url(server)) as two:
            two.send(json.dumps({"token": None}))
            assert ended(two)[1] == 1013
        one.close()
        until(lambda: 'mmadfer_live{state="open"} 0.0' in server.client.get("/metrics").text)
        assert decoders(server.process.pid) == []
        with opened(url(server)) as three:
            assert greet(three, token=None) == {"ready": True}
            server.process.terminate()
            assert ended(three)[1] == 1012
        assert server.process.wait(LONG) in (0, 143)


def url(server: Served) -> str:
    return server.url.replace("http:", "ws:").rstrip("/") + "/live"
