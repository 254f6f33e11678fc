"""`mmadfer textualise`: the cues of a store's clips, or of videos, as sentences."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.cues.cues import CalmFace
from mmadfer.data.cues.template import Template
from mmadfer.data.cues.textualise import Source, Summary, of_store, parts, textualise
from mmadfer.data.cues.transcripts import timed
from mmadfer.data.cues.videos import Measured, measure_video
from mmadfer.data.sentences import ClipTokens, read_sentences
from mmadfer.data.store.store import Store
from mmadfer.errors import ConfigError, DataError
from mmadfer.runtime import Recogniser
from mmadfer.runtime.find_videos import videos
from mmadfer.runtime.inputs import Video, at_own_rate
from mmadfer.runtime.sentences import VideoSentences
from mmadfer.utils.terminable import terminable
from mmadfer.utils.terminal import say, shown

_ZIP = b"PK\x03\x04"
"""How a store begins, and no video."""


class SentenceOptions(NamedTuple):
    """How sentences are made, where no model says it."""

    use: Sequence[str] = ()
    calm_face: CalmFace | None = None
    cues: Path | None = None
    """What other programs detect."""


class VideoOptions(NamedTuple):
    """What is asked for of videos, as by `mmadfer predict`; a store has its own."""

    model: Path | None = None
    """That is to read the sentences."""
    fold: int | None = None
    sound: Path | None = None
    cropped: bool = False
    fps: float | None = None


_HOW, _OF_VIDEOS = SentenceOptions(), VideoOptions()


def textualise_files(
    paths: Sequence[Path],
    out: Path,
    transcripts: Path | None = None,
    how: SentenceOptions = _HOW,
    of_videos: VideoOptions = _OF_VIDEOS,
    jobs: int = 1,
) -> int:
    """Put a store, or videos and folders of videos, into words, and say what was lacking.

    Returns:
        The exit code: 0, or 2 when a video could not be read, and the others have their rows all the same.

    Raises:
        MmadferError: as `textualise`; a store among other paths; options that do not go together.
    """
    stores = [path for path in paths if _is_store(path)]
    if stores and len(paths) > 1:
        raise DataError(f"{stores[0]} is a store, beside {len(paths) - 1} other paths: give one store, or videos")
    model = None if of_videos.model is None or stores else _of_model(of_videos, how, transcripts)
    template = model.template if model else Template(calm_face=how.calm_face or "own", use=parts(how.use, transcripts))
    make = partial(textualise, out=out, template=template, transcripts=transcripts, detected=how.cues, jobs=jobs)
    with terminable():
        if stores:
            _refuse(of_videos, f"{stores[0]} is a store, which says itself what its clips are")
            with Store(stores[0]) as store:
                found = make(of_store(store, template.use), left_out=store.left_out)
        else:
            measure = partial(model.measure if model else partial(_measure, template), timed=timed(transcripts))
            found = make(
                _of_videos(paths, of_videos, measure), go_on=True, needs_words=bool(model and model.needs_words)
            )
    return _tell(found, out, model)


def _is_store(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_ZIP)) == _ZIP


def _refuse(options: SentenceOptions | VideoOptions, why: str) -> None:
    given = [name for name, value in options._asdict().items() if value != options._field_defaults[name]]
    if given:
        raise ConfigError(f"{why}: leave --{given[0].replace('_', '-')} out")


def _of_model(asked: VideoOptions, how: SentenceOptions, transcripts: Path | None) -> VideoSentences:
    """What makes sentences as a model has learnt them."""
    assert asked.model is not None
    _refuse(how, f"{asked.model} says how its sentences are made")
    found = Recogniser(asked.model, fold=asked.fold).sentences
    if found is None:
        raise ConfigError(f"{asked.model} reads no sentences: leave --model out")
    found.check_makeable(transcripts)
    return found


def _measure(template: Template, video: Video, timed: bool) -> Measured:
    settings = at_own_rate(PrepareConfig(), video)
    return measure_video(video.path, template.use, video.sound, settings, video.cropped, timed)


def _of_videos(paths: Sequence[Path], asked: VideoOptions, measure: Callable[[Video], Measured]) -> list[Source]:
    if asked.fold is not None and asked.model is None:
        raise ConfigError("--fold is of a run directory: give it in --model")
    found = videos(paths, asked.sound, asked.cropped, asked.fps)
    return [Source(shown(str(video.path)), video.path, partial(measure, video)) for video in found]


def _tell(summary: Summary, out: Path, model: VideoSentences | None) -> int:
    for error in summary.failures:
        say(str(error), err=True)
    for line in (*summary.notes(), *_cut(out, model)):
        say(line)
    clips = f"{summary.rows} clip{'s' * (summary.rows != 1)}"
    say(f"{out}: {clips}" + f" ({summary})" * bool(str(summary)))
    return DataError.exit_code if summary.failures else 0


def _cut(out: Path, model: VideoSentences | None) -> Iterator[str]:
    if model is not None:
        written = ClipTokens(read_sentences(out), model.tokenizer)
        if told := written.cut(written.sentences.texts):
            yield f"WARNING: {told}"
