"""Whether two commits compute the same, bit for bit: fold 1 of the demo, from videos to predictions.

    python bench/same.py OLD NEW [--set train.epochs=3] [--keep DIR]

Each commit is built into a folder of its own and used by its command line only, so the modules may lie anywhere. Both
prepare the same toy videos (made by OLD), train, test, report, export and predict, on the CPU. One line is printed
for each thing: equal, or the first difference. What has a new name on purpose: ALIASES in bench/_same_values.py; what
is found on one side only is told. About two minutes for each commit.

Exit code: 0 all is equal; 1 something differs; 2 a commit cannot be built or a command fails.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NoReturn

import numpy as np
from _same_values import (
    IGNORED,
    Compared,
    Reader,
    compare,
    of_answers,
    of_events,
    of_json,
    of_metadata,
    of_rows,
    of_tensors,
)
from common import machine

ROOT = Path(__file__).parents[1]
MARK = "same.json"
"""In a side's folder: what was asked for, and whether all of it is done."""
RUNNER = """
import sys
from importlib.metadata import distributions
sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in str(finder)]  # not the checkout's code
folder, sys.argv = sys.argv[1], ["mmadfer", *sys.argv[2:]]
[package] = distributions(path=[folder], name="mmadfer")
[entry] = package.entry_points.select(group="console_scripts", name="mmadfer")
main = entry.load()
import mmadfer
if not mmadfer.__file__.startswith(folder):
    sys.exit(f"the code of {mmadfer.__file__} runs, not that in {folder}")
sys.exit(main())
"""
BUILD = ("--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation")


@dataclass(frozen=True)
class Thing:
    """What is compared: files of either side, and what must be found in both."""

    name: str
    file: str
    read: Reader
    needed: tuple[str, ...] = ()
    whole: bool = False


THINGS = (
    Thing("weights", "model.safetensors", of_tensors, ("^classifier",), whole=True),
    Thing("contract", "model.safetensors", of_metadata, ("labels",)),
    Thing("training", "run/fold-1/metrics.jsonl", of_events, (r"step.*\.loss", r"epoch.*\.loss", r"epoch.*\buar")),
    Thing("result", "run/fold-1/result.json", of_json, (r"\buar$", r"\bwar$", "^confusion")),
    Thing("predictions", "run/fold-1/predictions.csv", of_rows, (r"\.p_", r"\.predicted")),
    Thing("test", "test.csv", of_rows, (r"\.p_", r"\.predicted")),
    Thing("report", "run/report/report.json", of_json, (r"^mean.*uar", r"^mean.*war", "confusion", r"curves.*loss")),
    Thing("parity", "model.parity.json", of_json, (r"^forms.*logit_difference", "^passed$")),
    Thing("ONNX logits", "model.onnx", of_answers, ("^logits$",), whole=True),
    Thing("prediction by ONNX", "onnx.json", of_json, ("probabilities", r"\.label$")),
    Thing("prediction by torch", "torch.json", of_json, ("probabilities", r"\.label$")),
)


def main() -> None:
    """Run both, print the lines, and end with the exit code."""
    given = options()
    commits = {side: resolved(commit) for side, commit in (("old", given.old), ("new", given.new))}
    print(machine(), flush=True)
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
        sys.exit(run(given.keep.resolve(), commits, given.set))
    with tempfile.TemporaryDirectory(prefix="bench-same-") as name:
        sys.exit(run(Path(name), commits, given.set))


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", metavar="OLD", help="commit")
    parser.add_argument("new", metavar="NEW", help="commit")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the training of both")
    parser.add_argument(
        "--keep", type=Path, help="folder for all files; a side that is there and asked for alike stays"
    )
    return parser.parse_args()


def fail(text: str) -> NoReturn:
    """Nothing can be said of the two commits."""
    print(f"error: {text}", file=sys.stderr)
    sys.exit(2)


