"""`mmadfer predict`: videos on the command line, a table, and JSON or CSV on request."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import monotonic
from types import FrameType

from mmadfer.errors import DataError
from mmadfer.runtime.find_videos import videos
from mmadfer.runtime.prediction import Failure, Prediction
from mmadfer.runtime.recogniser import Recogniser, Results
from mmadfer.runtime.writers import WRITERS, check_names, partial_path, print_predictions
from mmadfer.utils.progress import Meter
from mmadfer.utils.terminal import say

_WRITE_EVERY_SECONDS = 60.0
"""Seconds after which what is there is written."""

Collected = list[Prediction | Failure]


def predict_files(
    paths: Sequence[Path],
    model: Path,
    backend: str | None = None,
    fold: int | None = None,
    out: Sequence[Path] = (),
    device: str | None = None,
    jobs: int = 1,
    batch: int | None = None,
    window: float | None = None,
    hop: float | None = None,
    sound: Path | None = None,
    cropped: bool = False,
    adjust: float = 0.0,
    clips: int = 1,
    flips: bool = False,
    fps: float | None = None,
) -> int:
    """Predict videos, print them, and write what is asked for.

    What is there is written under another name (answers.partial.csv) every minute, and when it ends too early; a file
    of the name that was asked for holds all.

    Args:
        paths: videos, folders of images, and folders of these.
        model, backend, fold, device, adjust, clips, flips: as for `Recogniser`.
        out: files to write, .json or .csv.
        jobs, batch, window, hop: as for `Recogniser.predict`.
        sound: a file with the sound of the one clip, or a folder with one for each.
        cropped: the frames show nothing but the face.
        fps: images per second of folders of images.

    Returns:
        The exit code: 0, or 2 when a video could not be read; the others are predicted all the same.

    Raises:
        WeightsError: the model cannot be used.
        MissingDependencyError: the backend or the device is not there.
        ConfigError, DataError: options that cannot be.
    """
    check_names(out)
    named = videos(paths, sound, cropped, fps)
    recogniser = Recogniser(model, backend, fold, device, adjust=adjust, clips=clips, flips=flips)
    found = recogniser.predict(named, jobs=jobs, batch=batch, window=window, hop=hop)
    with _terminable():
        results = _collect(found, len(named), _Out(out, recogniser.labels, list(recogniser.values)))
    return DataError.exit_code if any(isinstance(result, Failure) for result in results) else 0


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM, with which servers and queues end a command, leaves the block as ctrl-C does, and ends with 143."""

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one must not stop the writing
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # where Python cannot catch signals
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


class _Out:
    """The files that were asked for."""

    def __init__(self, paths: Sequence[Path], labels: Sequence[str], values: Sequence[str]) -> None:
        self._paths, self._names = {path: partial_path(path) for path in paths}, (labels, values)

    def write(self, results: Collected) -> None:
        """Everything, under the names that were asked for."""
        for path, other in self._paths.items():
            WRITERS[path.suffix.lower()](path, results, *self._names)
            other.unlink(missing_ok=True)

    def keep(self, results: Collected) -> str:
        """What is there up to now, under other names; returns these."""
        for other in self._paths.values():
            WRITERS[other.suffix.lower()](other, results, *self._names)
        return " and ".join(map(str, self._paths.values()))


def _collect(found: Results, count: int, out: _Out) -> Collected:
    """Take all results, then write and print them; or those that there are, where it ends too early."""
    results, kept = Collected(), monotonic()
    try:
        with closing(found), Meter("predicting", count, goes_on=False) as meter:
            for result in found:
                results.append(result)
                meter.step()
                if monotonic() - kept > _WRITE_EVERY_SECONDS:
                    with suppress(OSError):  # a disk that is full may not be so in the end
                        out.keep(results)
                    kept = monotonic()
        out.write(results)
    except BaseException:
        say(f"not finished: {len(results)} of {count} videos are predicted{_kept(results, out)}", err=True)
        raise
    finally:
        print_predictions(results)
    return results


def _kept(results: Collected, out: _Out) -> str:
    """Keep what is there; says where, or why not, which must not hide the error before it."""
    if not results:
        return ""
    try:
        where = out.keep(results)
    except OSError as error:
        return f", and cannot be kept: {error}"
    return f", and kept in {where}" * bool(where)
