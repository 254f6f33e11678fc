"""What a product installs: the wheel with the extra `serve`, by hashes, in an environment that has nothing else."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
HEAVY = ("torch", "torchvision", "timm", "nvidia.dali", "deepspeed", "facenet_pytorch", "onnx", "requests", "submitit")
LOOK = f"""
from importlib import import_module
import mmadfer, mmadfer.cli.main
from mmadfer import Recogniser
found = []
for name in {HEAVY}:
    try:
        import_module(name)
    except ModuleNotFoundError:
        continue
    found.append(name)
print(found)
"""
MODEL = """
import sys
from pathlib import Path
import torch
from export_setup import CONTRACT, awake
from mmadfer.data.sets import toy
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.model.weights.build import save_weights

torch.set_num_threads(1)
out = Path(sys.argv[1])
save_weights(out / "tiny.safetensors", awake(1), CONTRACT, frozen=True)
to_onnx(out / "tiny.safetensors", out / "tiny.onnx")
toy.make(out / "toy", clips_per_class=1, jobs=1)
"""
PREDICT = (
    "-m",
    "mmadfer",
    "predict",
    "toy/sad/sad-000.mp4",
    "toy/happy/happy-000.mp4",
    "--model",
    "tiny.onnx",
)


PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")
MANY = ("-m", "mmadfer", "predict", "toy", "--model", "tiny.onnx", "--jobs", "2", "--window", "1", "--out")


def called(*command: str | Path, cwd: Path, alone: bool = True) -> str:
    """What a program prints; on its own without this environment's search path."""
    settings = {name: value for name, value in os.environ.items() if not (alone and name.startswith("PYTHON"))}
    done = subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with videos and a model that answers differently to each."""
    folder = tmp_path_factory.mktemp("work")
    code = f"import sys; sys.path[:0] = {[str(TESTS), str(TESTS / 'export')]!r}\n{MODEL}"
    called(sys.executable, "-c", code, folder, cwd=folder, alone=False)
    return folder


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a fresh environment with mmadfer[serve] and what that needs, of the versions and hashes in its lock."""
    folder = tmp_path_factory.mktemp("serve")
    source = folder / "source"  # setuptools writes beside what it packs
    shutil.copytree(ROOT / "mmadfer", source / "mmadfer", ignore=shutil.ignore_patterns("__pycache__"))
    (source / "docs").mkdir()
    for name in ("pyproject.toml", "LICENSE", "docs/package.md"):
        shutil.copy(ROOT / name, source / name)
    called(*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", symlinks=True)
    python = folder / "env" / "bin" / "python"
    install = (*PIP, "--python", python, "install")
    called(*install, "--require-hashes", "-r", ROOT / "requirements-serve.lock", cwd=folder)
    called(*install, "--no-index", f"{wheel}[serve]", cwd=folder)  # nothing is missing
    return python


@pytest.fixture(scope="module")
def alone(bare: Path, work: Path) -> Path:
    """A prediction of the wheel's."""
    called(bare, *PREDICT, "--out", "alone.json", cwd=work)
    return work / "alone.json"


@pytest.fixture(scope="module")
def paged(bare: Path) -> Path:
    """The same environment, with mmadfer[page] as well: for the last tests."""
    lock = ROOT / "requirements-page.lock"
    called(*PIP, "--python", bare, "install", "--require-hashes", "-r", lock, cwd=bare.parent)
    return bare


@pytest.mark.slow
def test_serving_needs_no_training_library(bare: Path, work: Path) -> None:
    assert called(bare, "-c", LOOK, cwd=work).strip() == "[]"
    assert "torch: model, training: pip install" in called(bare, "-m", "mmadfer", "doctor", cwd=work)


@pytest.mark.slow
def test_the_prediction_is_that_of_the_whole_environment(work: Path, alone: Path) -> None:
    called(sys.executable, *PREDICT, "--out", "beside.json", cwd=work, alone=False)
    found, beside = (json.loads(path.read_text()) for path in (alone, work / "beside.json"))
    assert [one["label"] for one in found] == [one["label"] for one in beside]
    assert found[0]["probabilities"] != found[1]["probabilities"]
    for one, other in zip(found, beside, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
        assert one["notes"] == other["notes"]


@pytest.mark.slow
def test_nothing_in_it_needs_linux(bare: Path, work: Path, alone: Path) -> None:
    script = TESTS / "unit" / "no_linux.py"
    called(bare, script, *PREDICT[2:], "--out", "elsewhere.json", cwd=work)
    assert (work / "elsewhere.json").read_bytes() == alone.read_bytes()
    done = subprocess.run([bare, script, "serve", "--model", "tiny.onnx"], cwd=work, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"run it on Linux or macOS" in done.stderr


@pytest.mark.slow
def test_folders_windows_and_tables_need_no_more(bare: Path, work: Path) -> None:
    called(bare, *MANY, "alone.csv", cwd=work)
    called(sys.executable, *MANY, "beside.csv", cwd=work, alone=False)
    alone, beside = ((work / name).read_text().splitlines() for name in ("alone.csv", "beside.csv"))
    assert alone[0] == beside[0]
    assert len(alone) == len(beside) > 5  # each of the four videos has several windows


@pytest.mark.slow
def test_what_is_missing_is_told_with_the_extra_that_brings_it(bare: Path, work: Path) -> None:
    command = (bare, "-m", "mmadfer", "predict", "toy/sad/sad-000.mp4", "--model", "tiny.safetensors")
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install '.[" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_page_needs_no_more_than_its_extra(paged: Path, work: Path) -> None:
    assert called(paged, "-c", LOOK, cwd=work).strip() == "[]"
    command = (paged, "-m", "mmadfer", "serve", "--model", "tiny.onnx", "--port", "0")
    with subprocess.Popen(command, cwd=work, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = next(word for word in server.stdout.readline().split() if word.startswith("http://"))
        with urllib.request.urlopen(f"{address}health", timeout=60) as reply:
            assert reply.status == 200
        server.send_signal(signal.SIGINT)
    assert server.returncode in (0, 130)
