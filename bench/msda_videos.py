"""Videos of shifted people, through the whole product: what is adaptation to a person without labels worth?

    OMP_NUM_THREADS=1 python bench/msda_videos.py [--seeds 1 2 3] [--folds 1 ... 8] [--alike | --store FILE]

The set is toy_subjects. For each seed and person, `msda_toy` (without task.subjects, which is another question) is
trained on the seven others; `adapt_toy` goes on from there without labels of the person, with a discrepancy that is a
number without a gradient, as released, and with one that has one; and with their labels, as an upper bound. Told is the
UAR on the half of the person's clips that does not adapt, in percent, mean and standard deviation over seeds; below,
over people, the gain with the paired test over people. With --alike, the set is made without the colours by which a
clip shows whose it is; --store takes a set that is prepared with msda_toy.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np
import torch
from common import machine, result_of_fold, table

from mmadfer.config.schema import load
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.sets import toy_subjects
from mmadfer.evaluation.bootstrap import estimate_over_units

ALONE = ("task.subjects=null", "data.sampler=shuffle", "data.sampler_options={}")
HEADS = ("person", "sources alone", "released", "adapted", "upper bound")


class Outcome(NamedTuple):
    """UAR of one seed and person."""

    before: float
    released: float
    adapted: float
    bound: float


def main() -> None:
    """Train, and print the tables."""
    given = options()
    torch.set_num_threads(1)
    print(machine(), flush=True)
    found = dict[int, list[Outcome]]()
    with tempfile.TemporaryDirectory(prefix="bench-msda-") as name:
        store = given.store or make_store(Path(name), given.alike)
        for seed in given.seeds:
            for fold in given.folds:
                one = outcome(Path(name) / f"{seed}-{fold}", store, seed, fold)
                print(f"seed {seed}, person {fold}: {' '.join(f'{100 * value:.1f}' for value in one)}", flush=True)
                found.setdefault(fold, []).append(one)
    print(people(found), gain(found), sep="\n")


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--folds", type=int, nargs="+", default=[*range(1, toy_subjects.PEOPLE + 1)])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--alike", action="store_true", help="People who all look the same.")
    which.add_argument("--store", type=Path, help="The set, prepared; by default it is made.")
    return parser.parse_args()


def make_store(folder: Path, alike: bool) -> Path:
    """The toy set, prepared."""
    toy_subjects.CAST = 0 if alike else toy_subjects.CAST  # made in this process (jobs=1): another has its own
    root, store = folder / "set", folder / "toy.store"
    toy_subjects.make(root, jobs=1)
    prepare(toy_subjects.table(root), store, load("msda_toy").prepare, jobs=1)
    return store


def outcome(folder: Path, store: Path, seed: int, fold: int) -> Outcome:
    """Train on the others, and adapt to the person of the fold."""
    own = [f"data.store={store}", f"train.seed={seed}"]
    result_of_fold(folder / "sources", "msda_toy", [*own, *ALONE], fold)
    own.append(f"stages.init={folder / 'sources'}")
    adapted = result_of_fold(folder / "adapted", "adapt_toy", own, fold)
    released = result_of_fold(folder / "released", "adapt_toy", [*own, "adapt.mmd_gradient=false"], fold)
    bound = result_of_fold(folder / "bound", "adapt_toy", [*own, "adapt.labels=given"], fold)
    return Outcome(adapted["unadapted"]["uar"], released["uar"], adapted["uar"], bound["uar"])


def people(found: Mapping[int, Sequence[Outcome]]) -> str:
    """A row for each person, and for all."""
    each = [np.array(seeds) for seeds in found.values()]
    rows = [[f"{fold}", *map(told, rows.T)] for fold, rows in zip(found, each, strict=True)]
    whole = ["mean over people, of each seed", *map(told, np.mean(each, axis=0).T)]
    return table(HEADS, [*rows, whole])


def gain(found: Mapping[int, Sequence[Outcome]]) -> str:
    """How much people gain on the mean of seeds, with the paired test."""
    differences = np.array([fmean(one.adapted - one.before for one in seeds) for seeds in found.values()])
    if len(differences) < 2:
        return "one person: no test over people"
    test = estimate_over_units(differences, 10_000, 0)
    return (
        f"gain {100 * test.value:.1f} (95 % interval {100 * test.low:.1f} to {100 * test.high:.1f}, p {test.p:.3f}); "
        f"better for {test.higher}, equal for {test.equal}, worse for {test.lower} of {len(differences)} people"
    )


def told(numbers: Sequence[float]) -> str:
    """Mean and deviation over seeds, in percent."""
    spread = f" ± {100 * stdev(numbers):.1f}" if len(numbers) > 1 else ""
    return f"{100 * fmean(numbers):.1f}{spread}"


if __name__ == "__main__":
    main()
