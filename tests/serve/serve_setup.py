"""A server as its users start it: `mmadfer serve` in a process of its own, with a folder for its temporary files."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from needs import needed

if TYPE_CHECKING:
    import httpx

LONG = 120.0
"""Seconds that are waited for anything: a busy machine is slow, and no test measures time."""


class Served(NamedTuple):
    """A server that runs."""

    url: str
    client: "httpx.Client"
    process: subprocess.Popen[str]
    folder: Path
    """Where it has its temporary files."""

    def send(self, video: Path | bytes, name: str = "clip.mp4", **options: str) -> "httpx.Response":
        """POST /predict."""
        data = video if isinstance(video, bytes) else video.read_bytes()
        return self.client.post("/predict", data=options, files={"video": (name, data)})

    def state(self, response: "httpx.Response") -> dict[str, Any]:
        """The job of an upload that was taken, as it is now."""
        assert response.status_code == 202, response.text
        found: dict[str, Any] = self.client.get(response.json()["url"]).raise_for_status().json()
        return found

    def ended(self, response: "httpx.Response") -> dict[str, Any]:
        """The job of an upload that was taken, when it has ended."""
        until(lambda: self.state(response)["state"] not in ("waiting", "reading"))
        return self.state(response)

    def files(self) -> list[str]:
        """Uploads that lie there, and what else is not always there."""
        return [path.name for path in self.folder.rglob("*") if path.suffix in (".video", ".sound")]


def until(there: Callable[[], object]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + LONG
    while not there():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def events(response: "httpx.Response") -> Iterator[tuple[str, Any]]:
    """The events of a stream, as they come: name and data."""
    name = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def descendants(process: int) -> list[int]:
    """The numbers of a process's children, and theirs, and so on; of each before its own."""
    found = list[int]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            number, _, rest = path.read_text().partition(" (")
            if int(rest.rpartition(")")[2].split()[1]) == process:
                found += [int(number), *descendants(int(number))]
    return found


def reading_process(server: Served) -> int:
    """The number of the process that starts the readers."""
    return next(
        one
        for one in descendants(server.process.pid)
        if b"reading_process" in Path(f"/proc/{one}/cmdline").read_bytes()
    )


def start(model: Path, folder: Path, *options: object, **more: Any) -> subprocess.Popen[str]:
    """The command, on a free port."""
    words = [sys.executable, "-m", "mmadfer", "serve", "--model", model, "--port", 0, *options]
    environment = os.environ | {"TMPDIR": str(folder), "OMP_NUM_THREADS": "1"} | more.pop("env", {})
    return subprocess.Popen(
        [str(word) for word in words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **more,
    )


@contextmanager
def served(model: Path, folder: Path, *options: object, **more: Any) -> Iterator[Served]:
    """A server that answers, until the block's end; `folder` is where its temporary files are."""
    for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "websockets"):
        needed(name)
    process = start(model, folder, *options, **more)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("http://"), line + process.stdout.read()
        url = line.split()[0]
        with needed("httpx").Client(base_url=url, timeout=LONG) as client:
            yield Served(url, client, process, folder)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LONG)
