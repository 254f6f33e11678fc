"""What `mmadfer predict` draws of its predictions: pictures over time (`--plot`), and videos (`--overlay`)."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path

import numpy as np

from mmadfer.data.store.store import FULL_DISK
from mmadfer.data.traces import Trace
from mmadfer.errors import ConfigError, DataError
from mmadfer.runtime.inputs import Video
from mmadfer.runtime.overlay import Places, write_overlay
from mmadfer.runtime.prediction import Failure, Prediction
from mmadfer.runtime.read_files import ReadFiles
from mmadfer.runtime.recogniser import Recogniser
from mmadfer.utils.files import check_place
from mmadfer.utils.optional import need
from mmadfer.utils.terminal import say

_PICTURES, _VIDEOS = (".png", ".svg"), (".mp4",)
"""How files end; the first is that of those in a folder."""


class Drawings:
    """What is to be drawn, checked before hours of work and not after them.

    Args:
        plot: a folder for a picture of each video, or of one video a file; None: none.
        overlay: a folder for an overlay video of each video, or of one video a file; None: none.
        videos: all that are to be predicted.
        read: what the command reads.

    Attributes:
        places: to be given to the `Recogniser` as `on_part`.

    Raises:
        ConfigError: nothing can be written there, or over what is read, or one file for several.
        MissingDependencyError: matplotlib is not installed.
    """

    def __init__(self, plot: Path | None, overlay: Path | None, videos: Sequence[Video], read: ReadFiles) -> None:
        self._videos = videos
        self.places = Places() if overlay is not None else None
        self._plots = _checked("--plot", plot, _PICTURES, videos, read)
        self._overlays = _checked("--overlay", overlay, _VIDEOS, videos, read)
        if plot is not None:
            need("matplotlib", extra="train")

    def draw(self, recogniser: Recogniser, results: Sequence[Prediction | Failure]) -> bool:
        """Draw all videos that are predicted; whether all of them could be drawn.

        Raises:
            OSError: the disk is full.
        """
        found = [
            *(self._plot(file, one, recogniser) for file, one in zip(self._plots, results, strict=False)),
            *(self._overlay(*three, recogniser) for three in zip(self._overlays, self._videos, results, strict=False)),
        ]
        return all(found)

    def _plot(self, out: Path, one: Prediction | Failure, recogniser: Recogniser) -> bool:
        return isinstance(one, Failure) or _drawn(out, lambda: _draw_picture(out, one, recogniser.values))

    def _overlay(self, out: Path, video: Video, one: Prediction | Failure, recogniser: Recogniser) -> bool:
        if isinstance(one, Failure):
            return True
        assert self.places is not None
        settings, where = recogniser.contract.prepare, self.places.of(video.path)
        return _drawn(out, lambda: write_overlay(out, video, one, where, settings, recogniser.values))


def _drawn(out: Path, draw: Callable[[], Sequence[str]]) -> bool:
    """Draw and print the notes; whether it could be drawn. One that cannot must not end the others."""
    try:
        notes = draw()
    except (DataError, OSError) as error:
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            raise
        say(f"{out} cannot be drawn: {error}", err=True)
        return False
    for note in notes:
        say(f"{out}: {note}")
    return True


def _checked(
    option: str, path: Path | None, endings: Sequence[str], videos: Sequence[Video], read: ReadFiles
) -> list[Path]:
    """The file for each video; none where nothing is asked for."""
    if path is None:
        return []
    one = path.suffix.lower() in endings
    if not one and not path.is_dir() and (path.suffix or os.path.lexists(path)):
        raise ConfigError(
            f"{option} {path}: the name must end in {' or '.join(endings)}, or be of a folder; a new one has no dot"
        )
    if one and len(videos) > 1:
        raise ConfigError(f"{option} {path} is one file, and there are {len(videos)} videos: give a folder")
    check_place(path, folder=not one)
    files = [path] if one else list(_files(path, endings[0], videos))
    read.check_drawings(option, files)
    return files


def _files(folder: Path, ending: str, videos: Sequence[Video]) -> Iterator[Path]:
    """A file for each video, by its name; those of one name are numbered."""
    taken, numbers = set[str](), defaultdict[str, Iterator[int]](lambda: count(1))
    for video in videos:
        stem = video.path.stem or "clip"  # `.` has none
        names = (f"{stem}{f'-{number}' if number > 1 else ''}" for number in numbers[stem])
        name = next(name for name in names if name not in taken)
        taken.add(name)
        yield folder / f"{name}{ending}"


def _draw_picture(out: Path, result: Prediction, ranges: Mapping[str, tuple[float, float]]) -> list[str]:
    title = Path(result.video).name
    if not result.series:
        from mmadfer.report.timeline import write_timeline

        write_timeline(out, title, result, ranges)
        return []
    from mmadfer.report.value_plots import write_trace

    output = np.array(list(result.series["values"].values())).T
    trace = Trace(np.array(result.series["seconds"]), np.full_like(output, np.nan), output)
    write_trace(out, title, trace, ranges)
    return []
