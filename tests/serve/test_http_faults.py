"""What goes wrong: broken uploads, clients that leave, limits, a full disk, and processes that are killed."""

import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from serve_setup import LONG, Served, descendants, reading_process, served, until

from mmadfer.cli.main import app, run
from mmadfer.data.sets import toy

FORM = "Content-Type: multipart/form-data; boundary=x"
LINUX = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are found in /proc")


SECRET = "a-token-of-the-tests"


@pytest.fixture(scope="module")
def narrow(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with little room."""
    options = ("--jobs", 1, "--queue", 1, "--max-bytes", 4_000_000, "--max-seconds", 5, "--live", 0)
    with served(model, tmp_path_factory.mktemp("narrow"), *options) as found:
        yield found


@pytest.fixture(scope="module")
def hasty(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that gives nobody much time, with a token in its environment."""
    options, secret = ("--timeout", 3, "--live", 0), {"MMADFER_TOKEN": SECRET}
    with served(model, tmp_path_factory.mktemp("hasty"), *options, env=secret) as found:
        found.client.headers["authorization"] = f"Bearer {SECRET}"
        yield found


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 s, more than some servers here take."""
    frames, sound = toy.content("happy", 0, seed=1)
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    toy.write_clip(path, np.concatenate([frames] * 7), np.tile(sound, 7))
    return path


@pytest.fixture(scope="module")
def faceless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames, sound = toy.content("happy", 0, seed=1)
    path = tmp_path_factory.mktemp("faceless") / "grey.mp4"
    toy.write_clip(path, np.full_like(frames, 120), sound)
    return path


def pause(server: Served) -> int:
    """Hold the process that starts the readers, so that jobs stay where they are."""
    process = reading_process(server)
    os.kill(process, signal.SIGSTOP)
    return process


@contextmanager
def beginning(server: Served) -> Iterator[socket.socket]:
    """An upload of which some has come, and the rest never does."""
    place = urlsplit(server.url)
    head = f"POST /predict HTTP/1.1\r\nHost: {place.netloc}\r\n{FORM}\r\nContent-Length: 300000\r\n\r\n"
    part = b'--x\r\nContent-Disposition: form-data; name="video"; filename="a"\r\n\r\n' + b"v" * 50_000
    with socket.create_connection((place.hostname, place.port)) as line:
        line.settimeout(LONG)
        line.sendall(head.encode() + part)
        yield line


@pytest.mark.parametrize("what", ["half", "text", "playlist", "noise"])
def test_a_broken_upload_fails_with_a_word(server: Served, video: Path, what: str) -> None:
    data = {
        "half": video.read_bytes()[:9000],
        "text": b"no video",
        "playlist": b"#EXTM3U\nfile:///etc/passwd\n",
        "noise": np.random.default_rng(0).bytes(50_000),
    }[what]
    job = server.ended(server.send(data, name="odd.mp4"))
    assert job["state"] == "failed"
    assert job["error"].startswith("odd.mp4 cannot be decoded")
    assert "prediction" not in job
    assert server.client.get(f"/jobs/{job['id']}/result.json").status_code == 409


def test_a_video_without_anyone_fails_with_a_word(server: Served, faceless: Path) -> None:
    assert "shows no face in any of" in server.ended(server.send(faceless))["error"]
    assert "none of 3 windows can be predicted: no face" in server.ended(server.send(faceless, window="1"))["error"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"window": "soon"}, "window must be a number"),
        ({"window": "nan"}, "window must be a number"),
        ({"hop": "1"}, "a hop of 1 s without windows"),
        ({"window": "1", "hop": "2"}, "not longer than the window"),
        ({"faces": "both"}, "give largest, all, or a number"),
        ({"colour": "red"}, "a field that there is not"),
        ({"window": "1" * 200}, "more than 100 letters"),
    ],
)
def test_options_that_cannot_be_are_refused(server: Served, video: Path, options: dict[str, str], words: str) -> None:
    response = server.send(video, **options)
    assert response.status_code == 400
    assert words in response.json()["error"]
    assert "--" not in response.json()["error"]
    assert not server.files()


def test_forms_that_cannot_be_are_refused(server: Served, video: Path) -> None:
    data = video.read_bytes()
    twice = [("video", ("a", data)), ("video", ("b", data))]
    assert "a field twice" in server.client.post("/predict", files=twice).json()["error"]
    assert "no video" in server.client.post("/predict", files={"sound": ("a", data)}).json()["error"]
    assert "no video" in server.send(b"").json()["error"]
    assert server.client.post("/predict", content=data).status_code == 415
    for body in (b"", b"--x\r\n", b"--x\r\n\r\nabc", b"--x\r\nContent-Disposition: form-data; name=video\r\n\r\nabc"):
        head = {"content-type": "multipart/form-data; boundary=x"}
        assert server.client.post("/predict", content=body, headers=head).status_code == 400
    assert not server.files()


def test_the_name_of_a_stranger_is_shown_and_never_a_path(server: Served) -> None:
    names = {"../../etc/passwd": "passwd", "C:\\a\\b.mp4": "b.mp4", "..": "..", "a\x1b[2Jb": "a\\x1b[2Jb"}
    for name, shown in names.items():
        assert server.ended(server.send(b"no video", name=name))["name"] == shown
    assert len(server.ended(server.send(b"no video", name="n" * 500))["name"]) == 100
    assert not [path for path in server.folder.iterdir() if path.name in names or path.name in names.values()]


def test_a_client_that_leaves_in_the_middle_leaves_nothing(narrow: Served, video: Path) -> None:
    for _ in range(3):  # more than there are places
        with beginning(narrow):
            until(narrow.files)
        until(lambda: not narrow.files())
    assert narrow.ended(narrow.send(video))["state"] == "done"


def test_an_upload_that_is_too_large_is_refused_while_it_comes(narrow: Served) -> None:
    response = narrow.send(b"v" * 5_000_000)
    assert (response.status_code, "more than 4000000 bytes" in response.text) == (413, True)

    def chunks() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="video"; filename="a"\r\n\r\n'
        for _ in range(50):
            yield b"v" * 100_000

    head = {"content-type": "multipart/form-data; boundary=x"}
    assert narrow.client.post("/predict", content=chunks(), headers=head).status_code == 413
    assert not narrow.files()


@pytest.mark.parametrize("options", [{}, {"window": "2"}], ids=["whole", "windows"])
def test_a_video_that_is_too_long_fails(narrow: Served, long: Path, options: dict[str, str]) -> None:
    job = narrow.ended(narrow.send(long, **options))
    assert job["error"] == "clip.mp4 is longer than the 5 s that this server reads"


@LINUX
def test_more_jobs_than_may_wait_are_told_when_to_come_again(narrow: Served, video: Path) -> None:
    process = pause(narrow)
    first = narrow.send(video)
    until(lambda: narrow.state(first)["state"] == "reading")
    second = narrow.send(video)
    assert (narrow.state(second)["state"], narrow.state(second)["waits_behind"]) == ("waiting", 0)
    refused = narrow.send(video)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 600
    assert len(narrow.files()) == 2
    assert 'mmadfer_jobs_now{state="waiting"} 1.0' in narrow.client.get("/metrics").text
    os.kill(process, signal.SIGCONT)
    assert narrow.ended(first)["prediction"] == narrow.ended(second)["prediction"]
    until(lambda: not narrow.files())


@LINUX
def test_cancelling_ends_the_reader_and_frees_the_place(narrow: Served, video: Path) -> None:
    process = pause(narrow)
    reads, waits = narrow.send(video), narrow.send(video)
    until(lambda: narrow.state(reads)["state"] == "reading")
    with narrow.client.stream("GET", reads.json()["url"], headers={"accept": "text/event-stream"}) as response:
        for one in (waits, reads):
            assert narrow.client.delete(one.json()["url"]).status_code == 204
        assert "event: cancelled" in response.read().decode()
    until(lambda: not narrow.files())  # also as long as the process does not answer
    os.kill(process, signal.SIGCONT)
    until(lambda: descendants(process) == [])
    assert narrow.ended(narrow.send(video))["state"] == "done"
    assert 'mmadfer_jobs_total{state="cancelled"} 2.0' in narrow.client.get("/metrics").text


@LINUX
@pytest.mark.parametrize("whom", ["reader", "its parent"])
def test_readers_that_are_killed_cost_their_job_alone(server: Served, video: Path, long: Path, whom: str) -> None:
    process = reading_process(server)
    if whom == "reader":
        response = server.send(long, window="0.5", hop="0.1", faces="all")
        until(lambda: len(descendants(process)) == 2)  # the one that watches, and the one that reads
        os.kill(descendants(process)[-1], signal.SIGKILL)
        assert "was lost (SIGKILL)" in server.ended(response)["error"]
    else:
        pause(server)
        response = server.send(video)
        until(lambda: server.state(response)["state"] == "reading")
        os.kill(process, signal.SIGKILL)
        assert "was lost" in server.ended(response)["error"]
    assert server.ended(server.send(video))["state"] == "done"
    until(lambda: not server.files())


@LINUX
def test_the_process_that_starts_readers_has_one_thread_and_no_token(hasty: Served) -> None:
    process = Path(f"/proc/{reading_process(hasty)}")
    assert len(list((process / "task").iterdir())) == 1  # a copy of one with more could hang
    assert SECRET.encode() not in (process / "environ").read_bytes()
    assert SECRET.encode() in Path(f"/proc/{hasty.process.pid}/environ").read_bytes()


def test_a_full_disk_is_told_and_the_server_goes_on(model: Path, video: Path, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    small = video.read_bytes()
    assert len(small) > 30_000
    with served(model, tmp_path, "--live", 0, preexec_fn=limit) as server:
        response = server.send(small)
        assert (response.status_code, "disk is full" in response.text) == (507, True)
        assert not server.files()
        assert "cannot be decoded" in server.ended(server.send(b"v" * 20_000))["error"]
        assert server.client.get("/health").json() == {"status": "ok"}


@LINUX
def test_what_takes_too_long_is_ended(hasty: Served, video: Path) -> None:
    process = pause(hasty)
    assert "within 3 s" in hasty.ended(hasty.send(video))["error"]
    os.kill(process, signal.SIGCONT)
    place = urlsplit(hasty.url)
    with socket.create_connection((place.hostname, place.port)) as line:
        head = f"POST /predict HTTP/1.1\r\nHost: {place.netloc}\r\n{FORM}\r\nAuthorization: Bearer {SECRET}\r\n"
        line.sendall(f"{head}Content-Length: 9\r\nExpect: 100-continue\r\n\r\n".encode())
        line.settimeout(60)
        answer = b""
        while b"slowly" not in answer:
            answer += line.recv(1000)
    assert b" 408 " in answer
    until(lambda: not hasty.files())


@LINUX
@pytest.mark.parametrize(
    ("sign", "code", "held"), [(signal.SIGTERM, 143, False), (signal.SIGTERM, 143, True), (signal.SIGKILL, -9, False)]
)
def test_a_server_that_ends_leaves_nothing(
    model: Path, video: Path, tmp_path: Path, sign: signal.Signals, code: int, held: bool
) -> None:
    with served(model, tmp_path, "--live", 0) as server:
        others = [reading_process(server), *descendants(server.process.pid)]
        pause(server)
        response = server.send(video)
        until(lambda: server.state(response)["state"] == "reading")
        assert server.files()
        if not held:
            os.kill(others[0], signal.SIGCONT)
        with beginning(server) as line:
            until(lambda: len(server.files()) == 2 or server.state(response)["state"] != "reading")
            server.process.send_signal(sign)
            answer = line.makefile("rb").read() if code == 143 else b" 503 "
        assert b" 503 " in answer
        assert server.process.wait(LONG) == code
        assert server.process.stdout is not None
        assert "Traceback" not in server.process.stdout.read()
    until(lambda: not any(Path(f"/proc/{one}/cmdline").exists() for one in others))
    if sign == signal.SIGKILL:
        assert list(tmp_path.glob(".mmadfer-serve.*"))
        with served(model, tmp_path, "--live", 0) as server:
            assert len(list(tmp_path.glob(".mmadfer-serve.*"))) == 1
            assert not server.files()
    assert list(tmp_path.glob(".mmadfer-serve.*")) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "can be reached from other machines"),
        (["--token", "short"], "the token must be 16 to 256"),
        (["--port", "PORT"], "is in use"),
        (["--max-seconds", "0"], "--max-seconds is 0"),
        (["--timeout", "inf"], "--timeout is inf"),
        (["--host", "no.such.host.invalid", "--token", SECRET], "cannot be served"),
        (["--port", "0", "--model", "none.onnx"], "none.onnx"),
    ],
)
def test_options_of_the_command_that_cannot_be_end_with_2(
    model: Path, server: Served, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(urlsplit(server.url).port) if word == "PORT" else word for word in options]
    assert run(app, ["serve", "--model", str(model), *given]) == 2
    out = capsys.readouterr()
    assert words in out.err
    assert not out.out
