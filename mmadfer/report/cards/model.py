"""A model card: what a model was made of and for, how good it is, what it may be used for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmadfer.contract import Contract
from mmadfer.contract.description import describe_contract
from mmadfer.contract.licences import NOT_KNOWN, data_set_facts
from mmadfer.contract.parts import Part, hub_licence, parts_of
from mmadfer.report.cards import numbers
from mmadfer.report.cards.limits import limits_of
from mmadfer.report.cards.markdown import render_card
from mmadfer.report.summary import RESULT, STD_OVER_FOLDS, RunReport
from mmadfer.version import VERSION

TAGS = [
    "emotion-recognition",
    "audio-visual",
    "facial-expression-recognition",
    "speech-emotion-recognition",
    "mma-dfer",
]
OTHER = "other"
"""The hub's word for a licence that has no name there."""


@dataclass(frozen=True)
class CardSource:
    """What a model card is made of; what is not there, the card calls not known."""

    name: str
    """Of the model, or of the run."""
    contract: Contract
    report: RunReport | None = None
    """Of the run that it comes from."""
    parity: Sequence[Mapping[str, Any]] = ()
    """Reports of comparisons with PyTorch (`NAME.parity.json`)."""
    stated: Mapping[str, str] = field(default_factory=dict)
    """Licences that its exporter states, by part."""

    address: str = ""
    """On the hub (`hub:USER/NAME`), of a model that is there."""

    @property
    def parts(self) -> list[Part]:
        """With their licences."""
        return parts_of(self.contract, self.stated)


def model_card(source: CardSource) -> str:
    """The card as text: YAML that the Hugging Face hub reads, then Markdown."""
    contract, report = source.contract, source.report
    return render_card(
        "model_card.md",
        _metadata(source),
        title=source.name,
        what=_what(contract),
        address=source.address,
        facts=_facts(contract),
        data=_data(source),
        protocol=_protocol(source),
        results=numbers.of_run(report) if report and report.usable else numbers.of_fold(contract),
        recalls=numbers.recalls(report),
        values=contract.output == "values",
        calibration=numbers.calibration(report, contract),
        groups=numbers.groups(report),
        parity=numbers.parity(source.parity),
        limits=_limits(contract),
        **licence_values(source.parts),
    )


def licence_values(parts: Sequence[Part]) -> dict[str, Any]:
    """What `card_licences.md` names."""
    binding = ", ".join(part.name for part in parts if not part.commercial)
    return {"parts": parts, "commercial": not binding, "binding": binding}


def licence_metadata(name: str | None) -> dict[str, str]:
    """`license` for the hub, which knows some by `name`."""
    if name:
        return {"license": name}
    return {"license": OTHER, "license_name": "licences-of-its-parts"}


def _metadata(source: CardSource) -> dict[str, Any]:
    name = source.contract.data_set
    return {
        **licence_metadata(hub_licence(source.parts)),
        "library_name": "mmadfer",
        "pipeline_tag": "video-classification",
        "tags": [*TAGS, *([name] if data_set_facts(name) else [])],
        "model-index": _index(source),
    }


def _index(source: CardSource) -> list[dict[str, Any]]:
    contract, report = source.contract, source.report
    if report is not None and report.usable:
        titles = {score.name: score.title for score in report.spec.scores}
        found, where = (
            {name: report.mean(name) for name in report.spec.names},
            f"mean of {len(report.usable)} test folds",
        )
    else:
        titles = numbers.titles(contract)
        found, where = {name: contract.metrics.get(name) for name in titles}, f"test fold {contract.fold or NOT_KNOWN}"
    told = [
        {"type": name, "name": titles[name], "value": round(value, 6)}
        for name, value in found.items()
        if value is not None
    ]
    if not told:
        return []
    data = {"name": contract.data_set, "type": contract.data_set, "split": where}
    return [
        {"name": source.name, "results": [{"task": {"type": "video-classification"}, "dataset": data, "metrics": told}]}
    ]


def _what(contract: Contract) -> str:
    outputs = (
        f"values of {', '.join(contract.values)}" if contract.values else f"one of {len(contract.labels)} emotions"
    )
    inputs = {"vision": "a face", "audio": "a voice"}
    seen = " and ".join(inputs[name] for name in contract.model.modalities) or "a sentence"
    return f"MMA-DFER, trained with mmadfer {contract.version or VERSION}: from {seen} in a video to {outputs}."


def _facts(contract: Contract) -> dict[str, str]:
    told = describe_contract(contract)
    scores = set(numbers.titles(contract).values())
    facts = {key: str(value) for key, value in told.items() if key not in scores and key not in ("data set", "fold")}
    hashes = {"hash of the encoders": contract.encoder_hash, "hash of the trained weights": contract.weights_hash}
    return facts | {name: value or NOT_KNOWN for name, value in hashes.items()}


def _data(source: CardSource) -> dict[str, str]:
    contract, report = source.contract, source.report
    tested = str(report.clips) if report and report.usable else NOT_KNOWN
    return {
        "data set": contract.data_set,
        "fingerprint of its store": contract.store or NOT_KNOWN,
        "split": f"{contract.split}; number of folds: {contract.folds or NOT_KNOWN}",
        "test fold of this model": str(contract.fold or NOT_KNOWN),
        "test clips of all folds": tested,
        "share of each class in training": _priors(contract),
    }


def _priors(contract: Contract) -> str:
    if not contract.priors:
        return NOT_KNOWN
    return ", ".join(f"{label} {share:.1%}" for label, share in zip(contract.labels, contract.priors, strict=True))


def _protocol(source: CardSource) -> list[str]:
    contract, report = source.contract, source.report
    lines = [f"The result is the {RESULT}: no epoch was chosen on test clips."]
    if report is None:
        return [*lines, f"Epochs: {contract.epochs or NOT_KNOWN}. Other settings of training are not known."]
    train = report.config.train
    lines.append(f"{train.epochs} epochs, batch {train.batch_size}, seed {train.seed}, {train.precision}.")
    lines.append(f"Means are over {len(report.usable)} of {len(report.folds)} folds, each with its {STD_OVER_FOLDS}.")
    return lines + [f"Fold {fold.fold} is {fold.state}: left out." for fold in report.folds if not fold.usable]


def _limits(contract: Contract) -> list[str]:
    lines = [
        f"Trained on {contract.data_set}. {line}" if k == 0 else line
        for k, line in enumerate(limits_of(contract.data_set))
    ]
    if contract.teacher is not None:
        lines.append(f"It is a student of a model that was trained on {contract.teacher.data_set}.")
    before = sorted({one.data_set for one in contract.origins} - {contract.data_set})
    if before:
        lines.append(f"It comes from models that were trained on {', '.join(before)}.")
    if contract.adapted is not None:
        lines.append(
            "It was adapted to single people, and may be worse for everybody else; the weights are personal data."
        )
    return lines
