"""What this machine can do, and the command that mends each lack: `mmadfer doctor`."""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from rich.markup import escape
from rich.table import Table

from mmadfer.errors import RunError
from mmadfer.run.provenance import installed, processor
from mmadfer.utils import cores, file_locks, memory
from mmadfer.utils.console import Console
from mmadfer.utils.optional import install

_PACKAGES = {
    "torch": ("torch", "model, training"),
    "deepspeed": ("train", "training"),
    "nvidia-dali-cuda130": ("train", "training"),
    "submitit": ("train", "launching"),
    "matplotlib": ("train", "reports, plots"),
    "onnx": ("export", "export"),
    "onnxruntime": ("serve", "prediction"),
    "onnxruntime-gpu": ("gpu", "prediction on GPUs, in place of onnxruntime"),
    "nvidia-modelopt": ("quantize", "export in fp16 and bf16"),
    "tensorrt-cu13": ("tensorrt", "engines for datacenter GPUs"),
    "tensorrt-rtx-cu13": ("tensorrt-rtx", "engines for GPUs of graphics cards"),
    "tritonclient": ("triton", "Triton repositories"),
    "fastapi": ("page", "mmadfer serve"),
    "scipy": ("faces", "predict --faces"),
    "tokenizers": ("text", "models of sentences"),
    "grad-cam": ("explain", "explain"),
}
"""Package -> the extra that brings it, and what it is for."""
_EITHER = ("onnxruntime", "onnxruntime-gpu")
"""Of these, one alone may be installed."""
_INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
"""Of the processor, by /proc/cpuinfo's names: int8 is fast with VNNI, bfloat16 with BF16, both with AMX."""
_SHARED = Path("/dev/shm")
_SHARED_LEAST = 1 << 30
"""Bytes that ranks of one node exchange their gradients through, with room to spare."""
_COMMAND_SECONDS = 20


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    here: str
    lack: str = ""
    """How to mend it, and what for; empty where nothing is missing."""


def show_machine() -> None:
    """Print what is there, what is missing, and how to mend that."""
    found, console = list(findings()), Console()
    table = Table("", "here")
    for one in found:
        table.add_row(one.what, escape(one.here))
    console.print(table)
    for one in found:
        if one.lack:
            console.print(f"{one.what}: {one.lack}", soft_wrap=True, highlight=False, markup=False)
    if all(map(installed, _EITHER)):
        console.print("[red]onnxruntime and onnxruntime-gpu break each other: remove both, install one")


def findings() -> Iterator[Finding]:
    """All that `mmadfer doctor` looks at, in order."""
    yield Finding("system", f"{platform.platform(terse=True)}, Python {platform.python_version()}")
    yield _cpu()
    yield _memory()
    yield _shared_memory()
    yield _locks(Path.cwd())
    yield _gpus()
    yield _slurm()
    yield _compiler()
    yield _ffmpeg()
    for package, (extra, purpose) in _PACKAGES.items():
        found = installed(package)
        other = any(installed(name) for name in _EITHER if package in _EITHER)
        yield Finding(package, found or "not installed", "" if found or other else f"{purpose}: {install(extra)}")


def _cpu() -> Finding:
    known = _instructions()
    named = f"; {' '.join(known)}" if known else ""
    granted, there = cores.granted(), os.cpu_count() or 1
    return Finding("CPU", f"{processor()}; CPU cores granted to this process: {granted} of {there}{named}")


def _instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    with suppress(OSError):
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("flags"):
                flags = set(line.split())
                return [name for name in _INSTRUCTIONS if name in flags]
    return []


def _memory(meminfo: Path = Path("/proc/meminfo")) -> Finding:
    try:
        words = (line.split() for line in meminfo.read_text(encoding="utf-8").splitlines())
        sizes = {line[0].rstrip(":"): int(line[1]) << 10 for line in words if len(line) > 1}
        free, there = sizes["MemAvailable"], sizes["MemTotal"]
    except (OSError, KeyError, ValueError):
        return Finding("memory", "the system does not tell")
    bound = memory.limit() or there
    told = f"; this process may use {_gib(bound)}" if bound < there else ""
    return Finding("memory", f"{_gib(free)} free of {_gib(there)}{told}")


def _shared_memory() -> Finding:
    if not _SHARED.is_dir():
        return Finding(str(_SHARED), "not there", "several ranks on one node need it; Linux has it, and containers")
    free = shutil.disk_usage(_SHARED).free
    lack = "several ranks on one node: start the container with --shm-size=8g, or `mount -o remount,size=8g /dev/shm`"
    return Finding(str(_SHARED), f"{_gib(free)} free", "" if free >= _SHARED_LEAST else lack)


def _locks(folder: Path) -> Finding:
    """Whether files in a folder can be locked, which keeps two commands out of one run."""
    what = "file locks here"
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file_locks.hold(file)
    except OSError as error:
        lack = "keep runs on a file system with locks (NFS 4, Lustre mounted with -o flock), or one command to a run"
        return Finding(what, f"none ({error.strerror})", lack)
    return Finding(what, f"held in {folder}")


def _gpus() -> Finding:
    """What the driver says, and whether torch can use it."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1" if sys.platform != "win32" else "nvcuda.dll")
    except OSError:
        return Finding(
            "GPUs", "none, or no driver; everything runs on the CPU", "NVIDIA's driver, where there is a GPU"
        )
    number, count = ctypes.c_int(), ctypes.c_int()
    if status := cuda.cuInit(0):
        return Finding("GPUs", f"the driver refuses (CUDA error {status})", "`nvidia-smi` must show the GPU")
    cuda.cuDriverGetVersion(ctypes.byref(number))
    cuda.cuDeviceGetCount(ctypes.byref(count))
    here = f"{', '.join(_names(cuda, count.value)) or 'none'}; driver for CUDA {_cuda(number.value)}"
    return Finding("GPUs", here, _torch_lack() if count.value else "")


def _names(cuda: ctypes.CDLL, count: int) -> Iterator[str]:
    for index in range(count):
        name = ctypes.create_string_buffer(128)
        cuda.cuDeviceGetName(name, len(name), index)
        yield name.value.decode(errors="replace")


def _cuda(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _torch_lack() -> str:
    """Why torch cannot use a GPU that is there."""
    if find_spec("torch") is None:
        return ""
    import torch

    if torch.version.cuda is None:
        return f"torch {installed('torch')} is built for CPUs: install one for CUDA"
    if not torch.cuda.is_available():
        return f"torch is built for CUDA {torch.version.cuda}, and the driver is older: update the driver"
    return ""


def _slurm() -> Finding:
    from mmadfer.launch.slurm import commands

    try:
        there = commands.present()
    except RunError as error:
        return Finding("SLURM", "does not answer", str(error))
    if not there:
        return Finding("SLURM", "none; `launch` trains on this machine", "on a cluster: `module load slurm`")
    return Finding("SLURM", _first_line("sbatch", "--version"))


def _compiler() -> Finding:
    found = shutil.which("g++") or shutil.which("c++")
    lack = "train.compile: a C++ compiler (`apt-get install g++`)"
    return Finding("C++ compiler", _first_line(found, "--version") if found else "none", "" if found else lack)


def _first_line(*command: str) -> str:
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False)
        return done.stdout.strip().split("\n")[0]
    return "does not answer"


def _ffmpeg() -> Finding:
    import av

    return Finding("FFmpeg", f"{av.ffmpeg_version_info}, in PyAV {av.__version__}")


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
