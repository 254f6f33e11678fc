"""A model card: what a model was made of and for, how good it is, what it may be used for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmadfer.contract import Contract
from mmadfer.contract.description import describe_contract
from mmadfer.contract.licences import data_set_facts
from mmadfer.contract.parts import Part, hub_licence, parts_of
from mmadfer.report.cards.limits import limits_of
from mmadfer.report.cards.markdown import render_card
from mmadfer.report.summary import RESULT, STD_OVER_FOLDS, RunReport
from mmadfer.tasks.tables import TASKS, spec_of
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
_NOT_KNOWN = "not known"


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
        results=_of_run(report) if report and report.usable else _of_fold(contract),
        recalls=_recalls(report),
        values=contract.output == "values",
        calibration=[],
        groups=_groups(report),
        parity=list(_parity(source.parity)),
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
        titles = _titles(contract)
        found, where = {name: contract.metrics.get(name) for name in titles}, f"test fold {contract.fold or _NOT_KNOWN}"
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


def _titles(contract: Contract) -> dict[str, str]:
    known = spec_of(contract.task).scores if contract.task in TASKS.names() else ()
    return {score.name: score.title for score in known}


def _what(contract: Contract) -> str:
    outputs = (
        f"values of {', '.join(contract.values)}" if contract.values else f"one of {len(contract.labels)} emotions"
    )
    inputs = {"vision": "a face", "audio": "a voice"}
    seen = " and ".join(inputs[name] for name in contract.model.modalities) or "a sentence"
    return f"MMA-DFER, trained with mmadfer {contract.version or VERSION}: from {seen} in a video to {outputs}."


def _facts(contract: Contract) -> dict[str, str]:
    told = describe_contract(contract)
    scores = set(_titles(contract).values())
    facts = {key: str(value) for key, value in told.items() if key not in scores and key not in ("data set", "fold")}
    hashes = {"hash of the encoders": contract.encoder_hash, "hash of the trained weights": contract.weights_hash}
    return facts | {name: value or _NOT_KNOWN for name, value in hashes.items()}


def _data(source: CardSource) -> dict[str, str]:
    contract, report = source.contract, source.report
    tested = str(report.clips) if report and report.usable else _NOT_KNOWN
    return {
        "data set": contract.data_set,
        "fingerprint of its store": contract.store or _NOT_KNOWN,
        "split": f"{contract.split}; number of folds: {contract.folds or _NOT_KNOWN}",
        "test fold of this model": str(contract.fold or _NOT_KNOWN),
        "test clips of all folds": tested,
        "share of each class in training": _priors(contract),
    }


def _priors(contract: Contract) -> str:
    if not contract.priors:
        return _NOT_KNOWN
    return ", ".join(f"{label} {share:.1%}" for label, share in zip(contract.labels, contract.priors, strict=True))


def _protocol(source: CardSource) -> list[str]:
    contract, report = source.contract, source.report
    lines = [f"The result is the {RESULT}: no epoch was chosen on test clips."]
    if report is None:
        return [*lines, f"Epochs: {contract.epochs or _NOT_KNOWN}. Other settings of training are not known."]
    train = report.config.train
    lines.append(f"{train.epochs} epochs, batch {train.batch_size}, seed {train.seed}, {train.precision}.")
    lines.append(f"Means are over {len(report.usable)} of {len(report.folds)} folds, each with its {STD_OVER_FOLDS}.")
    return lines + [f"Fold {fold.fold} is {fold.state}: left out." for fold in report.folds if not fold.usable]


def _of_run(report: RunReport) -> dict[str, Any]:
    """The table of all folds, with the mean and its spread."""
    scores = report.spec.scores
    rows = [[str(one.fold), str(one.clips), *(s.number(one.scores[s.name]) for s in scores)] for one in report.usable]
    means = [score.number(report.mean(score.name)) + score.spread(report.std(score.name)) for score in scores]
    headings = ["fold", "test clips", *(score.heading for score in scores)]
    rows.append(["mean ± std", str(report.clips), *means])
    return {"caption": f"{RESULT.capitalize()}.", "headings": headings, "rows": rows}


def _of_fold(contract: Contract) -> dict[str, Any] | None:
    """The scores that the contract carries, of this fold alone."""
    titles = _titles(contract)
    told = describe_contract(contract)
    row = [str(told[title]) for title in titles.values() if title in told]
    if not row:
        return None
    headings = ["fold", *(title for title in titles.values() if title in told)]
    caption = "Of this fold alone; the scores of the other folds, and their spread, are not known."
    return {"caption": caption, "headings": headings, "rows": [[str(contract.fold or _NOT_KNOWN), *row]]}


def _recalls(report: RunReport | None) -> list[tuple[str, str, str]]:
    if report is None or report.confusion is None:
        return []
    shown = ["no test clips" if value is None else f"{100 * value:.2f}" for value in report.recall]
    return list(zip(report.labels, shown, map(str, report.confusion.sum(axis=1).tolist()), strict=True))


def _groups(report: RunReport | None) -> list[str]:
    """How far the people of the test clips are apart, where the store names them; of other groups nothing is known."""
    table = report.subjects if report else None
    if table is None or len(table.names) < 2:
        return []
    score, column = table.spec.scores[0], table.columns[0]
    found = table.of(column, score.name)
    shown = {word: score.shown(float(number)) for word, number in _spread(found).items()}
    told = ", ".join(f"{word} {number}" for word, number in shown.items())
    return [
        f"{score.title} of each of {len(table.names)} people: {told}.",
        "Of groups by age, sex, skin or language nothing is known.",
    ]


def _spread(found: np.ndarray) -> dict[str, float]:
    return {"mean": found.mean(), "lowest": found.min(), "highest": found.max()}


def _parity(reports: Iterable[Mapping[str, Any]]) -> Iterable[list[str]]:
    for report in reports:
        for form in report.get("forms", ()):
            apart = form.get("logit_difference", {})
            agreement = apart.get("label_agreement")
            same = _NOT_KNOWN if agreement is None else f"{agreement:.2%}"
            most = _NOT_KNOWN if apart.get("max") is None else f"{apart['max']:.2g}"
            clips = f"{report.get('clips')} of {report.get('of', _NOT_KNOWN)}"
            yield [str(form.get("name")), str(form.get("arithmetic")), clips, most, same, str(form.get("verdict"))]


def _limits(contract: Contract) -> list[str]:
    lines = [
        f"Trained on {contract.data_set}. {line}" if k == 0 else line
        for k, line in enumerate(limits_of(contract.data_set))
    ]
    if contract.teacher is not None:
        lines.append(f"It is a student of a model that was trained on {contract.teacher.data_set}.")
    if contract.adapted is not None:
        lines.append(
            "It was adapted to single people, and may be worse for everybody else; the weights are personal data."
        )
    return lines
