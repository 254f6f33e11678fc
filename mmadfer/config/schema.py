"""Typed configuration: a YAML file plus `--set train.lr=3e-4`; every error names the key and the rule.

Defaults are the published recipe (Chumachenko et al. 2024, section 4.2, and the published program).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from mmadfer.config.adaptation import AdaptConfig
from mmadfer.config.base import Fraction, Line, Positive, Section, validated
from mmadfer.config.lora import LoraConfig
from mmadfer.config.model import EncoderConfig, Fbank, Mels, ModelConfig, ValuesConfig
from mmadfer.config.samplers import SAMPLERS
from mmadfer.config.sources import CONFIGS, find_config, read, value
from mmadfer.config.stages import StagesConfig
from mmadfer.config.task import TaskConfig
from mmadfer.config.training import Precision, TrainConfig
from mmadfer.config.windows import WindowConfig
from mmadfer.tasks.spec import TaskSpec
from mmadfer.utils.names import one_form

__all__ = [
    "CONFIGS", "AdaptConfig", "AugmentConfig", "Config", "DataConfig", "EncoderConfig", "LoraConfig", "ModelConfig",
    "Precision", "PrepareConfig", "SoundConfig", "TaskConfig", "TrainConfig", "WindowConfig", "find_config", "load",
    "parse", "value",
]  # fmt: skip


class SoundConfig(Section):
    """How sound becomes the log-mel filter bank that the audio encoder sees."""

    rate: Literal["native"] | Annotated[int, Field(ge=8000, le=96000)] = "native"
    """Sample rate in Hz, or `native`: the file's own rate, as the published weights need."""
    frames: Fbank = 512
    """Filter-bank frames of 10 ms that the model hears at once, from the start of the clip or of a window; shorter
    sound is padded."""
    mels: Mels = 128
    max_seconds: Annotated[float, Field(ge=0, le=3600)] = 60
    """Of each clip's sound that the store holds, for windows; never less than `frames`."""


FPS = 25.0
"""Of a folder of frames, unless somebody says otherwise."""


