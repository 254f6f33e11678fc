"""What each addition to the published recipe makes of a whole training, on the toy set.

    python bench/extras.py [--data TOY.store] [--folds 1 2 3] [--only ema lora]

Each is trained from the same start as the plain recipe, with nothing else changed; the last line has all of them. Told
are the last epoch's loss (with mixup and smoothing it is of other targets: compare UAR), its UAR, and the worst fold's.
The toy set is balanced and its test folds are easy: this says that an addition does no harm, and nothing about DFEW.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import mean

from common import machine, table
from curves import toy_store, trained, trainings

ADDITIONS = {
    "balanced": ["data.sampler=balanced"],
    "mixup": ["data.augment.mixup=0.2"],
    "spec": ["data.augment.spec_time=48", "data.augment.spec_mels=24"],
    "dropout": ["data.augment.drop_vision=0.1", "data.augment.drop_audio=0.1"],
    "smoothing": ["task.label_smoothing=0.1"],
    "ema": ["train.ema=0.95"],
    "lora": ["model.lora.rank=8"],
    "pixels": ["model.pixels=imagenet"],
    "flips": ["data.test_flips=true"],
}
"""Settings of each; the average is over one epoch, as it is in best_dfew_160 (20 steps here, 1000 there)."""


def main() -> None:
    """Train, and print a table."""
    given = options()
    print(machine(), flush=True)
    chosen = {name: ADDITIONS[name] for name in given.only}
    ways = {"plain": list[str](), **chosen, "all": [setting for each in chosen.values() for setting in each]}
    with tempfile.TemporaryDirectory(prefix="bench-extras-") as name:
        work, rows = Path(name), []
        common = [f"data.store={given.data or toy_store(work, given.config)}"]
        if given.epochs:
            common.append(f"train.epochs={given.epochs}")
        for way, settings in ways.items():
            print(f"{way} …", file=sys.stderr, flush=True)
            found = trained(work / way, given.config, given.folds, [*common, *settings])
            rows.append([way, f"{found.curve[-1]:.4f}", f"{mean(found.uars):.2%}", f"{min(found.uars):.2%}"])
    print(table(["", "last loss", "UAR", "worst fold"], rows))


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = trainings(__doc__)
    parser.add_argument("--only", nargs="+", choices=ADDITIONS, default=list(ADDITIONS), help="these, and all of these")
    return parser.parse_args()


if __name__ == "__main__":
    main()
