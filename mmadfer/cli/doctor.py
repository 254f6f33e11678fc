"""What this machine can do, and whether a store is whole."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from mmadfer.errors import DataError
from mmadfer.utils import cores
from mmadfer.utils.console import Console
from mmadfer.utils.terminal import say

if TYPE_CHECKING:
    from mmadfer.data.store.store import Store

_PACKAGES = {
    "av": "media files",
    "torch": "model, training",
    "timm": "model, training",
    "deepspeed": "training",
    "nvidia-dali-cuda130": "training",
    "submitit": "launching",
    "onnx": "export",
    "onnxruntime": "export, prediction",
    "onnxruntime-gpu": "prediction on GPUs",
    "tensorrt-rtx-cu13": "engines",
}

_MAX_SHOWN = 20
"""Clips that are named."""


def machine() -> None:
    """Print the versions of what is installed, the cores there are, and the GPUs that torch sees."""
    table = Table("package", "version", "for")
    for name, purpose in _PACKAGES.items():
        table.add_row(name, _version(name), purpose)
    console = Console()
    console.print(table)
    console.print(f"CPU cores granted to this process: {cores.granted()}")
    console.print(_gpus())
    if _version("onnxruntime") != "-" and _version("onnxruntime-gpu") != "-":
        console.print("[red]onnxruntime and onnxruntime-gpu break each other: remove both, install one")


def _gpus() -> str:
    if find_spec("torch") is None:
        return "GPUs: only torch can tell, and it is not installed"
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"GPUs: {', '.join(names) or 'none; everything runs on the CPU'}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"


def store(path: Path, media: bool = False) -> None:
    """Verify every record of a store, and with `media` also whether its clips' files are still what they were.

    Raises:
        DataError: records whose checksum does not hold, or files that are gone or changed, by name.
    """
    from mmadfer.data.store.store import Store
    from mmadfer.utils.progress import Meter

    with Store(path) as opened:
        with Meter("verifying", len(opened), goes_on=False) as meter:
            bad = opened.verify(meter.step)
        changed = _changed(opened) if media else {}
    wrong = list[str]()
    if bad:
        wrong.append(f"{len(bad)} of {len(opened)} records are damaged ({_some(bad)}): copy it again, or prepare anew")
    if changed:
        how = _some([f"{name} {what}" for name, what in changed.items()])
        wrong.append(f"the media files of {len(changed)} of {len(opened)} clips are not what they were ({how})")
    if wrong:
        raise DataError(f"{path}: {'; '.join(wrong)}")
    say(f"{path}: {len(opened)} clips, all checksums hold{', and their media files are unchanged' if media else ''}")
    say(f"targets: {_targets(opened)}; splits: {_splits(opened)}{_landmarks(opened)}")


def _targets(opened: "Store") -> str:
    return ", ".join(f"{name} ({found.kind}: {_some(list(found.names))})" for name, found in opened.targets.items())


def _landmarks(opened: "Store") -> str:
    if not opened.header.landmarks:
        return ""
    found, frames = (sum(getattr(clip, name) for clip in opened.clips.values()) for name in ("landmarked", "frames"))
    return f"; landmarks: in {found:,} of {frames:,} frames ({opened.header.landmarks})"


def _splits(opened: "Store") -> str:
    from mmadfer.data.store import splits

    def folds(name: str) -> str:
        if name == splits.BY_SUBJECT:
            return f"data.folds folds of {len({clip.subject for clip in opened.clips.values()})} subjects"
        count = len(opened.split(name).folds)
        return f"{count} fold{'s' * (count != 1)}"

    return ", ".join(f"{name} ({folds(name)})" for name in splits.names(opened.clips))


def _changed(opened: "Store") -> dict[str, str]:
    """Clip id -> in what its files are not what they were; all are read, whatever their dates."""
    from mmadfer.data.store.source_files import changed_files
    from mmadfer.utils.progress import Meter

    files = {name: opened.files(name) for name in opened.clips}
    with Meter("looking at media files", len(files), goes_on=False) as meter:
        return changed_files(files, opened.digests, {}, meter.step)[0]


def _some(names: list[str]) -> str:
    return ", ".join(names[:_MAX_SHOWN]) + (f" and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else "")
