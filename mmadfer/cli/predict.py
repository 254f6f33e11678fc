"""`mmadfer predict`: videos on the command line, a table, and JSON or CSV on request."""

from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from time import monotonic
from typing import Any

from mmadfer.cli.drawings import Drawings
from mmadfer.errors import DataError
from mmadfer.runtime.captions import check_captions
from mmadfer.runtime.find_videos import videos
from mmadfer.runtime.inputs import Video
from mmadfer.runtime.prediction import Failure, Prediction
from mmadfer.runtime.read_files import ReadFiles
from mmadfer.runtime.recogniser import Recogniser, Results
from mmadfer.runtime.sentences import GivenText
from mmadfer.runtime.writers import check_names, partial_path, print_predictions, write_results
from mmadfer.utils.progress import Meter
from mmadfer.utils.terminable import terminable
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
    fps: float | None = None,
    plot: Path | None = None,
    transcripts: Path | None = None,
    sentences: Path | None = None,
    faces: str = "largest",
    overlay: Path | None = None,
    **looks: Any,
) -> int:
    """Predict videos, print them, and write what is asked for.

    What is there is written under another name (answers.partial.csv) every minute, and when it ends too early; a file
    of the name that was asked for holds all.

    Args:
        paths: videos, folders of images, and folders of these.
        model, backend, fold, device, faces: as for `Recogniser`.
        looks: `adjust`, `clips`, `flips`, `calibrated` and `verify`, as for it.
        out: files to write: .json, .csv, or of one video .vtt and .srt.
        jobs, batch, window, hop: as for `Recogniser.predict`.
        sound: a file with the sound of the one clip, or a folder with one for each.
        cropped: the frames show nothing but the face.
        fps: images per second of folders of images.
        plot: a folder for a picture of each video over time, or of one video a file, .png or .svg.
        overlay: a folder for each video with what is said of it drawn into it, or of one video a file, .mp4.
        transcripts, sentences: what is said in the videos, or sentences about them, for a model that reads sentences.

    Returns:
        The exit code: 0, or 2 when a video could not be read or drawn; the others are predicted all the same.

    Raises:
        WeightsError, HubError, SignatureError: the model cannot be used.
        MissingDependencyError: the backend or the device is not there.
        ConfigError, DataError: options that cannot be.
    """
    check_names(out)
    named = videos(paths, sound, cropped, fps)
    read = ReadFiles(named, model, (transcripts, sentences))
    _check_out(out, named, read)
    drawings = Drawings(plot, overlay, named, read)
    text = GivenText(transcripts, sentences, tuple(video.path for video in named))
    recogniser = Recogniser(model, backend, fold, device, text=text, faces=faces, on_part=drawings.places, **looks)
    found = recogniser.predict(named, jobs=jobs, batch=batch, window=window, hop=hop)
    with terminable():
        results = _collect(found, len(named), _Out(out, recogniser))
        drawn = drawings.draw(recogniser, results)
    return 0 if drawn and not any(isinstance(one, Failure) for one in results) else DataError.exit_code


def _check_out(out: Sequence[Path], named: Sequence[Video], read: ReadFiles) -> None:
    check_captions(out, len(named))
    read.check("--out", (*out, *map(partial_path, out)))


class _Out:
    """The files that were asked for."""

    def __init__(self, paths: Sequence[Path], recogniser: Recogniser) -> None:
        self._paths, self._contract = {path: partial_path(path) for path in paths}, recogniser.contract
        self._people = recogniser.tells_people_apart

    def write(self, results: Collected) -> None:
        """Everything, under the names that were asked for."""
        for path, other in self._paths.items():
            write_results(path, results, self._contract, self._people)
            other.unlink(missing_ok=True)

    def keep(self, results: Collected) -> str:
        """What is there up to now, under other names; returns these."""
        for other in self._paths.values():
            write_results(other, results, self._contract, self._people)
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
