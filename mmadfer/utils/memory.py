"""How much memory there may be, and whether an error says that it is used up.

For the latter libraries have no common class, and many tell it by words.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmadfer.errors import DataError, WeightsError
from mmadfer.utils import control_groups

_OUT_OF_MEMORY = (
    "out of memory", "allocate memory", "not enough memory", "alloc_failed", "cudaerrormemoryallocation",
    "is smaller than requested bytes", "could not be allocated", "outofmemory",
)  # fmt: skip
"""Of torch, CUDA, cuBLAS, cuDNN, TensorRT and ONNX Runtime, in small letters."""


def lacks_memory(error: BaseException | None) -> bool:
    """Whether an exception says that no memory is left, of the host or of the GPU.

    One about a file does not: a damaged one may ask for any amount.
    """
    if isinstance(error, OSError | DataError):
        return False
    return isinstance(error, MemoryError) or (
        error is not None and any(word in str(error).lower() for word in _OUT_OF_MEMORY)
    )


def limit(groups: Path = control_groups.GROUPS, root: Path = control_groups.ROOT) -> int | None:
    """Most bytes of memory that the control groups of this process allow it, or None."""
    names = {1: "memory.limit_in_bytes", 2: "memory.max"}
    found = [_number(folder / names[version]) for folder, version in control_groups.folders("memory", groups, root)]
    return min((bound for bound in found if bound), default=None)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or `max`
        return None


def first_line(error: BaseException) -> str:
    """What it says, in short."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip()


@contextmanager
def enough(model: object, device: object) -> Iterator[None]:
    """Load a model in the block.

    Raises:
        WeightsError: in place of any error that says that no memory is left on the device.
    """
    try:
        yield
    except Exception as error:
        if not lacks_memory(error):
            raise
        raise no_room(model, device, error) from error


def no_room(model: object, device: object, error: BaseException) -> WeightsError:
    """The error for a model that the memory of a device does not hold."""
    return WeightsError(
        f"no memory is left on the device {device} to load {model} ({first_line(error)}): end what else uses it, or "
        "take another device or a smaller model"
    )
