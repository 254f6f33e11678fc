"""A service in this process: what is hard to time from outside."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from serve_setup import LONG, until
from starlette.responses import PlainTextResponse

from mmadfer import Recogniser
from mmadfer.runtime.prediction import Prediction
from mmadfer.serve import protocol
from mmadfer.serve.app import application
from mmadfer.serve.job import DONE, FAILED, Job
from mmadfer.serve.limits import Limits
from mmadfer.serve.protocol import Protocol
from mmadfer.serve.server import serving
from mmadfer.serve.service import Service
from mmadfer.serve.upload import Upload
from mmadfer.utils.import_path import import_path

LIMITS = Limits(live=0)


@pytest.fixture(scope="module")
def service(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Begun in a folder with a file that has the name of a package."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("here")
        (folder / "av.py").write_text("raise SystemExit('it was run')")
        recogniser = Recogniser(model).warm()
        patch.chdir(folder)
        with serving(recogniser, LIMITS) as found:
            yield found


def job_of(service: Service, video: Path, folder: Path) -> Job:
    copy = folder / "copy.mp4"
    copy.write_bytes(video.read_bytes())
    return Job(service.jobs.new_id(), Upload(copy, "clip.mp4"), service.recogniser, None)


def ask(service: Service, *messages: dict[str, Any]) -> list[dict[str, Any]]:
    """What is answered to a POST of a form whose body comes in these messages."""
    coming, said = iter(messages), list[dict[str, Any]]()

    async def receive() -> dict[str, Any]:
        found = next(coming, None)
        if found is None:
            await asyncio.Event().wait()
        elif found.pop("stop", False):
            service.stopping = True
        return found or {}

    async def send(message: Any) -> None:
        said.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "query_string": b"",
        "headers": [(b"content-type", b"multipart/form-data; boundary=x")],
    }
    asyncio.run(application(service)(scope, receive, send))  # type: ignore[arg-type]
    return said


def body(video: Path) -> dict[str, Any]:
    head = b'--x\r\nContent-Disposition: form-data; name="video"; filename="a"\r\n\r\n'
    return {"type": "http.request", "body": head + video.read_bytes() + b"\r\n--x--\r\n"}


def test_what_lies_in_the_current_directory_is_not_imported(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Path.cwd().joinpath("av.py").exists()
    assert service.works  # the process that reads has imported another one
    for one in ("", str(Path.cwd()), str(tmp_path)):
        monkeypatch.syspath_prepend(one)
    found = import_path()
    assert found[0] == str(tmp_path)
    assert not {"", str(Path.cwd())} & {*found}


def test_a_client_that_goes_as_its_upload_is_whole_has_no_job(service: Service, video: Path) -> None:
    before = service.metrics.text()
    ask(service, body(video), {"type": "http.disconnect"})
    assert b'mmadfer_jobs_total{state="cancelled"} 1.0' not in before
    assert b'mmadfer_jobs_total{state="cancelled"} 1.0' in service.metrics.text()
    until(lambda: not list(service.folder.glob("*.video")))


def test_an_upload_that_is_whole_as_the_server_stops_is_refused(service: Service, video: Path) -> None:
    try:
        said = ask(service, body(video) | {"stop": True})
    finally:
        service.stopping = False
    assert said[0]["status"] == 503
    assert not list(service.folder.glob("*.video"))


def test_a_job_is_asked_for_while_its_prediction_is_put_together(
    service: Service, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, found = job_of(service, video, tmp_path), list[int | bool]()
    put_together = job._answer.prediction

    def prediction() -> Prediction:
        asks = threading.Thread(target=lambda: found.append(len(job.finished_from(0, 10))))
        asks.start()
        asks.join(LONG)
        found.append(asks.is_alive())
        return put_together()

    monkeypatch.setattr(job._answer, "prediction", prediction)
    service.jobs.add(job)
    until(lambda: job.ended)
    assert (job.state, found) == (DONE, [1, False])


def test_a_job_that_has_failed_says_why_and_takes_room(service: Service, video: Path, tmp_path: Path) -> None:
    job = job_of(service, video, tmp_path)
    job.fail(TimeoutError("timed out"))
    assert (job.state, "(timed out)" in job.error) == (FAILED, True)
    assert job.weight == 5  # kB


def test_a_client_that_never_ends_the_head_of_a_request_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "STALL_SECONDS", 0.5)
    app = PlainTextResponse("there")
    config = uvicorn.Config(app, http=Protocol, lifespan="off", log_level="error", timeout_keep_alive=3600)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            for before in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"):
                with socket.create_connection(listening.getsockname()) as line:
                    line.settimeout(LONG)
                    line.sendall(before)
                    if before.endswith(b"\n"):
                        assert line.recv(10_000).startswith(b"HTTP/1.1 200 ")
                        line.sendall(b"GET / HT")  # of a second one
                    assert not line.makefile("rb").read().startswith(b"HTTP")
        finally:
            server.should_exit = True
            thread.join(LONG)
    assert not thread.is_alive()
