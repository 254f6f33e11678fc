"""What precision, batch size and learning rate make of a whole training, on the toy set.

    python bench/curves.py [--data TOY.store] [--folds 1 2 3] [--batches 8 16 32 64] [--plot curves.svg]

Precision: every `train.precision` from the same start; told are the loss of some epochs (means over the folds), how
far any epoch of any fold is from `reference`, and the last epoch's UAR. Batch: each size with each `train.lr_scaling`;
a larger batch leaves fewer steps, so this says which rule makes the most of them. Without a store, toy videos are made.
On a CPU, fp8 is simulated: the same numbers, not the speed.
"""

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, get_args

from common import machine, table

from mmadfer.config.schema import Precision, load
from mmadfer.train.loop import train

RULES = ("none", "sqrt", "linear")


@dataclass(frozen=True)
class Ended:
    """One training of some folds."""

    curves: list[list[float]]
    """Loss of each epoch, by fold."""
    uars: list[float]
    """Of the last epoch, by fold."""

    @property
    def curve(self) -> list[float]:
        """Mean over the folds."""
        return list(map(mean, zip(*self.curves, strict=True)))


def main() -> None:
    """Train, and print two tables."""
    given = options()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-curves-") as name:
        work = Path(name)
        common = [f"data.store={given.data or toy_store(work, given.config)}"]
        if given.epochs:
            common.append(f"train.epochs={given.epochs}")

        def ended(label: str, *settings: str) -> Ended:
            print(f"{label} …", file=sys.stderr, flush=True)
            return trained(work / label, given.config, given.folds, [*common, *settings])

        precisions = {kind: ended(kind, f"train.precision={kind}") for kind in given.precisions}
        compare_precisions(precisions)
        if given.plot:
            plot(precisions, given.plot)
        compare_batches({
            (size, rule): ended(f"{size} {rule}", f"train.batch_size={size}", f"train.lr_scaling={rule}")
            for size in given.batches
            for rule in (RULES if size != 8 else RULES[:1])
        })  # fmt: skip


def trainings(description: str | None) -> argparse.ArgumentParser:
    """Which trainings are asked for, of this program and of bench/extras.py."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="demo")
    parser.add_argument("--data", type=Path, help="store for this configuration")
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, help="instead of the configuration's")
    return parser


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = trainings(__doc__)
    parser.add_argument("--precisions", nargs="+", choices=get_args(Precision), default=get_args(Precision))
    parser.add_argument("--batches", type=int, nargs="*", default=[8, 16, 32, 64])
    parser.add_argument("--plot", type=Path, help="SVG of the losses in each precision")
    return parser.parse_args()


def toy_store(work: Path, config: str) -> Path:
    """Toy videos, prepared."""
    words = ["prepare", "toy", "--root", str(work / "media"), "--out", str(work / "toy.store"), "--config", config]
    subprocess.run([sys.executable, "-m", "mmadfer", *words], check=True, stdout=sys.stderr)
    return work / "toy.store"


def trained(folder: Path, config: str, folds: Sequence[int], settings: Sequence[str]) -> Ended:
    """Train these folds, one after the other, without their talk."""
    curves, uars = list[list[float]](), list[float]()
    for fold in folds:
        with contextlib.redirect_stdout(io.StringIO()):
            result = train(load(config, settings), fold, folder / str(fold))
        if not result.finished:  # training itself takes ctrl-C, to save
            sys.exit("stopped")
        lines = map(json.loads, (folder / str(fold) / "metrics.jsonl").read_text().splitlines())
        curves.append([line["loss"] for line in lines if line["event"] == "epoch"])
        uars.append(result.scores["uar"])
    return Ended(curves, uars)


def compare_precisions(found: Mapping[str, Ended]) -> None:
    """The table of precisions, the first of which all are compared with."""
    first = next(iter(found.values()))
    shown = sorted({0, *range(4, len(first.curve), 5), len(first.curve) - 1})
    rows = [
        [name, *(f"{own.curve[epoch]:.4f}" for epoch in shown), f"{apart(own, first):.4f}", f"{mean(own.uars):.2%}"]
        for name, own in found.items()
    ]
    print(
        f"\nloss by precision\n{table(['', *(f'epoch {k + 1}' for k in shown), 'most apart', 'UAR'], rows)}", flush=True
    )


def apart(own: Ended, other: Ended) -> float:
    """The largest difference of an epoch's loss, in any fold."""
    pairs = zip(own.curves, other.curves, strict=True)
    return max(abs(a - b) for some, others in pairs for a, b in zip(some, others, strict=True))


def compare_batches(found: Mapping[tuple[int, str], Ended]) -> None:
    """The table of batch sizes and rules."""
    rows = [
        [
            f"{size}, {rule}",
            f"{own.curve[0]:.4f}",
            f"{own.curve[-1]:.4f}",
            f"{mean(own.uars):.2%}",
            f"{min(own.uars):.2%}",
        ]
        for (size, rule), own in found.items()
    ]
    print(f"\nbatch, lr_scaling\n{table(['', 'first loss', 'last loss', 'UAR', 'worst fold'], rows)}", flush=True)


def plot(found: Mapping[str, Ended], path: Path) -> None:
    """Mean losses over epochs, one line for each precision."""
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for k, (name, own) in enumerate(found.items()):
        epochs = range(1, len(own.curve) + 1)
        axes.plot(epochs, own.curve, label=name, linewidth=3 - 0.5 * k, linestyle=("-", "--", "-.", ":", "-")[k % 5])
    axes.set(xlabel="epoch", ylabel="training loss, mean of folds", yscale="log")
    axes.legend()
    figure.savefig(path)


if __name__ == "__main__":
    main()
