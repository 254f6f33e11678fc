"""Damaged and odd media through the real preparation: never a crash or a hang, always a named entry in the report.

    python tests/faults/fuzz_media.py --count 1000 --seed 1 [--start 0] [--report fuzz.json]

Each batch is made, read clip by clip, and prepared by two workers, in a process of its own that may not read what it
has no permission for; its time, its memory and its report are checked. Linux only.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mutations import KINDS, make
from odd_media import make_bases

BATCH = 100
SECONDS = 20.0
"""That one clip may take."""
MEMORY = 2 * 2**30
"""Bytes that one process may take."""
UNNAMED = re.compile(r"Traceback|\w(Error|Exception|Warning)\b")


def run(count: int, seed: int, start: int = 0) -> dict[str, Any]:
    """Try the mutations `start` to `start + count`.

    Returns:
        `outcomes` (kind -> outcome -> clips), `slowest` (seconds, number, kind), `memory` (bytes, of the largest
        process), `faults` (what went wrong, in words; none is right), `wall` (seconds).
    """
    begin, total = time.monotonic(), {"faults": [], "slowest": (0.0, 0, ""), "memory": 0}
    outcomes: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        bases = Path(folder) / "bases"
        bases.mkdir()
        make_bases(bases)
        for first in range(start, start + count, BATCH):
            numbers = range(first, min(first + BATCH, start + count))
            result = _watch(Path(folder), seed, numbers)
            total["faults"] += result["faults"]
            total["memory"] = max(total["memory"], result["memory"])
            for number, kind, outcome, seconds in result["clips"]:
                outcomes[kind][outcome] += 1
                total["slowest"] = max(total["slowest"], (seconds, number, kind))
    return {**total, "outcomes": outcomes, "wall": round(time.monotonic() - begin, 1)}


def _watch(folder: Path, seed: int, numbers: range) -> dict[str, Any]:
    """Run one batch in a process of its own."""
    work = folder / f"batch-{numbers.start}"
    work.mkdir()
    command = [*_obedient(), sys.executable, __file__, "--batch", str(folder), str(seed)]
    with (work / "stdout").open("w") as out, (work / "stderr").open("w") as err:
        process = subprocess.Popen(
            [*command, str(numbers.start), str(numbers.stop)],
            stdout=out,
            stderr=err,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        memory = _wait(process, 60 + 5 * len(numbers))
    said = (work / "stderr").read_text()
    clips = [json.loads(line) for line in (work / "clips.jsonl").read_text().splitlines()]
    faults = (work / "faults").read_text().splitlines() if (work / "faults").exists() else []
    if process.returncode:
        last = clips[-1] if clips else None
        faults.append(f"the batch {numbers} left with {process.returncode} after {last}: {said[-2000:]}")
    noise = [line for line in said.splitlines() if UNNAMED.search(line)]
    faults += [f"the batch {numbers} said {line}" for line in noise[:5] if not process.returncode]
    if len(said.splitlines()) > 3 * len(numbers):
        faults.append(f"the batch {numbers} said {len(said.splitlines())} lines: {said[:500]}")
    if memory > MEMORY:
        faults.append(f"the batch {numbers} took {memory / 2**20:.0f} MiB in one process")
    _remove(work)
    return {"clips": [clip for clip in clips if len(clip) == 4], "faults": faults, "memory": memory}


def _obedient() -> list[str]:
    """What takes the right to read everything from root; nothing for others, who have no such right."""
    if os.geteuid():
        return []
    drop = [shutil.which("setpriv") or "", "--bounding-set", "-dac_override,-dac_read_search"]
    works = drop[0] and subprocess.run([*drop, "true"], capture_output=True, check=False).returncode == 0
    return drop if works else []


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int:
    """Wait for a batch, end its whole session if it hangs, and return its largest process's peak memory in bytes."""
    peak, deadline = 0, time.monotonic() + seconds
    try:
        while process.poll() is None and time.monotonic() < deadline:
            peak = max([peak, *_peaks(process.pid)])
            time.sleep(0.1)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return peak


