"""Damaged annotation files through every set's reader: a table, or an error that names the file; never a crash.

    python tests/faults/fuzz_lists.py --count 3000 --seed 1

Linux only: a reader that hangs is ended by an alarm.
"""

import argparse
import gzip
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import damage

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))  # this also runs as a program
import layouts

from mmadfer.data.sets import ClipTable, mafw, table
from mmadfer.errors import DataError

SECONDS = 5
NASTY = (
    "",
    " ",
    "-1",
    "0",
    "8",
    "nan",
    "1e9",
    "9" * 400,
    "../../etc/passwd",
    "/dev/zero",
    "a\0b",
    "é😀",
    "\ufeff",
    '"',
    ",,,",
)
NUMBERS = {number: number % 7 + 1 for number in range(1, 11)}
Read = Callable[[Path], ClipTable]


def _dfew(root: Path) -> Read:
    layouts.dfew_lists(root, NUMBERS)
    layouts.touch(root, *(f"Clip/clip_224x224/{number:05d}/1.jpg" for number in NUMBERS), "Clip/raw_wav/1.wav")
    return lambda root: table("dfew", root)


def _mafw(root: Path) -> Read:
    names = {f"{k:05d}": label for k, label in enumerate(mafw.LABELS)}
    layouts.mafw_lists(root, names)
    layouts.touch(root, *(f"data/clips/{name}.mp4" for name in names))
    return lambda root: table("mafw", root)


def _published(root: Path) -> Read:
    clips = [(f"{number:05d}", 3, label - 1) for number, label in NUMBERS.items()]
    layouts.published_lists(root / "lists", "DFEW", clips, "/old/dfew/clip_224x224")
    for path in sorted(root.glob("lists/*_[45]_*")):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()
    layouts.touch(
        root, *(f"clip_224x224/{clip}/{k}.jpg" for clip, count, _ in clips for k in range(count)), "raw_wav/1.wav"
    )
    return lambda root: table("dfew", root, lists=root / "lists")


def _csv(root: Path) -> Read:
    lines = [f"clips/{k}.mp4,{'glad' if k % 2 else 'sad'},{k % 5 + 1},s{k}" for k in range(10)]
    layouts.text(root / "set.csv", "\n".join(["path,label,fold,subject", *lines]) + "\n")
    layouts.touch(root, *(f"clips/{k}.mp4" for k in range(10)))
    return lambda root: table("csv", root / "set.csv")


SETS: dict[str, tuple[Callable[[Path], Read], str]] = {
    "dfew": (_dfew, "EmoLabel_DataSplit/*/*.csv"),
    "mafw": (_mafw, "Train & Test Set/single/no_caption/*/*.txt"),
    "published": (_published, "lists/*"),
    "csv": (_csv, "*.csv"),
}
"""Name -> what builds a small one and returns its reader, and where its lists are."""


def mutate(draw: random.Random, path: Path) -> str:
    """Change one list; returns how."""
    changes = [_bytes, _bytes, _lines, _field, _field, _coding, _replaced]
    change = draw.choice(changes)
    return f"{change.__name__[1:]} {change(draw, path)}"


def _bytes(draw: random.Random, path: Path) -> str:
    change = draw.choice([damage.cut, damage.flip, damage.zeros, damage.insert, damage.double, damage.swap])
    data = bytearray(path.read_bytes())
    if len(data) > 3:
        change(draw, data, b"")
    path.write_bytes(data)
    return change.__name__


def _text(path: Path) -> list[str]:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode().splitlines(keepends=True)


def _put(path: Path, data: bytes) -> None:
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def _lines(draw: random.Random, path: Path) -> str:
    lines = _text(path)
    k = draw.randrange(len(lines))
    how = draw.choice(["dropped", "twice", "shuffled", "foreign"])
    if how == "dropped":
        del lines[k]
    elif how == "twice":
        lines.insert(draw.randrange(len(lines)), lines[k])
    elif how == "shuffled":
        draw.shuffle(lines)
    else:
        other = draw.choice(sorted(path.parent.glob("*" + path.suffix)))
        lines += _text(other)
    _put(path, "".join(lines).encode())
    return how


def _field(draw: random.Random, path: Path) -> str:
    lines = _text(path)
    k = draw.randrange(len(lines))
    parts = lines[k].replace(",", " , ").split(" ")
    parts[draw.randrange(len(parts))] = value = draw.choice(NASTY)
    lines[k] = " ".join(parts).replace(" , ", ",")
    _put(path, "".join(lines).encode())
    return repr(value[:20])


def _coding(draw: random.Random, path: Path) -> str:
    coding = draw.choice(["utf-16", "utf-8-sig", "utf-32", "cp500"])
    _put(path, "".join(_text(path)).encode(coding))
    return coding


def _replaced(draw: random.Random, path: Path) -> str:
    path.unlink()
    makers: dict[str, Callable[[], object]] = {
        "nothing": lambda: None,
        "a folder": path.mkdir,
        "a pipe": lambda: os.mkfifo(path),
        "a loop": lambda: path.symlink_to(path),
        "empty": path.touch,
        "bytes": lambda: path.write_bytes(draw.randbytes(500)),
    }
    how = draw.choice(sorted(makers))
    makers[how]()
    return how


def run(count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Read `count` mutated sets; how often a table or an error came of each, and all faults."""
    outcomes, faults = Counter[str](), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        readers = {name: build(Path(folder) / name) for name, (build, _) in SETS.items()}
        for number in range(count):
            draw, name = random.Random(f"{seed}/{number}"), list(SETS)[number % len(SETS)]
            root = Path(folder) / "mutated"
            shutil.copytree(Path(folder) / name, root)
            how = mutate(draw, draw.choice(sorted(root.glob(SETS[name][1]))))
            outcome, fault = _read(readers[name], root)
            outcomes[f"{name}: {outcome}"] += 1
            faults += [f"{number} {name}, {how}: {fault}"] if fault else []
            shutil.rmtree(root)
    return outcomes, faults


class _TooSlow(BaseException):
    """Nothing in the product catches it."""


def _read(read: Read, root: Path) -> tuple[str, str]:
    def too_slow(*_: object) -> None:
        raise _TooSlow

    signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(SECONDS)
    try:
        found = read(root)
        assert found.root.is_absolute()
    except DataError as error:
        named = any(word in str(error) for word in (str(root), "clip '", "the lists"))
        return "error", "" if named else f"neither a file nor a clip is named in {error}"
    except _TooSlow:
        return "hang", f"more than {SECONDS} s"
    except Exception as error:  # the very thing that is looked for
        return "crash", repr(error)[:300]
    finally:
        signal.alarm(0)
    return "table", ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    outcomes, faults = run(options.count, options.seed)
    for outcome, times in sorted(outcomes.items()):
        print(f"{times:6} {outcome}")
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
