"""What `mmadfer serve` does under load: latency, requests per second, answers lost or changed, memory.

    python bench/serve.py [--clients 10] [--requests 200] [--full] [--full-requests 20] [--small] [--jobs N]

A server is started as people start it, with a model of the demo's size and random weights, exported to ONNX; with
--full also with MMA-DFER as published, in int8. Clients on this machine send toy videos, each its next one as soon as
the answer is there, and follow the job's events: a request is upload, job and prediction. Each server has three rounds:
all clients with half of the requests; the other half while one more client trickles its upload; and 4 clips by one
client, for the time of a request alone. All answers, also the slow client's, are compared with direct predictions of
the same files: `differ` counts those of which label, probabilities, segments or notes are not equal bit by bit, `lost`
the requests without an answer. Memory is that of the server and its processes together (PSS): before, the most, and 5 s
after the last answer.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import torch
from _forms import Missing, run, toy_store
from _model import SMALL, awake
from common import machine, table

from mmadfer.config.schema import ModelConfig, PrepareConfig, load
from mmadfer.contract import Contract
from mmadfer.data.sets import toy
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.model.weights.build import save_weights
from mmadfer.runtime import Recogniser

CALIBRATING = 8
"""Toy clips that int8 is calibrated with."""
ALONE = 4
"""Requests of the round of one client."""
AFTER_SECONDS, SAMPLE_SECONDS = 5.0, 0.25
TRICKLE_BYTES, TRICKLE_SECONDS = 512, 0.1
WAIT = 600.0
HEADS = ["", "requests", "lost", "differ", "s, 50 %", "95 %", "99 %", "requests/s", "MB before", "most", "after"]


def main() -> None:
    """Make, measure, and print the table."""
    given = options()
    print(machine(), f"{given.clients} clients, {torch.get_num_threads()} threads", sep="\n", flush=True)
    rows, good = list[list[object]](), True
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as name:
        for model, kind, requests in chosen(given):
            path = exported(Path(name) / kind, kind)
            toys = Path(name) / "clips"
            if not toys.exists():
                toy.make(toys, clips_per_class=2)
            files = [clip.media for clip in toy.table(toys).clips]
            found = measured(path, files, given.clients, requests, given.jobs)
            rows += [[f"{model}, {what}", *one.cells()] for what, one in found.items()]
            good = good and not any(one.lost or one.differ for one in found.values())
            print(table(HEADS, rows), file=sys.stderr, flush=True)
    print(table(HEADS, rows))
    sys.exit(0 if good else 1)


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--requests", type=int, default=200, help="of all clients together, in two halves; 0: none")
    parser.add_argument("--full", action="store_true", help="also the model of the paper's size, in int8")
    parser.add_argument("--full-requests", type=int, default=20)
    parser.add_argument("--small", action="store_true", help="the tests' tiny model instead of the demo's")
    parser.add_argument("--jobs", type=int, help="as `mmadfer serve --jobs`")
    return parser.parse_args()


def chosen(given: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    """Models: what the table calls them, their kind, and how many requests."""
    if given.requests:
        yield ("tiny" if given.small else "demo"), ("small" if given.small else "demo"), given.requests
    if given.full:
        yield "MMA-DFER, 160 px, int8", "full", given.full_requests


def exported(folder: Path, kind: str) -> Path:
    """A model with random weights as ONNX file, made in a process of its own."""
    folder.mkdir()
    demo = load("demo")
    models = {"small": SMALL, "demo": demo.model, "full": ModelConfig()}
    settings = {"small": PrepareConfig(face_size=64), "demo": demo.prepare, "full": PrepareConfig()}
    facts: dict[str, Any] = {"data_set": toy.TOY, "fold": 1}
    contract = Contract(labels=tuple(toy.TOY_CLASSES), model=models[kind], prepare=settings[kind], **facts)
    weights, missing = folder / "model.safetensors", Missing()
    save_weights(weights, awake(contract.model, len(contract.labels)), contract, frozen=True)
    low: dict[str, Any] = {}
    if kind == "full":
        low = {"precision": "int8", "data": toy_store(folder, contract, CALIBRATING), "fold": contract.fold}
    if not (files := run({kind: partial(to_onnx, weights, folder / "model.onnx", **low)}, True, missing)):
        sys.exit(f"bench/serve.py: {missing}")
    return files[kind]


# ---------------------------------------------------------------- the server


@contextmanager
def server(model: Path, jobs: int | None) -> Iterator[tuple[str, int]]:
    """`mmadfer serve` on a free port: its address, and its process."""
    command = [sys.executable, "-m", "mmadfer", "serve", "--model", str(model), "--port", "0"]
    command += [] if jobs is None else ["--jobs", str(jobs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "300"}) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            address = next((word for line in lines for word in line.split() if word.startswith("http://")), "")
            if not address:
                sys.exit("bench/serve.py: the server does not start; what it has said stands above")
            threading.Thread(target=process.stdout.read, daemon=True).start()
            yield address.rstrip("/"), process.pid
        finally:
            process.terminate()


def megabytes(process: int) -> float:
    """Of a process and all below it (PSS)."""
    return sum(_own_megabytes(one) for one in family(process))


def family(process: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):  # it has ended meanwhile
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    found = [process]
    for one in found:
        found += children.get(one, [])
    return found


def _own_megabytes(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000


class Memory:
    """The most megabytes of a process while a block runs, sampled by a thread."""

    def __init__(self, process: int) -> None:
        self._process, self._over, self.most = process, threading.Event(), 0.0
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.most = max(self.most, megabytes(self._process))

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


# ---------------------------------------------------------------- the clients


@dataclass
class Round:
    """Of one round of requests."""

    seconds: list[float] = field(default_factory=list)
    """Of each request that was answered."""
    asked: int = 0
    differ: int = 0
    spent: float = 0.0
    memory: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Megabytes: before, the most, and after."""

    @property
    def lost(self) -> int:
        """Requests without an answer."""
        return self.asked - len(self.seconds)

    def cells(self) -> list[str]:
        """Of a row."""
        points = statistics.quantiles(self.seconds, n=100, method="inclusive") if len(self.seconds) > 1 else [0.0] * 99
        shown = [f"{points[k - 1]:.2f}" for k in (50, 95, 99)]
        counts = [str(self.asked), str(self.lost), str(self.differ)]
        return [*counts, *shown, f"{len(self.seconds) / self.spent:.2f}", *(f"{mb:.0f}" for mb in self.memory)]


