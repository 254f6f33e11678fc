"""A real Triton server on this machine: the one in nvidia-pytriton's wheel, which has the Python backend only."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from needs import missing

WHEELS = ("nvidia-pytriton==0.7.0", "numpy==1.26.4")
"""The server is 2.51, whose Python backend crashes with NumPy 2."""
FOLDER = Path(__file__).parents[2] / "build/triton"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
ONNXRUNTIME = '''"""In place of the ONNX Runtime backend, which no wheel has: its library."""

from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        folder = Path(args["model_repository"]) / args["model_version"]
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])

    def execute(self, requests):
        given = [{one.name(): one.as_numpy() for one in request.inputs()} for request in requests]
        batch = {name: np.concatenate([one[name] for one in given]) for name in given[0]}
        logits = self.session.run(["logits"], batch)[0]
        print("stand-in's batch of", len(logits), flush=True)
        ends = np.cumsum([len(one["frames"]) for one in given])
        parts = np.split(logits, ends[:-1])
        return [triton.InferenceResponse([triton.Tensor("logits", part)]) for part in parts]
'''


class Server(NamedTuple):
    """Where it listens."""

    http: str
    grpc: str
    log: Path

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self.http}/v2/{path}", timeout=60) as answer:
            return json.loads(answer.read() or b"{}")

    def post(self, model: str, data: bytes) -> bytes:
        """Ask with nothing but a file's bytes."""
        headers = {"Inference-Header-Content-Length": "0"}
        request = urllib.request.Request(f"http://{self.http}/v2/models/{model}/infer", data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            body: bytes = answer.read()
        return body


def installed() -> Path:
    """A folder with the wheels, unpacked."""
    done = FOLDER / f"unpacked-{PYTHON}"
    if not done.is_dir():
        partial = FOLDER / f"partial-{os.getpid()}"
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", partial]
        fetched = subprocess.run([*command, *WHEELS], capture_output=True, text=True, check=False)
        if fetched.returncode:
            missing(f"no {' '.join(WHEELS)}: {fetched.stderr.strip()[-200:]}")
        for wheel in partial.glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(partial / ("numpy" if wheel.name.startswith("numpy") else "server"))
            wheel.unlink()
        partial.rename(done)
    return done


def backends(server: Path) -> Path:
    """Folder of backends: Python's for this version of Python, and ONNX Runtime's by way of it.

    They lie where the wheel has them, because Triton follows no links out of this folder.
    """
    folder = server / "backends"
    stub = folder / "python/triton_python_backend_stub"
    if not stub.exists():
        shutil.copy(server / "python_backend_stubs" / PYTHON / stub.name, stub)
    (folder / "onnxruntime").mkdir(exist_ok=True)
    (folder / "onnxruntime/model.py").write_text(ONNXRUNTIME)
    for program in (stub, server / "bin/tritonserver"):
        program.chmod(0o755)
    tried = subprocess.run([stub], capture_output=True, text=True, check=False)
    if tried.returncode == 127:  # of the dynamic linker
        missing(f"Triton's Python backend lacks a library: {tried.stderr.strip()[-150:]}")
    return folder


def environment(place: Path, wheels: Path) -> dict[str, str]:
    """The backend runs an isolated Python, that of the first `python3` on the path: one with these packages."""
    venv.create(place / "env", symlinks=True)
    lines = [str(wheels / "numpy")]
    for path in filter(None, sys.path):
        lines.append(f"import site; site.addsitedir({path!r})" if path.endswith("-packages") else path)
    (site,) = (place / "env/lib").glob("python*/site-packages")
    (site / "all.pth").write_text("\n".join(lines) + "\n")
    path = f"{place / 'env/bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@contextmanager
def serving(place: Path, *repositories: Path) -> Iterator[Server]:
    """A server of some repositories, ready."""
    wheels = installed()
    program = wheels / "server/pytriton/tritonserver"
    http, grpc = _ports()
    server = Server(f"localhost:{http}", f"localhost:{grpc}", place / "log")
    command = [
        program / "bin/tritonserver",
        *(f"--model-repository={repository}" for repository in repositories),
        f"--backend-directory={backends(program)}",
        f"--http-port={http}",
        f"--grpc-port={grpc}",
        "--allow-metrics=false",
        "--disable-auto-complete-config",
    ]
    with server.log.open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment(place, wheels))
        try:
            _wait(server, process)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def _ports() -> list[int]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("localhost", 0))
        return [one.getsockname()[1], other.getsockname()[1]]


def _wait(server: Server, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        try:
            server.get("health/ready")
            return
        except (OSError, urllib.error.URLError):
            assert process.poll() is None, server.log.read_text(errors="replace")[-4000:]
            time.sleep(0.2)
    pytest.fail(f"not ready: {server.log.read_text(errors='replace')[-4000:]}")
