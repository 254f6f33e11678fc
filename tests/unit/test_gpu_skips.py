"""That tests/gpu, where there is a GPU but a package is missing, skips with the reason, or fails if it must not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from needs import FLAG

ROOT = Path(__file__).parents[2]
PLUGIN = """
import sys
sys.modules["onnx"] = None  # as without extra export

def pytest_collection_finish():
    import gpu_setup
    gpu_setup.why_not = lambda: ""  # as with a GPU
"""


@pytest.mark.parametrize(("flag", "code", "outcome"), [("0", 0, "5 skipped"), ("1", 1, "5 errors")])
@pytest.mark.slow
def test_a_missing_package_is_told(flag: str, code: int, outcome: str, tmp_path: Path) -> None:
    (tmp_path / "without_onnx.py").write_text(PLUGIN)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "tests/gpu/test_gpu_forms.py",
            "-k",
            "warm",
            "-p",
            "without_onnx",
            "-n0",
            "-rsE",
        ],
        cwd=ROOT,
        env={**os.environ, FLAG: flag, "PYTHONPATH": str(tmp_path), "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert outcome in done.stdout
    assert "this needs onnx, which is not installed: pip install '.[export]'" in done.stdout
