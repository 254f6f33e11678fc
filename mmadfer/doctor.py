"""What this machine can do, and whether a store is whole."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmadfer.errors import DataError

PACKAGES = {
    "torch": "model",
    "timm": "model",
    "av": "media files",
    "facenet-pytorch": "faces",
    "deepspeed": "training",
    "nvidia-dali-cuda130": "training",
    "submitit": "launching",
    "onnx": "export",
    "onnxruntime": "export, prediction",
    "onnxruntime-gpu": "prediction on GPUs",
    "tensorrt-rtx-cu13": "engines",
}


def machine() -> None:
    """Print the versions of what is installed, and the GPUs that torch sees."""
    import torch

    table = Table("package", "version", "for")
    for name, purpose in PACKAGES.items():
        table.add_row(name, _version(name), purpose)
    console = Console()
    console.print(table)
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    console.print(f"GPUs: {', '.join(names) or 'none; everything runs on the CPU'}")
    if _version("onnxruntime") != "-" and _version("onnxruntime-gpu") != "-":
        console.print("[red]onnxruntime and onnxruntime-gpu break each other: remove both, install one")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"


def store(path: Path) -> None:
    """Verify every record of a store.

    Raises:
        DataError: records whose checksum does not hold, by name.
    """
    from mmadfer.data.store import Store

    opened = Store(path)
    bad = opened.verify()
    if bad:
        raise DataError(
            f"{path}: {len(bad)} of {len(opened.clips)} records are damaged: {', '.join(bad[:20])}; prepare anew"
        )
    print(f"{path}: {len(opened.clips)} clips, all checksums hold")