def _peaks(session: int) -> Iterable[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == session:
                yield int(re.findall(r"VmHWM:\s+(\d+)", (folder / "status").read_text())[0]) * 1024
        except (OSError, IndexError):
            continue  # it has ended


def _remove(work: Path) -> None:
    for path in work.glob("media/*"):
        if not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(work)


# what runs in the batch's own process


def _batch(folder: Path, seed: int, numbers: range) -> None:
    from mmadfer.config.schema import PrepareConfig
    from mmadfer.data.preparation.prepare import prepare, print_summary
    from mmadfer.data.sets import ClipTable, SourceClip
    from mmadfer.data.store.store import Store

    work = folder / f"batch-{numbers.start}"
    media = work / "media"
    media.mkdir()
    settings = PrepareConfig(face_size=64)
    sources, read = [], {}
    with (work / "clips.jsonl").open("w", buffering=1) as log, (work / "faults").open("w", buffering=1) as faults:
        for number in numbers:
            kind, clip = make(seed, number, folder / "bases", media)
            log.write(json.dumps([number, kind]) + "\n")
            if kind == "locked" and os.access(clip.media, os.R_OK):  # this user may read everything
                log.write(json.dumps([number, kind, "not tried", 0.0]) + "\n")
                continue
            source = SourceClip(f"{number:04d} {kind}", clip.media, str(number % 2), number % 5 + 1, sound=clip.sound)
            sources.append(source)
            outcome, seconds, fault = _read(source, settings)
            read[source.id] = outcome
            log.write(json.dumps([number, kind, outcome, seconds]) + "\n")
            faults.writelines(f"{number} {kind}: {text}\n" for text in _judge(kind, outcome, seconds, fault))
        out = work / "out.store"
        summary = prepare(ClipTable("fuzz", ("0", "1"), sources), out, settings, jobs=2)
        print_summary(summary)
        with Store(out) as store:
            found = {**dict.fromkeys(store.clips, "kept"), **dict(summary.left_out)}
            faults.writelines(f"the store: {text}\n" for text in store.verify())
        faults.writelines(
            f"{name} is {found.get(name)} in the report, and {read[name]} alone\n"
            for name in sorted({*found, *read})
            if found.get(name) != read.get(name)
        )
        for left in summary.left:
            faults.writelines(f"{left.id}: {text}\n" for text in _judge_detail(left.media, left.detail))
        json.loads(summary.report.read_text())


def _read(source: Any, settings: Any) -> tuple[str, float, str]:
    """Outcome, seconds, and what was wrong with the way it came."""
    from mmadfer.data.clip import read_clip
    from mmadfer.errors import ClipError

    begin, fault = time.monotonic(), ""
    try:
        clip = read_clip(source.media, settings, sound=source.sound)
        outcome = "kept"
        if not clip.jpegs or len(clip.jpegs) != len(clip.times):
            fault = f"{len(clip.jpegs)} pictures at {len(clip.times)} times"
    except ClipError as error:
        outcome = error.reason
        fault = "; ".join(_judge_detail(str(source.media), str(error)))
    except Exception as error:  # the very thing that is looked for
        outcome, fault = "crash", repr(error)
    return outcome, round(time.monotonic() - begin, 3), fault


def _judge(kind: str, outcome: str, seconds: float, fault: str) -> Iterable[str]:
    if outcome not in KINDS[kind][1]:
        yield f"is {outcome!r}"
    if seconds > SECONDS:
        yield f"took {seconds} s"
    if fault:
        yield fault


def _judge_detail(media: str, detail: str) -> Iterable[str]:
    """A detail names the file, and says in words what is wrong."""
    if Path(media).name.partition(".")[0][:4] not in detail:
        yield f"no file is named in {detail!r}"
    if UNNAMED.search(detail):
        yield f"no plain words: {detail!r}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--batch", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.batch:
        folder, seed, first, last = options.batch
        _batch(Path(folder), int(seed), range(int(first), int(last)))
        return 0
    result = run(options.count, options.seed, options.start)
    text = json.dumps(result, indent=1)
    if options.report:
        options.report.write_text(text + "\n")
    print(text)
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
