"""How fast the model answers in each of its forms, how near each is to PyTorch, and where a file's time goes.

    python bench/inference.py [--model RUN] [--rounds 5] [--batch 4] [--precisions fp32 fp16 int8] [--jobs 1 2]

Without a model it makes one of full size with random weights, which are as fast as trained ones; without a store, toy
videos. ONNX files and, on a GPU, engines are made on the way, or given (--exported). In each round every form answers
once, one after the other, so that what else the machine does hits all alike; all rounds with one clip come first, then
those with a batch, since an engine is fast only at the size it had before. Told are medians of the rounds; a ratio is
the median of those to PyTorch in float32 in the same round, above 1 for what is faster. `apart` is the largest
difference of a logit from PyTorch's, `labels` how many clips get PyTorch's label. Rows with a * are no exported forms.

All cores are used, or as many as OMP_NUM_THREADS says. `ready` is how long loading, compiling and the first answer of
each size take. From file to label, everything runs as in `mmadfer predict`, with the first exported form and the
fastest, in up to 3 rounds: what the others would add is in the first table.
"""

import argparse
import cProfile
import inspect
import resource
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import torch
from _forms import REFERENCE, Form, Missing, exported, given_files, made, of_files, of_torch, ready, toy_store
from common import by_step, machine, table, turns

from mmadfer.contract import Contract
from mmadfer.data.store.store import Store
from mmadfer.errors import ConfigError
from mmadfer.export.parity.clip_inputs import choose_clips
from mmadfer.export.parity.parity import own_store
from mmadfer.runtime import Prediction, Recogniser, Video, arrays
from mmadfer.runtime.arrays import Inputs

PAUSE = 0.05
"""Seconds before each answer, for the threads of the form before to fall asleep."""
UNTIMED = {"cpu": 0, "cuda": 3}
"""Answers before the rounds with batches of another size: an engine's first sets the size, and its second records. On a
CPU nothing is left of the size before, and each size was asked for once when the form was made ready."""
WHOLE_ROUNDS = 3
"""From file to label, at most."""
READING = {
    "find the face (MTCNN)": ("mtcnn.py", "detect"),
    "decode H.264, two passes": ("decode.py", "video_frames"),
    "YUV to RGB": ("decode.py", "rgb"),
    "crop": ("detection.py", "crop"),
    "crops to JPEG": ("image.py", "encode_jpeg"),
    "JPEG to pixels": ("image.py", "decode_jpeg"),
    "resize": ("image.py", "resize"),
    "decode AAC": ("audio.py", "beginning"),
    "filter bank": ("fbank.py", "fbank"),
}
"""As `by_step` takes them."""


@dataclass
class Answers:
    """Of one form, for batches of one size: one of each round."""

    seconds: list[float] = field(default_factory=list)
    logits: list[np.ndarray] = field(default_factory=list)


Measured = dict[str, dict[int, Answers]]
"""By form and size of the batch."""


def main() -> None:
    """Make, measure, and print three tables."""
    given = options()
    print(machine(), f"{given.device}, {torch.get_num_threads()} threads, {given.rounds} rounds", sep="\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-inference-") as name:
        work = Path(name)
        path = given.model or made(work, given.small)
        begin = time.perf_counter()
        model = Recogniser(path, "torch", given.fold, device=given.device)
        loaded, missing = time.perf_counter() - begin, Missing()
        data = store(given, model.contract, work)
        files = given_files(given.exported)
        if not files:
            files, missing = exported(model, data, work, given.precisions, given.batch)
        makers = of_torch(model, loaded, given.device) | of_files(files, given.device)
        clips, videos = read(data, model.contract, given.clips)
        forms = ready(makers, [batch_of(clips, 0, size) for size in sizes(given.batch)], missing)
        found = measure(forms, clips, given.batch, given.rounds, UNTIMED[given.device])
        compare(forms, missing, found, len(clips))
        whole, rounds = chosen(forms, found), min(given.rounds, WHOLE_ROUNDS)
        from_file_to_label(whole, videos, given.jobs, rounds, toys=not (given.model or given.data))
    print(f"\nThis process took up to {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB of memory.")


