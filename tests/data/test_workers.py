"""Clips in real worker processes: what hangs or is not ours to read is listed, and the others go on."""

import errno
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from make_media import moving_face, portrait, video, write_images
from PIL import Image

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.preparation.workers import ClipJob, outcomes, prepare_clip
from mmadfer.data.sets import SourceClip
from mmadfer.data.store import source_files
from mmadfer.errors import DataError
from mmadfer.utils.files import sha256

pytestmark = pytest.mark.slow

SETTINGS = PrepareConfig(face_size=32, face_box="union", no_sound="silence")


def task(media: Path) -> ClipJob:
    return ClipJob(SourceClip(media.stem, media, "glad", 1), media.name, SETTINGS)


def endless(folder: Path) -> Path:
    """A clip that would take some minutes: 300 links to one large picture, whose faces are looked for at full size."""
    large = np.asarray(Image.fromarray(portrait()).resize((2000, 1500), Image.Resampling.BILINEAR))
    write_images(folder, [large], "jpg")
    for k in range(1, 300):
        (folder / f"{k}.jpg").symlink_to("0.jpg")
    return folder


def test_a_clip_that_never_ends_is_given_up_and_the_others_are_done(tmp_path: Path) -> None:
    good = [write_images(tmp_path / name, moving_face(2)) for name in ("a", "c", "d")]
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    begin = monotonic()
    tasks = [task(path) for path in (good[0], endless(tmp_path / "b"), pipe, *good[1:])]
    found = list(outcomes(tasks, jobs=2, seconds=6))
    assert [outcome.id for outcome in found] == ["a", "b", "pipe", "c", "d"]
    assert [outcome.reason for outcome in found] == ["", "unreadable", "unreadable", "", ""]
    assert "took longer than 6 s" in found[1].detail
    assert "is not a file" in found[2].detail
    assert monotonic() - begin < 90


def test_the_index_says_what_a_clip_was_made_of(tmp_path: Path) -> None:
    folder, film = write_images(tmp_path / "frames", moving_face(2)), video(tmp_path / "a.mp4", 0.2)
    source = SourceClip("a", folder, "glad", 1, sound=film, cropped=True)
    clip = prepare_clip(ClipJob(source, "frames", SETTINGS, "a.mp4")).clip
    assert clip is not None
    assert (clip.media, clip.sound, clip.rate, clip.silent, clip.cropped) == ("frames", "a.mp4", 44100, False, True)
    outcome = prepare_clip(task(folder))
    assert outcome.clip is not None
    assert (outcome.clip.sound, outcome.clip.rate, outcome.clip.silent, outcome.clip.cropped) == (None, 0, True, False)
    assert "silence in its place" in outcome.clip.note


def test_a_folder_that_vanished_is_listed(tmp_path: Path) -> None:
    outcome = prepare_clip(task(tmp_path / "gone"))
    assert (outcome.reason, outcome.clip) == ("unreadable", None)
    assert "does not exist" in outcome.detail


def test_a_disk_that_fails_under_a_folder_stops_preparation(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "frames", moving_face(2))
    (folder / "1.png").unlink()
    (folder / "1.png").symlink_to("/proc/self/mem")  # a file whose first byte gives an input error
    with pytest.raises(DataError, match=r"1\.png cannot be read: Input/output error.*run the same command"):
        prepare_clip(task(folder))


def fails_at(monkeypatch: pytest.MonkeyPatch, *reads: int) -> None:
    """Let the first, second, ... reading of a file for its digest fail, as on a network disk that is away."""
    count = iter(range(1, 100))

    def flaky(path: Path) -> str:
        if next(count) in reads:
            raise OSError(errno.ESTALE, "Stale file handle")
        return sha256(path)

    monkeypatch.setattr(source_files, "sha256", flaky)


def test_a_disk_that_fails_for_a_moment_leaves_nothing_in_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = video(tmp_path / "a.mp4", 0.2)
    fails_at(monkeypatch, 1)
    outcome = prepare_clip(task(file))
    assert outcome.clip is not None
    assert outcome.clip.sha256 == outcome.digest.sha256 == sha256(file)
    fails_at(monkeypatch, 1, 2)
    with pytest.raises(DataError, match=r"a\.mp4 cannot be read: .*second time.*run the same command"):
        prepare_clip(task(file))


class Call:
    """Does something to the process that unpickles it."""

    def __init__(self, what: object, *arguments: int) -> None:
        self.what, self.arguments = what, arguments

    def __reduce__(self) -> tuple[object, tuple[int, ...]]:
        return self.what, self.arguments


def test_a_worker_that_is_stopped_does_not_hold_up_the_end_of_one_that_crashed(tmp_path: Path) -> None:
    good = task(write_images(tmp_path / "a", moving_face(2)))
    good = replace(good, source=replace(good.source, cropped=True))  # quick: no faces are looked for
    stopped, crashed = Call(signal.raise_signal, signal.SIGSTOP), Call(os._exit, 1)
    tasks = [replace(good, media=odd) for odd in (stopped, crashed)]  # type: ignore[arg-type]
    found = list(outcomes([*tasks, good], jobs=2, seconds=8))
    assert "took longer" in found[0].detail
    assert "ended the process" in found[1].detail
    assert found[2].clip, found[2].detail


RUN = """
import resource, sys
from pathlib import Path
from mmadfer.data.preparation.workers import outcomes
from mmadfer.errors import DataError
sys.path.insert(0, sys.argv[1])
from test_workers import task
if __name__ == "__main__":
    import os
    if sys.argv[2] == "files":
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + int(sys.argv[3]),) * 2)
    try:
        list(outcomes([task(Path("none"))] * 4, 2))
    except DataError as error:
        print(error)
"""
SERVER_DIES = "import os, sys\nif any('forkserver' in word for word in sys.orig_argv): os._exit(3)\n"


@pytest.mark.parametrize(("how", "room"), [("server", 0), ("files", 2), ("files", 9), ("files", 14)])
def test_workers_that_cannot_be_started_are_told_with_the_cause(tmp_path: Path, how: str, room: int) -> None:
    (tmp_path / "run.py").write_text(RUN)
    if how == "server":
        (tmp_path / "sitecustomize.py").write_text(SERVER_DIES)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "run.py"), str(Path(__file__).parent), how, str(room)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "worker processes cannot be started (" in done.stdout
    assert "fewer --jobs, or allow more memory or open files" in done.stdout
