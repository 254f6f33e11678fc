"""`import mmadfer` is quick and light, and the command line needs no heavy library to say what it can do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from needs import needed

HEAVY = ("torch", "deepspeed", "nvidia.dali", "submitit", "onnxruntime", "timm", "av", "facenet_pytorch", "matplotlib")


@pytest.mark.parametrize("module", ["mmadfer", "mmadfer.cli.main", "mmadfer.cli.launch"])
def test_import_pulls_in_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


@pytest.mark.parametrize("module", ["mmadfer.cli.main", "mmadfer.config.schema"])
def test_a_command_starts_without_numpy(module: str) -> None:
    code = f"import sys, {module}; print('numpy' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "False"


def test_a_model_is_built_without_timm_and_the_compiler_of_torch() -> None:
    """Each takes as long to import as torch."""
    code = "import sys, mmadfer.model.weights.build as build; from mmadfer.config.model import ModelConfig; "
    code += "small = {'width': 32, 'depth': 2, 'heads': 2}; "
    code += "build.build_model(ModelConfig(vision=small, audio=small), 7); "
    code += "print([name for name in ('timm', 'torchvision', 'torch._dynamo', 'sympy') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def test_import_on_top_of_torch_takes_less_than_the_limit() -> None:
    # Counted as process time in the child, so that a busy machine does not decide.
    code = "import torch, time; s = time.process_time(); import mmadfer; print(time.process_time() - s)"
    seconds = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(seconds) < 0.3


def test_public_names_are_there() -> None:
    import mmadfer

    assert callable(mmadfer.load)
    assert callable(mmadfer.Recogniser)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mmadfer.nothing


def test_the_threads_of_matrix_products_are_set_before_numpy_is_there() -> None:
    told = "print('numpy' in sys.modules, os.environ['OPENBLAS_NUM_THREADS'])"
    code = f"import sys, os, mmadfer.data.preparation.blas_threads; {told}"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.split() == ["False", "1"]


def test_a_command_looks_for_garbage_less_often() -> None:
    code = "import gc, sys; from mmadfer.cli import main; sys.argv = ['mmadfer', '--help']\n"
    code += "try: main.main()\nfinally: print(gc.get_threshold()[0])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(found.split()[-1]) == 10_000


def test_onnx_runtime_reports_nothing(tmp_path: Path) -> None:
    """Its telemetry leaves a file of its session where temporary files go, as soon as it is imported."""
    needed("onnxruntime")
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    code = "import mmadfer, os, onnxruntime; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"
    assert list(tmp_path.iterdir()) == []
