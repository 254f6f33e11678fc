"""Interfaces of DeepSpeed, submitit and torch that their makers do not document, all in one place.

Each has a test (`tests/unit/test_compat.py`) that fails when the library changes, and `pyproject.toml` bounds the
versions of all three. Nothing is imported before it is asked for.
"""

import importlib
import inspect
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmadfer.utils.optional import need


def compiled_programs_folder() -> str:
    """Where torch.compile keeps its programs unless TORCHINDUCTOR_CACHE_DIR names a place."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    return default_cache_dir()


def scaled_matrix_product() -> Callable[..., Any]:
    """torch's product of two float8 matrices: (M, K), (K, N), scales (M, 1), (1, N) -> (M, N)."""
    import torch

    return torch._scaled_mm


def move_towards(values: list[Any], targets: list[Any], share: Any) -> None:
    """values += share * (targets - values), in place; lists of tensors of equal shapes, share a tensor ().

    On a GPU three launches for the whole lists, where a loop would need three for each tensor.
    """
    import torch

    apart = torch._foreach_sub(targets, values)
    torch._foreach_mul_(apart, share)
    torch._foreach_add_(values, apart)


def copy_all(targets: list[Any], values: list[Any]) -> None:
    """Copy each of `values` into its target, in place; lists of tensors of equal shapes."""
    import torch

    torch._foreach_copy_(targets, values)


def allocate(model: Any) -> Any:
    """`model.to_empty(device="cpu")` for a module on `meta`, without the half second in which that imports sympy."""
    import torch

    return model._apply(lambda value: torch.empty(value.shape, dtype=value.dtype, device="cpu"))


def without_compiler(kind: type[Any]) -> type[Any]:
    """A class of torch's optimizers, which computes the same and does not import torch's compiler for half a second.

    These methods ask the compiler to leave them alone; nothing that is compiled here calls an optimizer.
    """
    import torch

    names = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
    plain = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    return type(kind.__name__, (kind,), {**plain, "step": torch.no_grad()(inspect.unwrap(kind.step))})


def without_compiled_communication() -> None:
    """Keep DeepSpeed's communication from compiling a kernel for a minute; it does without it."""
    need("deepspeed.ops", "train").__compatible_ops__ = {}


def forget_process_groups() -> None:
    """Let a process train a second time: DeepSpeed keeps the process groups of the first in global variables."""
    comm = need("deepspeed.comm.comm", "train")
    if comm.cdb is not None:
        comm.cdb = None
        importlib.reload(need("deepspeed.utils.groups", "train"))


def checkpoint_files(engine: Any, write: Callable[[Path, Any], OSError | None], read: Callable[[Path], Any]) -> None:
    """Replace a DeepSpeed engine's way to files; what a write could not do is then in its `checkpoint_engine.problem`.

    Args:
        engine: of `deepspeed.initialize`.
        write: writes a value to a path; returns what went wrong.
        read: the value at a path.
    """
    module = need("deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine", "train")
    files = module.TorchCheckpointEngine()
    files.problem = None

    def save(state_dict: Any, path: str) -> None:
        files.problem = write(Path(path), state_dict) or files.problem

    files.save, files.load = save, lambda path, map_location=None: read(Path(path))
    engine.checkpoint_engine = files


def count_skipped_micro_batch(engine: Any) -> None:
    """Drop a DeepSpeed engine's gradients (ZeRO stage 0) and count the micro-batch as if it had stepped."""
    engine.zero_grad()
    engine.micro_steps += 1


def checkpoint_classes() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Classes other than torch's that DeepSpeed pickles into its checkpoints; they hold plain values."""
    return [
        need("deepspeed.runtime.fp16.loss_scaler", "train").LossScaler,
        need("deepspeed.runtime.zero.config", "train").ZeroStageEnum,
        need("deepspeed.utils.tensor_fragment", "train").fragment_address,
    ]


def sbatch_text(folder: Path, options: dict[str, Any]) -> str:
    """The sbatch file that submitit writes for jobs of `folder` with these of its parameters."""
    make = need("submitit.slurm.slurm", "train")._make_sbatch_string
    command = f"{shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(str(folder))}"
    return str(make(command, folder, **options))


def requeue_signal() -> signal.Signals:
    """The signal before a time limit or at preemption, whose handler of submitit's queues a job again."""
    return signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]
