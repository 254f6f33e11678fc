"""A contract for a person."""

from typing import Any

from mmadfer.contract import Contract, hertz
from mmadfer.tasks.tables import TASKS, of_events, spec_of


def describe_contract(contract: Contract) -> dict[str, Any]:
    """The contract for a person: flat, without the sizes of layers."""
    return {
        **_named(contract),
        "data set": contract.data_set,
        "fold": contract.fold,
        "image size": contract.model.image_size,
        "sound rate": _rate(contract),
        "input": " and ".join(_inputs(contract)),
        "arithmetic": contract.arithmetic,
        **_windows(contract),
        **_text(contract),
        **_student(contract),
        **_adapted(contract),
        **_temperature(contract),
        **_scores(contract),
    }


def _temperature(contract: Contract) -> dict[str, str]:
    if not contract.temperature:
        return {}
    looks = contract.temperature_looks
    return {"temperature": f"{contract.temperature:.3f}" + (f" ({looks})" if looks else "")}


def _text(contract: Contract) -> dict[str, str]:
    text, facts = contract.model.text, contract.text
    if text is None or facts is None:
        return {}
    parts = " and ".join(facts.use) or "own cues"
    told = f"{parts} (template {facts.template}), {text.tokens} tokens (tokenizer {facts.tokenizer[:12]})"
    return {"sentences": told}


def _student(contract: Contract) -> dict[str, str]:
    teacher = contract.teacher
    if teacher is None:
        return {}
    fold = f", fold {teacher.fold}" if teacher.fold else ""
    return {"student of": f"{teacher.name}{fold} ({teacher.modalities}; weights {teacher.weights_hash[:12]})"}


def _adapted(contract: Contract) -> dict[str, str]:
    facts = contract.adapted
    if facts is None:
        return {}
    how = "with" if facts.labels == "given" else "without"
    people = ", ".join(facts.people)
    return {"adapted to": f"{people} ({facts.clips} clips {how} labels; from {facts.name}); not meant for others"}


def _named(contract: Contract) -> dict[str, str]:
    if contract.output == "values":
        values = ", ".join(f"{name} ({low:g} to {high:g})" for name, (low, high) in contract.values.items())
        return {"values": f"{values}, of each of {contract.model.steps} frames" if contract.per_step else values}
    return {"labels": ", ".join(contract.labels)}


def _windows(contract: Contract) -> dict[str, str]:
    window = contract.window
    if window is None:
        return {}
    hop = window.hop_of(contract.model.frames)
    pool = f"softmax, gamma {window.gamma:g}" if window.pool == "softmax" else "mean of probabilities"
    often = f"{contract.pooled_windows} of a clip" if contract.pooled_windows else f"every {hop} frames"
    return {"windows": f"{contract.model.frames} frames at a stride of {window.stride}, {often}: {pool}"}


def _scores(contract: Contract) -> dict[str, str]:
    """As the task calls and shows them; as they are, where no package here has the task."""
    known = of_events(spec_of(contract.task)) if contract.task in TASKS.names() else []
    titles = {key: (title, score.shown) for key, title, score in known}
    told = {}
    for key, value in contract.metrics.items():
        title, shown = titles.get(key, (key, "{:.4g}".format))
        told[title] = shown(value)
    return told


def _inputs(contract: Contract) -> list[str]:
    names = {"vision": "frames", "audio": contract.input}
    read = ["tokens"] if contract.model.text else []
    return [*(names[modality] for modality in contract.model.modalities), *read]


def _rate(contract: Contract) -> str:
    if contract.waveform_rate:
        return hertz([contract.waveform_rate])
    rate, known = contract.prepare.sound.rate, hertz(contract.sound_rates)
    return f"{rate} ({known})" if rate == "native" and known else str(rate)
