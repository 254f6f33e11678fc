"""How fast training is in each arithmetic, against the published recipe run plainly; where a step's time goes; growth.

    python bench/train.py [--batch 2] [--rounds 3] [--batches 1 2 4] [--sizes 112 160 224] [--ranks 1 2] [--small]
    python bench/train.py --joints

`plain` is the published recipe: float32, PyTorch's own loop, timm's blocks with attention written out, AdamW, and the
loss read in every step. The others are mmadfer's engine with that `train.precision`. All have the same weights, train
on the same clips, and take turns in each round, so that what else the machine does hits all alike. Told are medians of
the rounds; `ratio` is the median of those to `plain` in the same round. `of its peak` is the share of what a product of
two square matrices of the same type reached in the same round; operations are those of products, as torch counts them
for `plain`, attention's own included. `loss` and `norm` are the differences to `plain` in the first step, relative for
the norm of the gradient; `ready` is the time until then, with compiling, for which nothing was kept from before.
`keeps` are the activations that the forward pass leaves for the way back; on a GPU, `added` is the most that a step
allocates beyond what was there. With `--joints`, joints are compared in the same way
in float32, with `sum`; `learns` are the parameters that do.

The sizes that follow are measured in processes of their own, with the fastest way in bfloat16 and the real loader on
JPEG files of 224 px. What was compiled for one is kept for the next. Their `peak` on a GPU is the most that torch ever
had there, with the weights, also those in float32 that were there before their conversion. These processes read the
program anew: run it from a checkout in which nothing changes meanwhile.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median

import torch
from _model import SMALL
from _train_forms import CLASSES, SIDE, Form, Missing, Peaks, Way, flops, forms, joined, measure, ways
from _train_goals import Key, Row, fastest, print_goals
from _train_points import PARTS, WHOLE, Job, Point, apart, configured, feed, loader
from common import REST, machine, short, table
from loader import make_files

from mmadfer.config.schema import ModelConfig, TrainConfig
from mmadfer.data.store.store import Store
from mmadfer.distributed.ranks import connected
from mmadfer.model.mma_dfer import empty_model


def main() -> None:
    """Make clips, measure, and print the tables."""
    given = options()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-train-") as name:
        work = Path(name)
        if not given.small:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(work / "compiled")
        make_files(work, given.clips)
        if given.joints:
            return print_joints(given, *joints(given, work / "bench.store"))
        rows, peaks, missing = side_by_side(given, work / "bench.store")
        print_rows(rows, peaks, given)
        for way, why in missing.items():
            print(f"{way}: not run: {why}")
        best = fastest(rows, "bfloat16")
        points = sizes(given, work / "bench.store", best)
        print_sizes(given, points)
        print_parts(points)
        print_goals(given, rows, peaks, points)


def options() -> argparse.Namespace:
    """What the command line says."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a tiny model, to try the program")
    parser.add_argument("--batch", type=int, default=32 if gpu else 2)
    parser.add_argument("--rounds", type=int, default=5 if gpu else 3)
    parser.add_argument("--steps", type=int, default=10 if gpu else 1, help="of each way in a round")
    parser.add_argument("--joints", action="store_true", help="compare the joints instead")
    parser.add_argument("--batches", type=int, nargs="*", default=[8, 16, 32, 64] if gpu else [1, 2, 4])
    parser.add_argument("--sizes", type=int, nargs="*", help="of a frame, in pixels (default: 112 160 224)")
    parser.add_argument("--ranks", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--clips", type=int, default=16, help="that are made, and trained on again and again")
    parser.add_argument("--tests", action="store_true", default=gpu, help="also time the tests; always with a GPU")
    given = parser.parse_args()
    given.device, given.threads = "cuda" if gpu else "cpu", torch.get_num_threads()
    given.model = SMALL if given.small else ModelConfig()
    if given.sizes is None:
        given.sizes = [given.model.image_size] if given.small else [112, 160, 224]
    return given


# ---------------------------------------------------------------- ways to train


def side_by_side(given: argparse.Namespace, path: Path) -> tuple[list[Row], Peaks, Missing]:
    """Every way with the same clips; why others could not be had."""
    made, peaks, missing = _measured(given, path, ways(given.device))
    work = flops(given.model, given.batch).whole
    return [_row(form, made[0], peaks, work) for form in made], peaks, missing


def _measured(given: argparse.Namespace, path: Path, tried: Sequence[Way]) -> tuple[list[Form], Peaks, Missing]:
    """These ways with the same clips, the engines closed again."""
    train = TrainConfig(batch_size=given.batch)
    with connected() as ranks, Store(path) as store:
        with closing(loader(store, configured(given.model, train), ranks.device)) as ours:
            batch = next(feed(ours, given.batch, 1))
        made, missing = forms(given.model, train, ranks, batch, tried)
        side = 256 if given.small else SIDE[given.device]
        peaks = measure(made, batch, given.rounds, given.steps, ranks.device, side)
        for form in made:
            form.close()
        return made, peaks, missing


def _row(form: Form, plain: Form, peaks: Peaks, work: int) -> Row:
    rounds = list(zip(form.seconds, plain.seconds, peaks[form.way.kind][:-1], strict=True))
    return Row(
        form,
        median(form.seconds),
        median(theirs / own for own, theirs, _ in rounds),
        work / median(form.seconds),
        median(work / own / peak for own, _, peak in rounds),
    )


def print_rows(rows: Sequence[Row], peaks: Peaks, given: argparse.Namespace) -> None:
    """The peaks, and the first table."""
    size, work = given.model.image_size, flops(given.model, given.batch)
    of_peaks = [f"{kind} {short(min(found) / 1e9)} to {short(max(found) / 1e9)}" for kind, found in peaks.items()]
    print(f"GFLOP/s of a product of two square matrices, in {len(peaks['float32'])} tries: {', '.join(of_peaks)}")
    print(
        f"\n{given.batch} clips of {given.model.frames} frames of {size} px: {short(work.whole / 1e9)} GFLOP a step, "
        f"{short(work.forward / 1e9)} forward and {short(work.back / 1e9)} back, attention's own "
        f"{short(work.attention / 1e9)} included; {given.threads} threads, {given.rounds} rounds"
    )
    memory = "keeps, GB" if given.device == "cpu" else "added, GB"
    heads = ["", "ready, s", "ms a step", "clips/s", "GFLOP/s", "of its peak", "ratio", memory, "loss", "norm"]
    print(table(heads, [_cells(row, rows[0].form, given.batch) for row in rows]), flush=True)


def _cells(row: Row, plain: Form, batch: int) -> list[object]:
    form = row.form
    assert form.first is not None
    assert plain.first is not None
    differences = abs(form.first.loss - plain.first.loss), abs(form.first.norm / plain.first.norm - 1)
    return [
        form.way.name,
        f"{form.ready:.1f}",
        short(1000 * row.step),
        short(batch / row.step),
        short(row.rate / 1e9),
        f"{row.share:.0%}",
        f"{row.ratio:.2f}",
        short(form.memory / 1e9),
        *(f"{value:.0e}" if value else "0" for value in differences),
    ]


# ---------------------------------------------------------------- joints

JOINTS = ("sum", "concat", "jmt")


def joints(given: argparse.Namespace, path: Path) -> tuple[list[Form], Missing]:
    """A step with each joint, `sum` first; why others could not be had."""
    made, _, missing = _measured(given, path, [Way("fp32", joint=name) for name in JOINTS])
    return made, missing


def print_joints(given: argparse.Namespace, made: Sequence[Form], missing: Missing) -> None:
    """How long a step takes, how much longer than with `sum` in the same round, and what it computes."""
    print(f"\n{given.batch} clips of {given.model.frames} frames of {given.model.image_size} px, {given.rounds} rounds")
    heads = ["", "ms a step", "of sum", "processor, s", "of sum", "GFLOP", "learns, M"]
    print(table(heads, [_joint_row(given, form, made[0]) for form in made]), flush=True)
    for way, why in missing.items():
        print(f"{way}: not run: {why}")


def _joint_row(given: argparse.Namespace, form: Form, usual: Form) -> list[object]:
    assert form.way.joint is not None
    config = joined(given.model, form.way.joint)
    learns = sum(p.numel() for p in empty_model(config, CLASSES).trainable().values())
    cells: list[object] = [form.way.name]
    for own, theirs, scale in ((form.seconds, usual.seconds, 1000), (form.processor, usual.processor, 1)):
        ratios = [one / other for one, other in zip(own, theirs, strict=True)]
        cells += [short(scale * median(own)), f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"]
    return [*cells, f"{flops(config, given.batch).whole / 1e9:,.1f}", f"{learns / 1e6:.2f}"]


# ---------------------------------------------------------------- sizes

Sizes = dict[Key, Point]


def sizes(given: argparse.Namespace, store: Path, best: Row) -> Sizes:
    """Measure what the tables tell of."""
    batch, size = given.batch, given.model.image_size
    wanted = [(batch, size, 1), *((count, size, 1) for count in given.batches), *((batch, px, 1) for px in given.sizes)]
    wanted += [(batch, size, ranks) for ranks in given.ranks if not lacking(given, ranks)]
    wanted = list(dict.fromkeys(wanted))
    print(f"\nin processes of their own: {best.form.way.name}", flush=True)
    found = Sizes()
    for key in wanted:
        begun = time.perf_counter()
        found[key] = apart(_job(given, store, best, key))
        print(f"{key[0]} clips of {key[1]} px, {key[2]} ranks: {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    return found


def _job(given: argparse.Namespace, store: Path, best: Row, key: Key) -> Job:
    clips, size, ranks = key
    way = best.form.way
    train = TrainConfig(batch_size=clips, precision=way.precision or "reference", compile=way.compiled)
    model = given.model.model_copy(update={"image_size": size})
    threads = max(1, given.threads // ranks)
    parts = key[:2] == (given.batch, given.model.image_size)
    return Job(store, model, train, given.rounds, given.steps, threads, parts, given.tests, ranks)


def lacking(given: argparse.Namespace, ranks: int) -> str:
    """Why so many ranks cannot be measured here; empty if they can."""
    if given.batch % ranks:
        return f"they do not divide {given.batch} clips"
    if given.device == "cuda" and torch.cuda.device_count() < ranks:
        return f"this machine has {torch.cuda.device_count()} GPU(s)"
    return ""


def print_sizes(given: argparse.Namespace, found: Sizes) -> None:
    """What grows, and how the time grows with it."""
    batch, size = given.batch, given.model.image_size
    series = {
        "clips in a step": [(count, size, 1) for count in given.batches],
        "pixels": [(batch, px, 1) for px in given.sizes],
        f"ranks that share {batch} clips": [(batch, size, ranks) for ranks in given.ranks],
    }
    memory = "process, GB" if given.device == "cpu" else "peak, GB"
    for place, (name, wanted) in enumerate(series.items()):
        keys = [key for key in wanted if key in found]
        rows = [_size_row(given, keys, found, key, key[place]) for key in keys]
        heads = [name, "ready, s", "ms a step", "growth", "growth of work", "clips/s", "GFLOP/s", memory]
        heads += ["test clips/s"] if given.tests else []
        if rows:
            print(f"\n{table(heads, rows)}")
    for ranks in given.ranks:
        if why := lacking(given, ranks):
            print(f"{ranks} ranks: not run: {why}")


def _size_row(given: argparse.Namespace, keys: Sequence[Key], found: Sizes, key: Key, value: int) -> list[object]:
    own, first = found[key], found[keys[0]]
    works = (flops(given.model.model_copy(update={"image_size": px}), clips) for clips, px, _ in (key, keys[0]))
    work, less = (work.whole for work in works)
    return [
        value,
        f"{own.ready:.1f}",
        short(1000 * own.step),
        f"{own.step / first.step:.2f}",
        f"{work / less:.2f}",
        short(key[0] / own.step),
        short(work / own.step / 1e9),
        short(own.memory / 1e9),
        *([short(key[2] / own.test)] if own.test else []),
    ]


def print_parts(found: Sizes) -> None:
    """Where the time of a step goes, with one rank and more."""
    keys = [key for key, point in found.items() if point.parts]
    columns = [found[key].parts for key in keys]
    heads = ["a step, its parts one by one"]
    for _, _, ranks in keys:
        heads += [f"ms, {ranks} rank{'s' * (ranks > 1)}", "share"]
    rest = [parts[WHOLE] - sum(parts[name] for name in PARTS) for parts in columns]
    rows = [[name, *_shares([(parts[name], parts[WHOLE]) for parts in columns])] for name in PARTS]
    rows.append([REST, *_shares([(left, parts[WHOLE]) for left, parts in zip(rest, columns, strict=True)])])
    print(f"\n{table(heads, rows)}")


def _shares(values: Iterable[tuple[float, float]]) -> list[str]:
    return [text for value, whole in values for text in (short(1000 * value), f"{value / whole:.1%}")]


if __name__ == "__main__":
    main()
