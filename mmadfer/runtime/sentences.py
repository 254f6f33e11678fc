"""The sentence of a video, for a model that reads one: made of cues that are measured of it, or given in a file.

A sentence is of the whole video, as in training it is of the whole clip.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mmadfer.contract import Contract
from mmadfer.contract.facts import TextFacts
from mmadfer.data.cues.template import VERSION, Template, sentence
from mmadfer.data.cues.transcripts import Transcripts, read_transcripts, timed, words_of
from mmadfer.data.cues.videos import Measured, measure_video, measured_with_words
from mmadfer.data.sentences import Sentences, check_facts, facts_of, read_sentences
from mmadfer.data.tokens import Reading, Tokenizer, tokenizer_beside
from mmadfer.data.video_windows import Windows
from mmadfer.errors import ConfigError, WeightsError
from mmadfer.runtime.arrays import Inputs
from mmadfer.runtime.inputs import ClipViews, Video, VideoPart, at_own_rate, read_parts
from mmadfer.utils.terminal import shown

CUT = " […]"
"""Where a sentence is cut."""


@dataclass(frozen=True)
class GivenText:
    """What somebody gives of the words of videos."""

    transcripts: Path | None = None
    """What is said in each: a file as `read_transcripts` takes it, whose clips are the videos' paths."""
    sentences: Path | None = None
    """A file of `mmadfer textualise`, whose ids are the videos' paths; then nothing is measured."""
    videos: tuple[Path, ...] = ()
    """All that are asked for; transcripts of others are refused."""


class VideoSentences:
    """The sentences of videos, and their tokens.

    Args:
        path: of the model, beside which its tokenizer may lie.
        contract: of a model that reads sentences.
        given: what somebody gives; by default nothing.

    Raises:
        WeightsError: no such tokenizer, or another one; or the model does not say how its sentences were made.
        ConfigError: the sentences cannot be made, or not of what is given.
        DataError: what is given cannot be used.
    """

    def __init__(self, path: Path, contract: Contract, given: GivenText | None = None) -> None:
        given = given or GivenText()
        self._path, self.contract, self._facts = path, contract, _known(path, contract)
        self._check(given)
        assert contract.model.text is not None
        self.tokenizer: Tokenizer = tokenizer_beside(path, contract.model.text, self._facts.tokenizer)
        self._given = None if given.sentences is None else self._checked(given.sentences)
        self._words: Transcripts | None = None
        self._timed = timed(given.transcripts)
        if given.transcripts is not None:
            self._words = read_transcripts(given.transcripts, {_name(video): video for video in given.videos})

    def _checked(self, path: Path) -> Sentences:
        found = read_sentences(path)
        check_facts(self._facts, facts_of(found, self.tokenizer))
        return found

    def _check(self, given: GivenText) -> None:
        if given.sentences is not None and given.transcripts is not None:
            raise ConfigError("--sentences has the words of videos in it: leave --transcripts out")
        if given.transcripts is not None:
            self.check_makeable(given.transcripts)

    def check_makeable(self, transcripts: Path | None) -> None:
        """Ask before hours of work whether sentences of videos can be made with these transcripts.

        Raises:
            ConfigError: they lack, or are too much.
        """
        if transcripts is not None and not self.needs_words:
            raise ConfigError(f"{self._path} has not learnt from what is said: leave --transcripts out")
        if transcripts is None and self.needs_words:
            raise ConfigError(f"{self._path} has learnt from what is said: give it in --transcripts FILE")

    @property
    def template(self) -> Template:
        """That the model's sentences are made by.

        Raises:
            ConfigError: they are made of cues that no video gives.
        """
        if not self._facts.use:
            raise ConfigError(
                f"{self._path} has learnt sentences that are made of other cues than a video gives: `mmadfer predict` "
                "takes those of the videos from a file, --sentences FILE"
            )
        return Template(calm_face=self._facts.calm_face, use=self._facts.use)

    @property
    def needs_words(self) -> bool:
        """Whether the model has learnt from what is said."""
        return "text" in self._facts.use

    def measure(self, video: Video, timed: bool) -> Measured:
        """What the sentence of a video is made of, by `template`, as the model's training had it.

        `timed`: its words, if they are used, go by the time at which it is shown.

        Raises:
            ConfigError: the model's sentences are made of other cues.
            ClipError: as `measure_video`.
        """
        settings, source = at_own_rate(self.contract.prepare, video), video.pictures or video.path
        return measure_video(source, self.template.use, video.sound, settings, video.cropped, timed)

    def read_parts(
        self, video: Video, windows: Windows | None = None, views: ClipViews | None = None
    ) -> Iterator[VideoPart]:
        """As `inputs.read_parts`, with the sentence; of a model of sentences alone, one part without anything else.

        Raises:
            ConfigError: windows, of which nothing says a sentence each.
            DataError: as there; or there is no sentence of the video, or it cannot be made.
        """
        check_whole(windows)
        told, span, notes = self._of(video)
        reading = self.tokenizer.read(told)
        tokens, told, cut = (reading.tokens[None],), _shown(told, reading), _cut_notes(reading)
        if not self.contract.model.modalities:
            yield VideoPart(*span, tokens, (*notes, *cut), sentence=told)
            return
        for part in read_parts(video, self.contract, None, views):
            yield part if part.inputs is None else _with(part, tokens, told, cut)

    def _of(self, video: Video) -> tuple[str, tuple[float, float], tuple[str, ...]]:
        """The sentence, the time that it is of, as far as that is known, and notes."""
        name = _name(video.path)
        if self._given is not None:
            return self._given.of([name])[0], (0.0, 0.0), ()
        find = partial(words_of, self._words, name, video.path, self.needs_words)
        measured, words = measured_with_words(partial(self.measure, video, self._timed), find, self._timed)
        told = sentence(measured.cues(words), self.template)
        span = measured.span if math.isfinite(sum(measured.span)) else (0.0, 0.0)
        return told, span, tuple(measured.notes)


def check_whole(windows: Windows | None) -> None:
    """Raise ConfigError where windows are asked for of a model of sentences: nothing says a sentence of each."""
    if windows is not None:
        raise ConfigError(
            "the model reads one sentence about a whole clip: leave --window out, or cut the video into clips"
        )


def _known(path: Path, contract: Contract) -> TextFacts:
    facts = contract.text
    if facts is None or (facts.use and facts.template != VERSION):
        told = "does not say how its sentences were made" if facts is None else f"has learnt those of {facts.template}"
        raise WeightsError(f"{path} {told}, and the template here is {VERSION}: train it anew with this version")
    return facts


def _name(path: Path) -> str:
    """Of a video, in files of words and sentences."""
    return shown(str(path))


def _shown(told: str, reading: Reading) -> str:
    """The sentence as far as it is read."""
    return told[: reading.end] + CUT if reading.cut else told


def _cut_notes(reading: Reading) -> tuple[str, ...]:
    told = f"the model reads the first {len(reading.tokens)} of the sentence's {reading.length} tokens"
    return (told,) if reading.cut else ()


def _with(part: VideoPart, tokens: Inputs, told: str, notes: Iterable[str]) -> VideoPart:
    inputs: Iterable[np.ndarray] = part.inputs or ()
    others = tuple((*one, *tokens) for one in part.others)
    return part._replace(inputs=(*inputs, *tokens), others=others, sentence=told, notes=(*part.notes, *notes))
