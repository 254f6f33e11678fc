"""What a trained model needs to be used rightly: written once, carried by every form of the model."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from mmadfer.config.base import Fraction, Line, Positive, Section, validated
from mmadfer.config.model import Modality
from mmadfer.config.parts import DESCRIBED
from mmadfer.config.schema import Config, EncoderConfig, ModelConfig, Precision, PrepareConfig
from mmadfer.config.task import Number
from mmadfer.config.windows import WindowConfig
from mmadfer.contract.facts import TEACHERS, AdaptedFacts, Looks, OriginFacts, TeacherFacts, TextFacts
from mmadfer.contract.licences import encoder_licence
from mmadfer.errors import ConfigError, FileError, WeightsError
from mmadfer.tasks.spec import Kind
from mmadfer.utils.files import parse_json

_MAX_CONTRACT_BYTES = 1 << 20
"""Bytes of a contract; most have some thousand."""
Hertz = Annotated[int, Field(ge=1, le=10_000_000)]
KEY = "mmadfer.contract"
"""Name of the metadata entry that holds the contract (safetensors, ONNX)."""

_Count = Annotated[int, Field(ge=1, le=65536)]
BatchRange = tuple[_Count, _Count, _Count]
"""Fewest, usual and most clips at once."""
BATCH_RANGE: BatchRange = (1, 8, 32)
"""Where nothing else is said."""

LICENCES = {"mmadfer": "Apache-2.0"}
_ENCODERS = {"vision": "MAE-Face", "audio": "AudioMAE"}
"""The usual encoder of a modality."""
UNKNOWN_LICENCE = "see the model card of its weights"
"""Of encoders of timm's, whose weights come from many."""


