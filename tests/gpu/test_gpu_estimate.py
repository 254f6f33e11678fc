"""What a launch would take, measured on a GPU."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import setting
import torch
from needs import missing, needed


@pytest.fixture(autouse=True)
def _torch_sees_it() -> None:
    if not torch.cuda.is_available():
        missing("PyTorch finds no GPU here: another driver, or a build for CPUs")
    needed("deepspeed")
    needed("submitit")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_estimate_tells_the_gpus_memory_and_hours(tmp_path: Path, precision: str) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(setting.make_config(setting.make_store(tmp_path / "tiny.store"), precision=precision).to_yaml())
    before = sorted(tmp_path.iterdir())
    words = [
        sys.executable,
        "-m",
        "mmadfer",
        "launch",
        str(config),
        "--cluster",
        "local",
        "--gpus-per-fold",
        "1",
    ]
    done = subprocess.run(
        [*words, "--estimate", "--run", str(tmp_path / "run")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert torch.cuda.get_device_name() in done.stdout
    assert " GPU hours" in done.stdout
    told = re.search(r"GPU memory\s+([\d.]+) (MB|GB) of ([\d.]+) GB on each", done.stdout)
    assert told is not None
    total = torch.cuda.get_device_properties(0).total_memory / 1e9
    assert float(told[3]) == pytest.approx(total, rel=0.1)
    assert 0 < float(told[1]) / (1000 if told[2] == "MB" else 1) < total
    assert sorted(tmp_path.iterdir()) == before