def resolved(commit: str) -> str:
    """Its full hash."""
    command = ["git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or fail(f"{commit}: no such commit in {ROOT}")


def run(work: Path, commits: dict[str, str], settings: Sequence[str]) -> int:
    """Make both sides, compare them, and return the exit code."""
    old, new = work / "old", work / "new"
    make(old, commits["old"], [commits["old"], *settings], None, settings)
    make(new, commits["new"], [commits["old"], commits["new"], *settings], old / "media", settings)
    print(f"OLD {commits['old'][:10]}, NEW {commits['new'][:10]}{''.join(f', {one}' for one in settings)}\n")
    found = {"videos": files_compared(old / "media", new / "media")}
    found["store"] = store_compared(old / "toy.store", new / "toy.store")
    found |= {thing.name: compared(thing, old, new) for thing in THINGS}
    print("\n".join(line(name, one) for name, one in found.items()))
    print(ignored(found.values()))
    return int(any(one.differences for one in found.values()))


def make(side: Path, commit: str, asked: Sequence[str], media: Path | None, settings: Sequence[str]) -> None:
    """All files of one side, unless they are there already."""
    if side.exists() and begun(side) == {"asked": [*asked], "done": True}:
        return print(f"{side}: made before", flush=True)
    if side.exists():
        shutil.rmtree(side)
    side.mkdir(parents=True)
    mark = side / MARK
    mark.write_text(json.dumps({"asked": [*asked], "done": False}))
    build(side, commit)
    if media:
        shutil.copytree(media, side / "media")
    for words in commands(side, settings):
        call(side, words)
    mark.write_text(json.dumps({"asked": [*asked], "done": True}))


def begun(side: Path) -> object:
    """What the mark says; a folder without one is somebody else's."""
    mark = side / MARK
    if not mark.is_file():
        fail(f"{side} was not made by this program: give another --keep")
    return json.loads(mark.read_text())


def build(side: Path, commit: str) -> None:
    """The commit's tree to `source`, its package to `code`."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as file:
        file.extractall(side / "source", filter="data")
    command = [sys.executable, "-m", "pip", "install", *BUILD, "--target", str(side / "code"), str(side / "source")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        fail(f"{commit} cannot be built; pip and setuptools must be in {sys.prefix}\n{done.stdout}{done.stderr}")


def commands(side: Path, settings: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The words after `mmadfer`, in the side's folder."""
    sets = [word for text in ("data.store=toy.store", *settings) for word in ("--set", text)]
    yield ("prepare", "toy", "--root", "media", "--out", "toy.store", "--config", "demo")
    yield ("train", "demo", "--fold", "1", "--run", "run", *sets)
    yield ("evaluate", "run", "--fold", "1", "--data", "toy.store", "--out", "test.csv")
    yield ("report", "run")
    yield ("export", "weights", "run", "--fold", "1", "--out", "model.safetensors")
    yield ("export", "onnx", "run", "--fold", "1", "--data", "toy.store", "--out", "model.onnx")
    videos = [str(path.relative_to(side)) for path in sorted((side / "media").glob("*/*[05].mp4"))]  # those of fold 1
    yield ("predict", *videos, "--model", "model.onnx", "--out", "onnx.json")
    yield ("predict", *videos, "--model", "run", "--fold", "1", "--out", "torch.json")


def call(side: Path, words: Sequence[str]) -> None:
    """Run one command with the side's own code, one thread, and no GPU."""
    code = str(side / "code")
    env = os.environ | {"PYTHONPATH": code, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    print(f"{side.name}: mmadfer {' '.join(words[:2])}", file=sys.stderr, flush=True)
    command = [sys.executable, "-P", "-c", RUNNER, code, *words]
    done = subprocess.run(command, cwd=side, env=env, capture_output=True, text=True, check=False)
    with (side / "log.txt").open("a") as log:
        log.write(f"$ mmadfer {' '.join(words)}\n{done.stdout}{done.stderr}")
    if done.returncode:
        end = (done.stdout + done.stderr)[-3000:]
        fail(f"{side.name}: mmadfer {' '.join(words)}: exit code {done.returncode}\n{end}")


def compared(thing: Thing, old: Path, new: Path) -> Compared:
    """One thing of both sides; a file that is not where it was is a difference."""
    if missing := [str(side / thing.file) for side in (old, new) if not (side / thing.file).is_file()]:
        return Compared(differences=[f"not found: {', '.join(missing)}"])
    return compare(thing.read(old / thing.file), thing.read(new / thing.file), thing.needed, thing.whole)


def files_compared(old: Path, new: Path) -> Compared:
    """Videos: NEW starts from a copy of OLD's, and leaves it as it is."""
    sides = [{path.relative_to(side).as_posix(): path for path in side.rglob("*.mp4")} for side in (old, new)]
    found = Compared()
    for name in sorted(sides[0].keys() | sides[1].keys()):
        if name in sides[0] and name in sides[1] and sides[0][name].read_bytes() == sides[1][name].read_bytes():
            found.equal += 1
        else:
            found.differences.append(name)
    return found


def store_compared(old: Path, new: Path) -> Compared:
    """Its format may change, and it holds times: told only. What is trained from it is compared."""
    sides = [np.fromfile(path, np.uint8) if path.is_file() else np.zeros(0, np.uint8) for path in (old, new)]
    least = min(map(len, sides))
    apart = np.flatnonzero(sides[0][:least] != sides[1][:least])
    alike = int(apart[0]) if len(apart) else least
    return Compared(notes=[f"the first {alike:,} of {len(sides[0]):,} bytes are the same (its times never are)"])


def line(name: str, found: Compared) -> str:
    """`name`, equal or the first difference, and the notes below."""
    said = f"equal    {found.equal:,} values"
    if found.numbers > found.equal:
        said += f", {found.numbers:,} numbers"
    if found.differences:
        said = (
            f"DIFFERS  {found.differences[0]}; {len(found.differences):,} of {found.equal + len(found.differences):,}"
        )
    elif not found.equal:
        said = "told"
    return "\n".join([f"{name:<20} {said}", *(f"{'':20} {note}" for note in found.notes)])


def ignored(found: Iterable[Compared]) -> str:
    """Which values were left out, and why."""
    names = sorted({name for one in found for name in one.ignored})
    reasons = dict.fromkeys(map(IGNORED.get, names))
    groups = [f"{', '.join(name for name in names if IGNORED[name] == why)} ({why})" for why in reasons]
    return f"\nnot compared: {'; '.join(groups)}"


if __name__ == "__main__":
    main()