class Contract(Section):
    """The promises of a model file: labels or values in order, input sizes, preprocessing and origin."""

    labels: Annotated[tuple[Line, ...], Field(max_length=100_000)] = ()
    """Names of classes, in the order of the logits; none where the output is values."""
    output: Kind = "classes"
    """What the model gives: logits of classes, or values."""
    values: Annotated[dict[Line, tuple[Number, Number]], Field(max_length=100_000)] = Field(default_factory=dict)
    """The values by name, in the order of the output, each with its lowest and highest number; none of classes."""
    model: ModelConfig
    prepare: PrepareConfig
    data_set: Line
    task: Line = "classification"
    """What it was trained for."""
    target: Line = "label"
    """The target of its store that it has learnt."""
    modalities: Literal["both", "vision", "audio"] = "both"
    """What it was trained on: `vision` is fed silence, `audio` black frames."""
    window: WindowConfig | None = None
    """How a video is looked at in windows, and how they are put together; None: it is looked at as one clip."""
    pooled_windows: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Of an exported graph: how many windows of a clip enter it together, evenly spaced, of which it gives the clip's
    logits (`--windows`). None: one window, or one clip, a row."""
    sound_rates: tuple[Hertz, ...] = ()
    """Rates in Hz, rising, at which the sound of its store's clips was heard; empty where they are not known. Under
    `prepare.sound.rate: native`, the model knows no other."""
    cropped: bool = False
    """Most of its store's frames were taken as the data set's owners had cropped them; else mmadfer found the faces."""
    store: Line = ""
    """Fingerprint of the store that it was trained on; empty where it is not known."""
    split: Line = "folds"
    """The split of its store that `fold` is one of."""
    folds: Positive | None = None
    """How many folds that split has; None where it is not known."""
    fold: Positive | None = None
    """The test fold: the model has seen the clips of all others."""
    epoch: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Finished epochs."""
    epochs: Positive | None = None
    """Epochs that training was to have."""
    precision: Precision = "fp32"
    """Arithmetic of training and of `metrics`; that of an exported graph is `arithmetic`."""
    input: Literal["fbank", "waveform"] = "fbank"
    """What an exported graph hears: the normalised filter bank, or samples, of which it makes the filter bank. A model
    of frames alone (`model.branches: vision`) has neither, and one of sound alone no frames."""
    waveform_rate: Hertz | None = None
    """Samples per second of the input `waveform`: the graph takes no other. None where the input is `fbank`."""
    arithmetic: Literal["fp32", "fp16", "bf16", "int8", "fp8"] = "fp32"
    """What an exported graph computes in where it can; its inputs and outputs are the same for all."""
    batch: BatchRange | None = None
    """Of an exported graph; None where any number will do."""
    priors: tuple[Fraction, ...] = ()
    """Share of each label among the training clips, as often as training takes them: equal ones under `data.sampler:
    balanced`; empty where it is not known. What logits are adjusted by (`mmadfer.tasks.logit_adjustment`)."""
    temperature: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    """What logits are divided by for calibrated probabilities (`mmadfer.tasks.calibration`), fitted on clips for
    validation; None, and not written: there were none, or they do not tell it."""
    temperature_looks: Looks | None = None
    """The looks at each of those clips; None, and not written: one look, not mirrored."""
    missing: tuple[Modality, ...] = ()
    """What a clip may lack: training left it out of some (`data.augment.drop_vision`, `drop_audio`)."""
    metrics: dict[Line, float] = Field(default_factory=dict)
    """Scores of these very weights on the test fold, by the task's names; empty in the middle of an epoch. With
    `data.validation`, also on those clips (`validation_…`), and on the test fold after the last epoch only."""
    encoder_hash: Line = ""
    """SHA-256 over the frozen encoder tensors."""
    weights_hash: Line = ""
    """SHA-256 over the trainable tensors."""
    licences: dict[Line, Line] = LICENCES
    """Of the code, and of the encoders' weights where they come from a file; a student's name its teacher's, too."""
    teacher: TeacherFacts | None = None
    """Whose student it is, or the model that it began with (`stages`); None, and not written: nobody's."""
    origins: tuple[OriginFacts, ...] = ()
    """What else binds it: data sets and licences of models whose weights it, its teacher or one before them began with,
    and data sets of their teachers. Only what it does not name itself; empty, and not written: nothing."""
    text: TextFacts | None = None
    """Of a model that reads sentences (`model.text`); None, and not written: it reads none."""
    adapted: AdaptedFacts | None = None
    """Whom it, or the model that it began with, was adapted to; None, and not written: nobody."""
    plug_ins: dict[Line, Line] = Field(default_factory=dict)
    """Packages whose parts the model is made of, by what they bring: `model.fusion: gated` -> `gates 1.5`."""
    version: Line = ""
    """The mmadfer version that wrote it."""

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        twice = [label for label, count in Counter(self.labels).items() if count > 1]
        if twice:
            raise ValueError(f"labels name {', '.join(map(repr, twice))} twice")
        if bool(self.labels) == bool(self.values) or (self.output == "values") != bool(self.values):
            raise ValueError(
                f"output {self.output} does not go with {len(self.labels)} labels and {len(self.values)} values"
            )
        if self.per_step and (self.output != "values" or "vision" not in self.model.modalities):
            raise ValueError("model.head.per step is for values of frames: it needs output values, and frames")
        if self.per_step and self.model.steps != self.model.frames:
            raise ValueError(f"the model gives {self.model.steps} steps of {self.model.frames} frames")
        if self.temperature is not None and not self.labels:
            raise ValueError("a temperature is of logits, and the model gives values")
        if self.temperature_looks is not None and self.temperature is None:
            raise ValueError("temperature_looks needs temperature, which they are those of")
        if len(self.priors) not in (0, len(self.labels)):
            raise ValueError(f"there are {len(self.labels)} labels, but {len(self.priors)} priors")
        return self

    @model_serializer(mode="wrap")
    def _without_nobody(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """That of a model that nobody taught, that began with no other, reads nothing and was adapted to nobody is
        written as before there were any of these."""
        told: dict[str, Any] = write(self)
        later = ("teacher", "origins", "text", "adapted", "temperature", "temperature_looks")
        return {key: value for key, value in told.items() if key not in later or value not in (None, (), [])}

    @model_validator(mode="after")
    def _heard_and_fed_agree(self) -> Self:
        if (self.input == "waveform") != (self.waveform_rate is not None):
            raise ValueError(f"input {self.input} does not go with waveform_rate {self.waveform_rate}")
        if self.input == "waveform" and "audio" not in self.model.modalities:
            raise ValueError("a model of frames alone has no input waveform")
        if self.window is not None and "vision" not in self.model.modalities:
            raise ValueError("windows are counted in frames, and a model of sound alone sees none")
        if self.window is None and self.pooled_windows:
            raise ValueError(f"pooled_windows {self.pooled_windows} needs window, which says what they are")
        if self.batch is not None and list(self.batch) != sorted(self.batch):
            raise ValueError(f"batch {list(self.batch)} does not rise")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Of the outputs, in order: labels of classes, or names of values."""
        return tuple(self.values) if self.output == "values" else self.labels

    @property
    def per_step(self) -> bool:
        """Whether the model gives values of each frame that it is shown, and not of the clip."""
        return self.model.head.per == "step"

    @property
    def samples(self) -> int:
        """Length of the input `waveform`: the samples of all its filter-bank frames, since later ones change nothing.

        Raises:
            ValueError: the input is not `waveform`.
        """
        if self.waveform_rate is None:
            raise ValueError("a graph whose input is `fbank` takes no samples")
        return samples_of_frames(self.waveform_rate, self.model.fbank[0])

    @property
    def unfinished(self) -> bool:
        """Whether training has epochs left."""
        return self.epoch is not None and self.epochs is not None and self.epoch < self.epochs

    def dumps(self) -> str:
        """One line of JSON."""
        return self.model_dump_json()


def refuse_text(contract: Contract, what: str) -> None:
    """Raise a ConfigError where a model reads sentences, which `what` cannot give it."""
    if contract.model.text is not None:
        raise ConfigError(
            f"{what} is not there for models that read sentences (model.text): take one without, or predict with "
            "PyTorch or ONNX Runtime"
        )


def temperature_of(contract: Contract, path: Path | str, adjust: float) -> float:
    """What the logits of the model in `path` are divided by to be calibrated.

    Raises:
        ConfigError: they are to be adjusted, too: the temperature is of logits as trained.
        WeightsError: it carries none.
    """
    if adjust:
        raise ConfigError("--calibrated is for logits as trained, and --adjust changes them: leave one out")
    if contract.temperature is None:
        raise WeightsError(
            f"{path} carries no temperature, which is fitted on clips for validation when training ends: leave "
            "--calibrated out; or train with data.validation=0.1 (or a split that has such clips), and export that "
            "run. Files of earlier versions have none"
        )
    return contract.temperature


def other_looks(contract: Contract, clips: int, flips: bool) -> str:
    """What to tell where clips are looked at otherwise than those that the temperature is of; "" if there is nothing.

    The mean over several looks is less sure than one look, so that another temperature would be the best.
    """
    asked, fitted = Looks(clips=clips, flips=flips), contract.temperature_looks or Looks()
    if asked == fitted:
        return ""
    options = f"--clips {fitted.clips}{' --flips' if fitted.flips else ''}"
    return f"calibrated by a temperature of other looks ({fitted}; here {asked}): it holds with {options}"


def check_batch(batch: BatchRange) -> None:
    """Raises ConfigError where the numbers are no range of clips at once."""
    if not 1 <= batch[0] <= batch[1] <= batch[2]:
        raise ConfigError(f"--batch {' '.join(map(str, batch))}: give the fewest, usual and most clips, rising from 1")


def used(config: Config) -> Literal["both", "vision", "audio"]:
    """The inputs that a model of this configuration makes use of."""
    branches = config.model.branches
    return config.data.modalities if branches == "both" or branches == "text" else branches  # noqa: PLR1714, for mypy


def left_out(config: Config) -> tuple[Modality, ...]:
    """The inputs that training with this configuration leaves out of some clips."""
    augment = config.data.augment
    often: dict[Modality, float] = {"vision": augment.drop_vision, "audio": augment.drop_audio}
    return tuple(name for name, share in often.items() if share)


def licences(model: ModelConfig) -> dict[str, str]:
    """The licences that bind a model of this configuration; encoders drawn at random have none."""
    found = dict(LICENCES)
    for modality, usual in _ENCODERS.items():
        encoder: EncoderConfig = getattr(model, modality)
        if encoder.weights and modality in model.modalities:
            name = f"timm {encoder.timm}" if encoder.timm else usual
            found[name] = UNKNOWN_LICENCE if encoder.timm else encoder_licence(usual)
    if model.text is not None and model.text.folder is not None:
        found["text encoder"] = UNKNOWN_LICENCE
    return found


def encoder_licences() -> dict[str, str]:
    """Those of the usual encoders, by their names."""
    return {name: encoder_licence(name) for name in _ENCODERS.values()}


def teacher_facts(name: str, contract: Contract) -> TeacherFacts:
    """What a student's contract says of its teacher, a run of the configuration `name`."""
    return TeacherFacts(
        name=name,
        fold=contract.fold,
        data_set=contract.data_set,
        modalities=contract.modalities,
        labels=contract.names,
        encoder_hash=contract.encoder_hash,
        weights_hash=contract.weights_hash,
    )


def inherited(own: dict[str, str], theirs: dict[str, str]) -> dict[str, str]:
    """The licences of a student: its own, and those of its teacher that it has not itself, named as the teacher's."""
    foreign = {name: licence for name, licence in theirs.items() if own.get(name) != licence}
    return own | {name.removesuffix(TEACHERS) + TEACHERS: licence for name, licence in foreign.items()}


def origins_of(own: Contract, begun: Contract | None, teacher: Contract | None) -> tuple[OriginFacts, ...]:
    """What binds a model because of the one that it began with and the one that taught it, and those before them.

    Args:
        own: its contract, with its teacher.
        begun: of the model whose weights it began with.
        teacher: of the model that taught it.
    """
    found = [] if begun is None else [OriginFacts(data_set=begun.data_set, licences=begun.licences)]
    for source in filter(None, (begun, teacher)):
        found += source.origins
        found += [OriginFacts(data_set=source.teacher.data_set)] if source.teacher else []
    named = {own.data_set, own.teacher.data_set if own.teacher else own.data_set}
    new = list[OriginFacts]()
    for one in found:
        said = one.data_set in named and inherited(own.licences, one.licences) == own.licences
        new += [] if said or one in new else [one]
    return tuple(new)


def loads(text: str | bytes, where: Path | str = "it") -> Contract:
    """Read what `Contract.dumps` wrote; `where` is named in errors.

    Raises:
        WeightsError: it is damaged, breaks a rule, or is of a version that is not understood.
    """
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    try:
        if len(data) > _MAX_CONTRACT_BYTES:
            raise FileError(f"a contract of {len(data)} bytes is longer than any")
        return validated(Contract, parse_json(data, where), f"the contract of {where}", context=DESCRIBED)
    except (ConfigError, FileError) as error:
        raise WeightsError(
            f"{where} carries a contract that this version of mmadfer does not understand, so its labels and "
            f"preprocessing are unknown: export it anew, or give another file\n{error}"
        ) from error


def samples_of_frames(rate: int, frames: int) -> int:
    """Samples that `frames` filter-bank frames span, 25 ms every 10 ms, at `rate` Hz, rounded as in media.fbank."""
    return int(rate * 25.0 * 0.001) + (frames - 1) * int(rate * 10.0 * 0.001)


def hertz(rates: Iterable[int]) -> str:
    """Rates for a person: `44100, 48000 Hz`; nothing for none."""
    listed = ", ".join(map(str, rates))
    return f"{listed} Hz" if listed else ""