def request(client: httpx.Client, file: Path) -> dict[str, Any]:
    """Send a video, follow its job, and give the prediction.

    Raises:
        RuntimeError, httpx.HTTPError: there is none.
    """
    while True:
        with file.open("rb") as video:
            sent = client.post("/predict", files={"video": (file.name, video, "video/mp4")})
        if sent.status_code != 429:
            break
        time.sleep(float(sent.headers["retry-after"]))
    sent.raise_for_status()
    return followed(client, sent.json()["url"])


def followed(client: httpx.Client, job: str) -> dict[str, Any]:
    """The prediction of a job, when it is done.

    Raises:
        RuntimeError, httpx.HTTPError: there is none.
    """
    with client.stream("GET", job, headers={"accept": "text/event-stream"}) as events:
        kind = ""
        for line in events.iter_lines():
            name, _, rest = line.partition(": ")
            kind = rest if name == "event" else kind
            if name == "data" and kind in ("done", "failed", "cancelled"):
                whole = json.loads(rest)
                if kind == "done":
                    return dict(whole["prediction"])
                raise RuntimeError(f"{kind}: {whole['error']}")
    raise RuntimeError("the events have ended before the job")


def said(prediction: dict[str, Any]) -> list[object]:
    """What must be equal."""
    return [prediction[key] for key in ("label", "probabilities", "segments", "notes")]


def ask(address: str, files: Sequence[Path], direct: dict[Path, list[object]], clients: int, requests: int) -> Round:
    """So many requests by so many clients, each its next one when the one before is answered."""
    found, lock, todo = Round(asked=requests), threading.Lock(), iter(range(requests))

    def work() -> None:
        with httpx.Client(base_url=address, timeout=WAIT, trust_env=False) as client:
            while True:
                with lock:
                    number = next(todo, None)
                if number is None:
                    return
                file, begin = files[number % len(files)], time.perf_counter()
                try:
                    answer = said(request(client, file))
                except (RuntimeError, httpx.HTTPError) as error:
                    print(f"lost: {error}", file=sys.stderr, flush=True)
                    continue
                with lock:
                    found.seconds.append(time.perf_counter() - begin)
                    found.differ += answer != direct[file]

    begin = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(work) for _ in range(clients)]:
            done.result()
    found.spent = time.perf_counter() - begin
    return found


@contextmanager
def trickling(address: str, file: Path) -> Iterator[Callable[[], str]]:
    """A client whose upload comes bit by bit, and with all the rest when it is told to; it gives its job's address."""
    host, port = address.removeprefix("http://").split(":")
    boundary, data, over = "bench-serve", file.read_bytes(), threading.Event()
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="video"; filename="slow.mp4"\r\n\r\n'.encode()
    body = head + data + f"\r\n--{boundary}--\r\n".encode()
    form = f"Content-Type: multipart/form-data; boundary={boundary}\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection((host, int(port)), timeout=WAIT) as line:
        line.sendall(f"POST /predict HTTP/1.1\r\nHost: {host}:{port}\r\n{form}Connection: close\r\n\r\n".encode())
        sent = 0

        def trickle() -> None:
            nonlocal sent
            size = TRICKLE_BYTES
            while not over.wait(TRICKLE_SECONDS if size > 1 else 1.0) and sent < len(body) - 1:
                size = min(TRICKLE_BYTES, -(-(len(body) - sent) // 500))  # ever less, as the round may be long
                line.sendall(body[sent : sent + size])
                sent += size

        def finish() -> str:
            over.set()
            thread.join()
            line.sendall(body[sent:])
            return str(json.loads(line.makefile("rb").read().partition(b"\r\n\r\n")[2])["url"])

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            yield finish
        finally:
            over.set()
            thread.join()


def measured(model: Path, files: Sequence[Path], clients: int, requests: int, jobs: int | None) -> dict[str, Round]:
    """The rounds of one model, by what they are called."""
    recogniser = Recogniser(model)
    direct = {file: said(json.loads(json.dumps(recogniser(file).to_dict()))) for file in files}
    del recogniser
    found = dict[str, Round]()
    with server(model, jobs) as (address, process):
        ask(address, files, direct, 1, 2)  # what only the first have to wait for
        for name in (f"{clients} clients", "and a slow one", "1 client"):
            before = megabytes(process)
            with Memory(process) as memory:
                if name == "1 client":
                    one = ask(address, files, direct, 1, ALONE)
                elif name == "and a slow one":
                    with trickling(address, files[0]) as finish:
                        one = ask(address, files, direct, clients, requests - requests // 2)
                        with httpx.Client(base_url=address, timeout=WAIT, trust_env=False) as client:
                            one.differ += said(followed(client, finish())) != direct[files[0]]
                else:
                    one = ask(address, files, direct, clients, requests // 2)
            time.sleep(AFTER_SECONDS)
            one.memory = before, memory.most, megabytes(process)
            found[name] = one
            print(name, *one.cells(), file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
