"""Exports for which there is no room: a word that names the path, exit code 2, and what was there stays."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 20_000
"""Bytes that a file may have."""


def export(*words: object) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))

    command = [sys.executable, "-m", "mmadfer", "export", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, check=False)


@pytest.mark.parametrize("form", ["weights", "onnx", "triton"])
def test_no_room_is_told(form: str, checkpoint: Path, onnx_file: Path, store: Path, tmp_path: Path) -> None:
    out = tmp_path / {"weights": "m.safetensors", "onnx": "m.onnx", "triton": "repository"}[form]
    words: list[object] = [onnx_file if form == "triton" else checkpoint, "--out", out]
    if form != "triton":
        out.write_text("what was there")
    done = export(form, *words, *(("--data", store, "--clips", "1") if form == "onnx" else ()))
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == f"error: [Errno 27] File too large: '{out}'"
    assert [path.name for path in tmp_path.iterdir()] == ([] if form == "triton" else [out.name])
    assert form == "triton" or out.read_text() == "what was there"
