"""What we use of DeepSpeed, submitit and torch beyond their documentation is still there, and does what we need."""

import ast
import importlib
import inspect
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mmadfer
from mmadfer.utils import compat

ROOT = Path(mmadfer.__file__).parent
PUBLIC = ("deepspeed", "submitit", "submitit.core.utils", "submitit.helpers")


def _uses(tree: ast.AST) -> list[str]:
    """Undocumented names of the three libraries in a module."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr[:1] == "_" and ast.unparse(node.value).startswith("torch"):
            found.append(ast.unparse(node))
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "need" and isinstance(node.args[0], ast.Constant):
            modules = [str(node.args[0].value)]
        found += [name for name in modules if _is_private(name)]
    return found


def _is_private(module: str) -> bool:
    first, *rest = module.split(".")
    if first == "torch":
        return any(part.startswith("_") for part in rest)
    return first in ("deepspeed", "submitit") and module not in PUBLIC


def test_undocumented_names_stand_in_one_place() -> None:
    found = {path: _uses(ast.parse(path.read_text())) for path in ROOT.rglob("*.py")}
    assert [path.name for path, names in found.items() if names] == ["compat.py"], found
    private = ast.parse("torch._x(1); from torch._C import Store; need('deepspeed.ops', 'train')")
    assert sorted(_uses(private)) == ["deepspeed.ops", "torch._C", "torch._x"]


def test_torch_keeps_compiled_programs_where_timm_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert Path(compat.compiled_programs_folder()).parent == tmp_path
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/elsewhere")
    from torch._inductor.runtime.runtime_utils import cache_dir

    assert cache_dir() == "/elsewhere"


def test_torch_multiplies_float8() -> None:
    schema = str(torch.ops.aten._scaled_mm.default._schema)
    for part in ("self", "mat2", "scale_a", "scale_b", "bias", "out_dtype"):
        assert f" {part}" in schema
    assert compat.scaled_matrix_product() is torch._scaled_mm


def test_a_module_without_memory_is_allocated_as_torch_does_it() -> None:
    kinds = []
    for make in (compat.allocate, lambda model: model.to_empty(device="cpu")):
        with torch.device("meta"):
            model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3).half())
        model[0].bias.requires_grad_(False)
        made = make(model)
        assert made is model
        values = [*made.named_parameters(), *made.named_buffers()]
        kinds.append([(k, type(v), v.shape, v.stride(), v.dtype, v.device, v.requires_grad) for k, v in values])
    assert kinds[0] == kinds[1]
    assert {device for *_, device, _ in kinds[0]} == {torch.device("cpu")}
    with torch.device("meta"):  # as where somebody sets a default device, such as a GPU
        assert compat.allocate(torch.nn.Linear(2, 3)).weight.device == torch.device("cpu")


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
@pytest.mark.parametrize("fused", [False, True])
def test_an_optimizer_without_the_compiler_steps_as_torchs_does(kind: Any, fused: bool) -> None:
    found = []
    for made in (kind, compat.without_compiler(kind)):
        weight = torch.linspace(-1, 1, 40).requires_grad_()
        optimizer = made([weight], lr=0.1, weight_decay=0.01, fused=fused)
        assert isinstance(optimizer, kind)
        optimizer.add_param_group({"params": [torch.ones(2, requires_grad=True)], "lr": 1.0})
        for _ in range(3):
            optimizer.zero_grad()
            weight.pow(3).sum().backward()
            optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
        found.append((weight.detach(), optimizer.state_dict()))
    assert torch.equal(found[0][0], found[1][0])
    assert str(found[0][1]) == str(found[1][1])
    assert not torch.equal(found[0][0], torch.linspace(-1, 1, 40))


def test_an_optimizer_without_the_compiler_does_not_import_it() -> None:
    code = "import sys, torch; from mmadfer.utils import compat; weight = torch.ones(2, requires_grad=True); "
    code += "made = compat.without_compiler(torch.optim.AdamW)([weight], fused=True); weight.sum().backward(); "
    code += "made.step(); made.zero_grad(); made.load_state_dict(made.state_dict()); "
    code += "print('torch._dynamo' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "False"


def _lists() -> tuple[list[Tensor], list[Tensor]]:
    return [torch.tensor([0.0, 1.0]), torch.tensor(2.0)], [torch.tensor([4.0, 1.0]), torch.tensor(6.0)]


def test_lists_of_tensors_move_and_are_copied_in_place() -> None:
    values, targets = _lists()
    first = values[0]
    compat.move_towards(values, targets, torch.tensor(0.25))
    assert [value.tolist() for value in values] == [[1.0, 1.0], 3.0]
    assert [target.tolist() for target in targets] == [[4.0, 1.0], 6.0]
    compat.copy_all(values, targets)
    assert first.tolist() == [4.0, 1.0]


def test_deepspeed_asks_its_table_before_it_compiles_communication() -> None:
    import deepspeed.ops

    communication = importlib.import_module("deepspeed.comm.torch")
    compat.without_compiled_communication()
    assert deepspeed.ops.__compatible_ops__ == {}
    assert "not deepspeed.ops.__compatible_ops__.get(builder.NAME, False)" in inspect.getsource(communication)


def test_deepspeed_keeps_process_groups_in_variables_that_can_be_reset() -> None:
    from deepspeed.comm import comm
    from deepspeed.utils import groups

    comm.cdb = "of an earlier training"
    groups._WORLD_GROUP = "of an earlier training"
    compat.forget_process_groups()
    assert comm.cdb is None
    assert groups._WORLD_GROUP is None


class Engine:
    """As much of DeepSpeed's as is needed to see what is put in."""

    checkpoint_engine = None


