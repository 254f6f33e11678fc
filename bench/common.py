"""What every benchmark prints: the machine it ran on, and a plain table that can be pasted into a document."""

import json
import os
import platform
import pstats
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from cProfile import Profile
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mmadfer
from mmadfer.run.provenance import processor

PACKAGES = (
    "mmadfer", "torch", "av", "pillow", "numpy", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx-cu13",
    "nvidia-dali-cuda130",
)  # fmt: skip
REST = "the rest"


def uar_of_fold_1(run: Path, name: str, overrides: Sequence[str]) -> float:
    """Train fold 1 of a configuration; its UAR. Ends the program where training was asked to stop."""
    return float(result_of_fold(run, name, overrides, 1)["uar"])


def result_of_fold(run: Path, name: str, overrides: Sequence[str], fold: int) -> dict[str, Any]:
    """Train a fold of a configuration; its result.json. Ends the program where training was asked to stop."""
    from mmadfer.config.schema import load
    from mmadfer.run import directory as runs
    from mmadfer.train.loop import train

    config = load(name, overrides)
    folder = runs.open_fold(run, config, fold)
    if not train(config, fold, folder).finished:
        raise SystemExit("stopped: what was measured stands above, and nothing else is kept")
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def machine() -> str:
    """One line: date, CPU, cores that this process may use, how busy they are, GPUs, versions, commit."""
    import torch

    gpus = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    found = {name: found for name in PACKAGES if (found := _version(name))}
    versions = ", ".join(f"{name} {number}" for name, number in found.items())
    cores = f"{len(os.sched_getaffinity(0))} cores (load {os.getloadavg()[0]:.1f} before)"
    parts = [date.today().isoformat(), processor(), cores, *gpus]
    code = commit(Path(mmadfer.__file__))
    return f"{', '.join(parts)}; Python {platform.python_version()}, {versions}{code and f'; commit {code}'}"


def commit(file: Path) -> str:
    """Of the checkout that knows this file, with `-dirty` if anything that it knows is changed; else empty."""
    found = ""
    for command in (["ls-files", "--error-unmatch", file.name], ["describe", "--always", "--dirty", "--exclude=*"]):
        try:
            done = subprocess.run(["git", *command], cwd=file.parent, capture_output=True, text=True, check=True)
        except (OSError, subprocess.SubprocessError):
            return ""
        found = done.stdout.strip()
    return found


def short(value: float) -> str:
    """Three digits, and whole numbers in full."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A plain text table: the first column to the left, the others to the right, a rule under the heads."""
    lines = [[str(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = [
        "  ".join(_pad(k, cell, width) for k, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in lines
    ]
    return "\n".join([texts[0], "  ".join("-" * width for width in widths), *texts[1:]])


def _pad(column: int, cell: str, width: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)


@contextmanager
def on_cores(count: int) -> Iterator[None]:
    """Let this process, and those that it starts meanwhile, use `count` cores only; threads that run stay elsewhere."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def turns(names: Sequence[str], rounds: int) -> Iterator[tuple[int, list[str]]]:
    """The number of each round, and the order in it: each starts with another name."""
    for number in range(rounds):
        first = number % len(names)
        yield number, [*names[first:], *names[:first]]


def by_step(profiler: Profile, steps: Mapping[str, tuple[str, str]], every: bool = True) -> dict[str, float]:
    """Where the time went, the most first.

    Args:
        profiler: that has run.
        steps: what to name -> the file and the function that does it; none of them calls another.
        every: whether all of them must have run; else those that have not are left out.

    Returns:
        seconds of each step and of `REST`, by the profiler's clock.

    Raises:
        LookupError: a function that has not run: it has another name by now.
    """
    stats: dict[Any, Any] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    found = dict.fromkeys(steps, 0.0)
    for (file, _, function), entry in stats.items():
        for step, where in steps.items():
            found[step] += entry[3] if (Path(file).name, function) == where else 0.0
    missing = [step for step, seconds in found.items() if not seconds]
    if missing and every:
        raise LookupError(f"nothing has run that is known as {', '.join(missing)}: mend the table of steps")
    for step in missing:
        del found[step]
    found[REST] = max(entry[3] for entry in stats.values()) - sum(found.values())
    return dict(sorted(found.items(), key=lambda item: -item[1]))
