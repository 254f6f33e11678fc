"""The benchmark of training has every way and every goal on a GPU."""

import re
import subprocess
import sys
from pathlib import Path

import torch
from needs import missing

PROGRAM = Path(__file__).parents[2] / "bench" / "train.py"


def test_every_way_to_train_is_measured_or_told_why_not() -> None:
    if not torch.cuda.is_available():
        missing("PyTorch finds no GPU here: another driver, or a build for CPUs")
    few = ("--small", "--clips", "2", "--batch", "2", "--batches", "4", "--rounds", "2", "--steps", "2", "--ranks", "1")
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *few], capture_output=True, text=True, timeout=500, check=False
    )
    assert not done.returncode, done.stderr
    found = re.findall(r"^(\w+(?:, compiled)?)(?:: not run: | .*\d+%)", done.stdout, re.MULTILINE)
    compiled = [f"{precision}, compiled" for precision in ("bf16", "fp16", "fp8")]
    assert set(found) >= {"plain", "reference", "fp32", "bf16", *compiled}, done.stdout
    assert len(re.findall(r"^GPU: .* (?:met|not met)$", done.stdout, re.MULTILINE)) == 4, done.stdout
