"""What `mmadfer predict` draws of its predictions: pictures over time (`--plot`), and videos (`--overlay`)."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from mmadfer.data.traces import Trace
from mmadfer.errors import ConfigError, DataError
from mmadfer.runtime.inputs import Video
from mmadfer.runtime.overlay import Places, write_overlay
from mmadfer.runtime.prediction import Failure, Prediction
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

    Attributes:
        places: to be given to the `Recogniser` as `on_part`.

    Raises:
        ConfigError: nothing can be written there, or over a video, or one file for several.
        MissingDependencyError: matplotlib is not installed.
    """

    def __init__(self, plot: Path | None, overlay: Path | None, videos: Sequence[Video]) -> None:
        self._plot, self._overlay, self._videos = plot, overlay, videos
        self.places = Places() if overlay is not None else None
        if plot is not None:
            need("matplotlib", extra="train")
            _check("--plot", plot, _PICTURES, videos)
        if overlay is not None:
            _check("--overlay", overlay, _VIDEOS, videos)

    def draw(self, recogniser: Recogniser, results: Sequence[Prediction | Failure]) -> bool:
        """Draw all videos that are predicted; whether all of them could be read again."""
        if self._plot is not None:
            for file, one in zip(_files(self._plot, _PICTURES, self._videos), results, strict=True):
                if isinstance(one, Prediction):
                    _draw_picture(file, one, recogniser.values)
        if self._overlay is None:
            return True
        drawn = True
        for file, video, one in zip(_files(self._overlay, _VIDEOS, self._videos), self._videos, results, strict=True):
            if isinstance(one, Prediction):
                drawn = self._draw_overlay(file, video, one, recogniser) and drawn
        return drawn

    def _draw_overlay(self, out: Path, video: Video, one: Prediction, recogniser: Recogniser) -> bool:
        assert self.places is not None
        try:
            where = self.places.of(video.path)
            notes = write_overlay(out, video, one, where, recogniser.contract.prepare, recogniser.values)
        except DataError as error:
            say(f"{out} cannot be drawn: {error}", err=True)
            return False
        for note in notes:
            say(f"{out}: {note}")
        return True


def _check(option: str, path: Path, endings: Sequence[str], videos: Sequence[Video]) -> None:
    one = path.suffix.lower() in endings
    if path.suffix and not one and not path.is_dir():
        raise ConfigError(
            f"{option} {path}: the name must end in {' or '.join(endings)}, or be of a folder without a dot"
        )
    if one and len(videos) > 1:
        raise ConfigError(f"{option} {path} is one file, and there are {len(videos)} videos: give a folder")
    check_place(path, folder=not one)
    sources = {video.path.resolve() for video in videos}
    if odd := [file for file in _files(path, endings, videos) if file.resolve() in sources]:
        raise ConfigError(f"{option} would write over {odd[0]}, which is to be predicted: give another name")


def _files(path: Path, endings: Sequence[str], videos: Sequence[Video]) -> Iterator[Path]:
    """The file that was asked for; or in a folder one for each video, by its name; those of one name are numbered."""
    names = Counter[str]()
    for video in videos:
        name = video.path.stem
        names[name] += 1
        other = path / f"{name}{f'-{names[name]}' if names[name] > 1 else ''}{endings[0]}"
        yield path if path.suffix.lower() in endings else other


def _draw_picture(out: Path, result: Prediction, ranges: Mapping[str, tuple[float, float]]) -> None:
    title = Path(result.video).name
    if not result.series:
        from mmadfer.report.timeline import write_timeline

        return write_timeline(out, title, result, ranges)
    from mmadfer.report.value_plots import write_trace

    output = np.array(list(result.series["values"].values())).T
    trace = Trace(np.array(result.series["seconds"]), np.full_like(output, np.nan), output)
    return write_trace(out, title, trace, ranges)
