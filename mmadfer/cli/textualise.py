"""`mmadfer textualise`: the cues of a store's clips, or of videos, as sentences."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mmadfer.data.cues.cues import CalmFace, Part
from mmadfer.data.cues.template import Template
from mmadfer.data.cues.textualise import Source, Summary, of_store, parts, textualise
from mmadfer.data.cues.videos import measure_video
from mmadfer.data.store.store import Store
from mmadfer.errors import DataError
from mmadfer.runtime.find_videos import videos
from mmadfer.utils.terminable import terminable
from mmadfer.utils.terminal import say, shown

_ZIP = b"PK\x03\x04"
"""How a store begins, and no video."""


def textualise_files(
    paths: Sequence[Path],
    out: Path,
    transcripts: Path | None = None,
    cues: Path | None = None,
    use: Sequence[str] = (),
    calm_face: CalmFace = "own",
    jobs: int = 1,
) -> int:
    """Put a store, or videos and folders of videos, into words, and say what was lacking.

    Returns:
        The exit code: 0, or 2 when a video could not be read, and the others have their rows all the same.

    Raises:
        MmadferError: as `textualise`; a store among other paths.
    """
    template = Template(calm_face=calm_face, use=parts(use, transcripts))
    stores = [path for path in paths if _is_store(path)]
    if stores and len(paths) > 1:
        raise DataError(f"{stores[0]} is a store, beside {len(paths) - 1} other paths: give one store, or videos")
    with terminable():
        if stores:
            with Store(stores[0]) as store:
                clips, left_out = of_store(store, template.use), store.left_out
                found = textualise(clips, out, template, transcripts, cues, left_out=left_out, jobs=jobs)
        else:
            found = textualise(_of_videos(paths, template.use), out, template, transcripts, cues, jobs=jobs, go_on=True)
    return _tell(found, out)


def _is_store(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_ZIP)) == _ZIP


def _of_videos(paths: Sequence[Path], use: Sequence[Part]) -> list[Source]:
    found = [video.path for video in videos(paths)]
    return [Source(shown(str(path)), path, partial(measure_video, path, use)) for path in found]


def _tell(summary: Summary, out: Path) -> int:
    for error in summary.failures:
        say(str(error), err=True)
    for line in summary.passed_over():
        say(line)
    clips = f"{summary.rows} clip{'s' * (summary.rows != 1)}"
    say(f"{out}: {clips}" + f" ({summary})" * bool(str(summary)))
    return DataError.exit_code if summary.failures else 0