class PrepareConfig(Section):
    """What preparation does to a clip; kept in the store and in every model trained on it."""

    face_size: Annotated[int, Field(ge=32, le=1024)] = 224
    """Side of the stored face crops in pixels."""
    face_margin: Annotated[float, Field(ge=0, le=2)] = 0.2
    """Width added around the detected box, as a share of its longer side."""
    face_box: Literal["track", "union"] = "track"
    """`track` follows one face through the clip. `union` cuts, frame by frame, around all faces in the frame, and the
    picture's centre where there is none, as the published program did for MAFW; `face_margin` and `detect_every` then
    have no effect."""
    mafw_frame_order: Literal["time", "published"] = "time"
    """`published` takes frames in the order of their numbers as text (0, 1, 10, 11, …, 2, …), without the last of them,
    as the published program read MAFW; the released MAFW weights were trained so."""
    no_sound: Literal["leave_out", "silence"] = "leave_out"
    """What becomes of a clip without a sound track: left out, or kept with a filter bank of padding only (as the
    published program did). Both are told in the report."""
    media: Literal["player", "published"] = "player"
    """How media files are read. `player`: as a player shows them: pixels that are not square are stretched, sound lies
    at its own time, with silence where there is none, and where the first channel carries nothing, the loudest is
    heard. `published`: as the published program read them: pixels as they are stored, and all samples of the first
    channel one after the other from the start on. What differs is told in a note. Windows have their sound at its own
    time under both."""
    max_seconds: Annotated[float, Field(gt=0, le=86400)] = 300
    """A longer clip is left out and named: an emotion clip lasts seconds, and a film would fill the memory."""
    fps: Annotated[float, Field(gt=0, le=1000)] = FPS
    """Images per second of a folder of frames, which does not say so itself; a video's own times hold."""
    detect_every: Positive = 5
    """Faces are detected in every n-th frame; boxes in between are interpolated."""
    jpeg_quality: Annotated[int, Field(ge=50, le=100)] = 95
    landmarks: Literal["none", "face_mesh_v2"] = "none"
    """Find 68 landmarks in every stored frame and keep them in the store, with MediaPipe's Face Mesh V2. The frames are
    the same either way."""
    sound: SoundConfig = SoundConfig()

    @model_serializer(mode="wrap")
    def _without_landmarks(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A store without landmarks, and a model of it, say nothing of them, as before there were any."""
        values: dict[str, Any] = dump(self)
        if values.get("landmarks") == "none":
            del values["landmarks"]
        return values


class AugmentConfig(Section):
    """Training augmentation, drawn once per clip and applied to all its frames, in this order."""

    brightness: tuple[float, float] = (0.5, 1.5)
    area: tuple[float, float] = (0.08, 1.0)
    """Share of the image that the random crop covers."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width by height of the random crop; swapped half of the time."""
    flip: Fraction = 0.5
    spec_time: Annotated[int, Field(ge=0, le=65536)] = 0
    """Filter-bank frames that one time mask hides at most; its length is drawn up to it (Park et al. 2019,
    "SpecAugment")."""
    spec_mels: Annotated[int, Field(ge=0, le=1024)] = 0
    """The same for mel bands."""
    mixup: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Each clip is blended with another training clip, pictures, sound and labels, by a share drawn from
    Beta(mixup, mixup) (Zhang et al. 2018, "mixup"); 0: not."""
    drop_vision: Fraction = 0.0
    """How often a clip is shown without faces (black), so that the model also works where none is found (Neverova et
    al. 2016, "ModDrop")."""
    drop_audio: Fraction = 0.0
    """How often a clip is heard without sound; never together with `drop_vision`."""

    @model_validator(mode="after")
    def _ranges_rise(self) -> "AugmentConfig":
        for name in ("brightness", "area", "ratio"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} is [{low}, {high}]; it must be [low, high] with 0 < low <= high")
        if self.area[1] > 1:
            raise ValueError(f"area is {list(self.area)}; the crop cannot be larger than the image (1.0)")
        if self.drop_vision + self.drop_audio > 1:
            raise ValueError(f"drop_vision {self.drop_vision} and drop_audio {self.drop_audio} add up to more than 1")
        return self


class DataConfig(Section):
    """Which clips, and how they are fed."""

    store: Path | None = None
    """The prepared store (`mmadfer prepare`)."""
    text: Path | None = None
    """The sentences of the clips (`mmadfer textualise`), for `model.text`; by default the file beside the store,
    `clips.cues.jsonl` of `clips.store`."""
    labels: tuple[Annotated[str, AfterValidator(one_form)], ...] | None = None
    """Class order by name; by default the store's own order. Clips with labels that are not named are not used."""
    folds: Annotated[int, Field(gt=0, le=1000)] = 5
    """By default as many as the store's split has; for preparation, how many are made."""
    split: Annotated[Line, Field(pattern=r"^([a-z][a-z0-9_]{0,63}|leave_one_subject_out\(.+\))$")] = "folds"
    """Which of the store's splits is trained and tested on: `folds`, `by_subject` (`folds` of them),
    `leave_one_subject_out`, `leave_one_subject_out(NAME, NAME)` for the folds of these subjects alone, or one of its
    own (`mmadfer doctor STORE` names them)."""
    modalities: Literal["both", "vision", "audio"] = "both"
    """`vision` feeds silence, `audio` feeds black frames; the model stays the same."""
    window: WindowConfig | None = None
    """Look at windows of clips: at one of each in training, at all of them in tests. By default at whole clips."""
    augment: AugmentConfig = AugmentConfig()
    sampler: Annotated[str, AfterValidator(SAMPLERS.check)] = "shuffle"
    """`shuffle`: every clip once an epoch. `balanced`: as many clips in an epoch, as many of each class; clips of rare
    classes come several times, each time with other frames and augmentation (Kang et al. 2020, "Decoupling
    Representation and Classifier for Long-Tailed Recognition"). `tss`: every clip once, in the window that says most of
    its class (`mmadfer.data.loading.stochastic_softmax`). Installed packages add others."""
    sampler_options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Arguments of the sampler, by name. `tss`: `uniform_epochs` (3), `exploration_epochs` (5), `gamma` (1)."""
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the training clips that is not trained on but tested after every epoch, to choose by; the test fold is
    then looked at once, after the last epoch. 0: the test fold after every epoch, as published."""
    test_clips: Annotated[int, Field(ge=1, le=16)] = 1
    """Index sets whose predictions are averaged at evaluation (section 4.2)."""
    test_flips: bool = False
    """Average the predictions of every clip and of its mirror image at evaluation."""
    threads: Literal["auto"] | Annotated[int, Field(gt=0, le=1024)] = "auto"
    """CPU threads for each rank that read, and as many that decode and resize; `auto`: as many as this process was
    granted cores (affinity, SLURM, control groups), divided among the ranks of its node. Changes no result."""
    read_ahead: Annotated[int, Field(gt=0, le=1024)] = 2
    """Batches that are read in advance; `mmadfer.data.loading.loader` says what each takes of memory."""


class Config(Section):
    """A whole configuration."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    prepare: PrepareConfig = PrepareConfig()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    task: TaskConfig = TaskConfig()
    train: TrainConfig = TrainConfig()
    stages: StagesConfig = StagesConfig()
    adapt: AdaptConfig | None = None
    """Adapt to the people of the test fold, without their labels (`mmadfer.config.adaptation`)."""

    @property
    def taught(self) -> bool:
        """Whether anything asks the model of `stages.teacher`: an additional loss, or a task with a step of its own."""
        own_step = self.task.spec.module != TaskSpec.module
        return bool(self.stages.teacher) and (own_step or any(one.uses_teacher for one in self.task.terms.values()))

    @model_validator(mode="after")
    def _sound_fits_model(self) -> "Config":
        prepared = (self.prepare.sound.frames, self.prepare.sound.mels)
        if prepared != self.model.fbank:
            raise ValueError(
                f"prepare.sound makes {list(prepared)} frames and mels, but model.fbank is {list(self.model.fbank)}"
            )
        return self

    @model_validator(mode="after")
    def _modalities_agree(self) -> "Config":
        alone = sorted({self.model.branches, self.data.modalities} - {"both"})
        dropped = [name for name in ("vision", "audio") if getattr(self.data.augment, f"drop_{name}")]
        if len(alone) > 1:
            raise ValueError(
                f"model.branches {self.model.branches} never looks at the {self.data.modalities} that data.modalities "
                "leaves: set one of them to both"
            )
        if alone and dropped:
            raise ValueError(
                f"data.augment.drop_{dropped[0]} is for clips with both inputs, here is only {alone[0]}: set 0"
            )
        return self

    @model_validator(mode="after")
    def _text_fits(self) -> "Config":
        if self.model.text is None and self.data.text is not None:
            raise ValueError("data.text names sentences, but the model reads none: set model.text, or leave it out")
        if self.model.text is not None and self.data.augment.mixup:
            raise ValueError(
                f"data.augment.mixup {self.data.augment.mixup} blends clips, and sentences cannot be: set 0"
            )
        return self

    @model_validator(mode="after")
    def _terms_have_a_teacher(self) -> "Config":
        asking = [name for name, term in self.task.terms.items() if term.uses_teacher]
        if asking and self.stages.teacher is None:
            raise ValueError(
                f"task.{asking[0]} compares the model with a teacher: set stages.teacher to the run that teaches"
            )
        return self

    @model_validator(mode="after")
    def _terms_fit(self) -> "Config":
        for term in self.task.terms.values():
            term.check_with(self)
        return self

    @model_validator(mode="after")
    def _adaptation_fits(self) -> "Config":
        if self.adapt is not None:
            self.adapt.check_with(self)
        return self

    @model_validator(mode="after")
    def _head_fits_task(self) -> "Config":
        head, task = self.model.head, self.task
        if head.per == "step" and task.spec.output == "classes":
            raise ValueError(
                f"model.head.per step gives an output for each step, but task {task.name} takes one a clip"
            )
        if task.spec.output == "classes" and isinstance(head, ValuesConfig):
            raise ValueError(f"task {task.name} needs logits of classes: set model.head: classes, or another task")
        if task.spec.output == "values" and head.name == "classes":
            raise ValueError(f"task {task.name} gives values: set model.head to {{name: values, range: [low, high]}}")
        given = tuple(getattr(head, "range", ()))
        if odd := [name for name, found in task.values.items() if given and found != given]:
            raise ValueError(f"task.values.{odd[0]} is {list(task.values[odd[0]])}, but model.head.range {list(given)}")
        return self

    @model_validator(mode="after")
    def _steps_are_frames(self) -> "Config":
        if self.model.head.per == "clip":
            return self
        if self.model.steps != self.model.frames or "vision" not in self.model.modalities:
            raise ValueError(
                f"model.head.per step needs one step for each of {self.model.frames} frames, but joint "
                f"{self.model.joint.name} of branches {self.model.branches} gives {self.model.steps}: set head.per clip"
            )
        if self.prepare.mafw_frame_order != "time":
            raise ValueError("model.head.per step needs frames in time: set prepare.mafw_frame_order time")
        return self

    @model_validator(mode="after")
    def _windows_fit(self) -> "Config":
        window, data = self.data.window, self.data
        if window is None:
            return self
        if window.hop_of(self.model.frames) > (span := window.span(self.model.frames)):
            raise ValueError(
                f"data.window.hop is {window.hop}, but a window spans {span} frames ({self.model.frames} at a stride "
                f"of {window.stride}): frames between two windows would never be tested, so set {span} or less"
            )
        if self.model.branches == "audio":
            raise ValueError("data.window counts frames, which model.branches audio never sees: leave it out")
        if data.test_clips > 1:
            raise ValueError(f"data.test_clips is {data.test_clips}, but data.window says which frames are seen: set 1")
        if window.pool == "softmax" and self.task.spec.output != "classes":
            raise ValueError(f"data.window.pool softmax is of classes, but task {self.task.name} gives values: mean")
        return self

    def to_yaml(self) -> str:
        """The whole configuration, defaults included, as YAML that `load` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration by path, or by name from the shipped ones, and apply `key.path=value` overrides.

    Raises:
        ConfigError: no such file, broken YAML, unknown key, or a value that breaks a rule.
    """
    path = find_config(source)
    sources = read(path, overrides)
    return validated(Config, sources.tree, str(path), sources.place)


def parse(tree: dict[str, Any], where: str) -> Config:
    """Validate a tree of values; `where` is named in errors."""
    return validated(Config, tree, where)