def options() -> argparse.Namespace:
    """What the command line says."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="run, checkpoint or weights; by default random ones")
    parser.add_argument("--fold", type=int, help="of a run")
    parser.add_argument("--data", type=Path, help="store with the clips; by default the run's own, or toy videos")
    parser.add_argument("--exported", type=Path, nargs="+", default=[], help="ONNX files and engines to measure")
    kinds = ["fp32", "fp16", "int8", *(["bf16", "fp8"] if gpu else [])]
    parser.add_argument("--precisions", nargs="+", default=kinds, help="to export in, where none are given")
    parser.add_argument("--small", action="store_true", help="a tiny model, to try the program")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8 if gpu else 4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if gpu else "cpu")
    return parser.parse_args()


def store(given: argparse.Namespace, contract: Contract, work: Path) -> Path:
    """The clips' store: the one given, the run's own, or a new one of toy videos."""
    if given.data:
        return Path(given.data)
    with suppress(ConfigError):  # weights alone do not say
        if given.model:
            return own_store(given.model)
    return toy_store(work, contract, given.clips)


def read(data: Path, contract: Contract, count: int) -> tuple[list[Inputs], list[Video]]:
    """Test clips: what the model is fed with, and their files."""
    with Store(data) as store:
        ids = choose_clips(store, contract.fold, count)
        clips = [(store.media(name), store.clips[name]) for name in ids]
        videos = [Video(media, store.root / clip.sound if clip.sound else None, clip.cropped) for media, clip in clips]
        return [arrays.from_record(store.read(name), contract) for name in ids], videos


def batch_of(clips: Sequence[Inputs], start: int, size: int) -> Inputs:
    """So many clips from `start` on, going round."""
    some = [clips[(start + k) % len(clips)] for k in range(size)]
    return tuple(map(np.concatenate, zip(*some, strict=True)))


# ---------------------------------------------------------------- the model alone


def sizes(batch: int) -> list[int]:
    """Of the batches that are measured."""
    return sorted({1, batch})


def measure(forms: Mapping[str, Form], clips: Sequence[Inputs], batch: int, rounds: int, untimed: int) -> Measured:
    """Every form once a round, in all rounds with one clip, and then in all with a batch."""
    found: Measured = {name: {size: Answers() for size in sizes(batch)} for name in forms}
    for size in sizes(batch):
        for form in forms.values():
            for _ in range(untimed):
                form.logits(*batch_of(clips, 0, size))
        for number, names in turns(list(forms), rounds):
            feed = batch_of(clips, number * size, size)
            for name in names:
                time.sleep(PAUSE)
                begin = time.perf_counter()
                logits = forms[name].logits(*feed)
                found[name][size].seconds.append(time.perf_counter() - begin)
                found[name][size].logits.append(logits)
    return found


def compare(forms: Mapping[str, Form], missing: Missing, found: Measured, clips: int) -> None:
    """Print the table of the forms, and why others are not in it."""
    batch = max(found[REFERENCE])
    heads = ["", "MB", "ready, s", "ms, 1 clip", "ratio", f"clips/s, {batch} at once", "ratio", "apart", "labels"]
    rows: list[Sequence[object]] = [_row(name, form, found, batch, clips) for name, form in forms.items()]
    rows += [[name, *["-"] * (len(heads) - 1)] for name in missing]
    print(f"\nthe model alone\n{table(heads, rows)}")
    for name, reason in missing.items():
        print(f"{name}: not run: {reason}")
    told = np.concatenate(found[REFERENCE][batch].logits)
    print(f"{REFERENCE}: logits from {told.min():.2f} to {told.max():.2f}", flush=True)


def _row(name: str, form: Form, found: Measured, batch: int, clips: int) -> list[object]:
    own, reference = found[name], found[REFERENCE]
    ratio = {
        size: median(b / a for a, b in zip(own[size].seconds, reference[size].seconds, strict=True)) for size in own
    }
    one, many = median(own[1].seconds), median(own[batch].seconds)
    speed = [f"{1000 * one:.4g}", f"{ratio[1]:.2f}", f"{batch / many:.3g}", f"{ratio[batch]:.2f}"]
    return [name, form.megabytes, f"{form.seconds:.1f}", *speed, *_nearness(own, reference, clips)]


def _nearness(own: Mapping[int, Answers], reference: Mapping[int, Answers], clips: int) -> tuple[str, str]:
    """The largest difference of a logit, and how many of the clips always got the same label."""
    apart, equal = 0.0, dict[int, bool]()
    for size in own:
        some, others = np.concatenate(own[size].logits), np.concatenate(reference[size].logits)
        apart = max(apart, float(np.abs(some - others).max()))
        for k, same in enumerate(some.argmax(1) == others.argmax(1)):  # `measure` goes round the clips
            equal[k % clips] = equal.get(k % clips, True) and bool(same)
    return f"{apart:.0e}", f"{sum(equal.values())}/{len(equal)}"


# ---------------------------------------------------------------- from file to label


def chosen(forms: Mapping[str, Form], found: Measured) -> dict[str, Recogniser]:
    """The first exported form, or PyTorch where there is none, and the one that is fastest with one clip."""
    whole = {name: form.recogniser for name, form in forms.items() if form.recogniser}
    first = next((name for name in whole if name != REFERENCE), REFERENCE)
    fastest = min(whole, key=lambda name: median(found[name][1].seconds))
    return {name: whole[name] for name in (first, fastest)}


def from_file_to_label(
    whole: Mapping[str, Recogniser], videos: Sequence[Video], jobs: Sequence[int], rounds: int, toys: bool
) -> None:
    """Print how many files a second get a label, and where the time of one goes."""
    if gone := [video.path for video in videos if not video.path.exists()]:
        print(f"\nfrom file to label: not run: {len(gone)} media files are not there, such as {gone[0]}")
        return
    for recogniser in whole.values():
        recogniser.warm()
    found: dict[str, dict[int, list[float]]] = {name: {n: [] for n in jobs} for name in whole}
    for _, names in turns(list(whole), rounds):
        for name in names:
            for n in jobs:
                found[name][n].append(rate(whole[name], videos, n))
    rows = [[name, *(f"{median(own[n]):.3g}" for n in jobs)] for name, own in found.items()]
    heads = ["", *(f"files/s, {n} job{'s' * (n > 1)}" for n in jobs)]
    print(f"\nfrom file to label, {len(videos)} files in {rounds} rounds\n{table(heads, rows)}", flush=True)
    name = next(iter(whole))
    print(f"\none file after the other with {name}, by cProfile\n{steps(whole[name], videos, toys)}")


def rate(recogniser: Recogniser, videos: Sequence[Video], jobs: int) -> float:
    """Videos a second; each must get a label."""
    begin = time.perf_counter()
    results = list(recogniser.predict(videos, jobs=jobs))
    spent = time.perf_counter() - begin
    for result in results:
        if not isinstance(result, Prediction):
            raise result.error
    return len(videos) / spent


def steps(recogniser: Recogniser, videos: Sequence[Video], toys: bool) -> str:
    """A table of where the time goes; toy videos take every step."""
    profiler = cProfile.Profile()
    profiler.runcall(lambda: [recogniser(video) for video in videos])
    model = Path(inspect.getfile(type(recogniser.backend))).name
    spent = by_step(profiler, {**READING, "the model": (model, "logits")}, every=toys)
    total = sum(spent.values())
    rows = [(step, f"{1000 * seconds / len(videos):.1f}", f"{seconds / total:.0%}") for step, seconds in spent.items()]
    return table(("step", "ms a file", "share"), rows)


if __name__ == "__main__":
    main()
