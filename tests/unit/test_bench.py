"""The benchmark of inference runs, and its tables have every row."""

import os
import re
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "bench" / "inference.py"


def test_every_form_is_measured_or_told_why_not() -> None:
    sizes = ("--clips", "2", "--batch", "2", "--rounds", "1", "--jobs", "1", "--precisions", "fp32", "int8")
    command = [sys.executable, str(PROGRAM), "--small", "--device", "cpu", *sizes]
    env = {**os.environ, "CXX": str(PROGRAM.with_name("no-compiler")), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert not done.returncode, done.stderr
    limits = (
        ("torch eager fp32", 1e-9),
        ("torch autocast bf16 *", 1e-1),
        ("ONNX Runtime fp32", 1e-5),
        ("ONNX Runtime int8", 1e-1),
    )
    for form, most in limits:
        found = re.search(rf"^{re.escape(form)} .* (\S+e\S+) +2/2$", done.stdout, re.MULTILINE)
        assert found is not None, done.stdout
        assert float(found[1]) < most, form
    assert re.search(r"^torch\.compile fp32 \*: not run: .*C\+\+ compiler", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^ONNX Runtime int8 +[0-9.]+$", done.stdout, re.MULTILINE), "from file to label"
    for step in ("find the face (MTCNN)", "decode H.264, two passes", "filter bank", "the model", "the rest"):
        assert re.search(rf"^{re.escape(step)} +[0-9.]+ +\d+%$", done.stdout, re.MULTILINE), step