def test_deepspeed_reads_and_writes_through_our_functions(tmp_path: Path) -> None:
    from deepspeed.runtime.engine import DeepSpeedEngine

    engine, written = Engine(), dict[Path, object]()
    full = OSError("full")

    def write(path: Path, value: object) -> OSError | None:
        written[path] = value
        return full if value == "second" else None

    compat.checkpoint_files(engine, write, written.__getitem__)
    files: object = engine.checkpoint_engine
    assert files is not None
    for value in ("first", "second", "third"):
        files.save(value, str(tmp_path / value))
    assert files.problem is full
    assert files.load(str(tmp_path / "first"), map_location="cpu") == "first"
    source = inspect.getsource(DeepSpeedEngine)
    assert "self.checkpoint_engine.save(" in source
    assert "self.checkpoint_engine.load(" in source
    assert "torch.load(" not in source


def test_deepspeed_counts_micro_batches() -> None:
    from deepspeed.runtime.engine import DeepSpeedEngine

    assert "self.micro_steps += 1" in inspect.getsource(DeepSpeedEngine)
    assert "self.micro_steps + 1" in inspect.getsource(DeepSpeedEngine.is_gradient_accumulation_boundary)


def test_deepspeed_pickles_these_classes() -> None:
    names = [getattr(kind, "__name__", "") for kind in compat.checkpoint_classes()]
    assert names == ["LossScaler", "ZeroStageEnum", "fragment_address"]


def test_submitit_writes_the_sbatch_file_that_it_would_submit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from submitit import SlurmExecutor

    (tmp_path / "srun").touch(mode=0o755)  # all that it looks for
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    text = compat.sbatch_text(tmp_path, {"job_name": "name", "map_count": 3})
    made = SlurmExecutor(tmp_path)
    made.update_parameters(job_name="name")
    made.parameters["map_count"] = 3  # as it does itself for an array
    assert text == made._make_submission_file_text(made._submitit_command_str, "unused")


def test_submitit_requeues_by_this_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    from submitit.core.job_environment import JobEnvironment

    assert compat.requeue_signal() == JobEnvironment._usr_sig() == signal.SIGUSR2
    monkeypatch.setenv("SUBMITIT_PREEMPT_SIGNAL", "USR1")
    assert compat.requeue_signal() == signal.SIGUSR1
    assert "self._usr_sig(), handler.checkpoint_and_try_requeue" in inspect.getsource(JobEnvironment)
