"""A run of classes with predictions of every clip, and the store that it was tested on."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmadfer.config import schema as configs
from mmadfer.config.schema import PrepareConfig
from mmadfer.data.media.image import encode_jpeg
from mmadfer.data.store.store import Clip, ClipRecord, Header, write_store
from mmadfer.run import directory as runs
from mmadfer.tasks import metrics

LABELS = ("glad", "sad <b>", "calm")
SIDE = 48


@dataclass(frozen=True)
class Made:
    """What was written, to compute with again: of each fold ids, truth (N,), and probabilities (N, 3) as written."""

    run: Path
    ids: dict[int, list[str]]
    truth: dict[int, np.ndarray]
    told: dict[int, np.ndarray]


def labelled(fold: int, clips: int) -> tuple[list[str], np.ndarray]:
    return [f"f{fold}-{k:03d}" for k in range(clips)], np.arange(clips) % len(LABELS)


def make_run(
    folder: Path, store: Path | None, folds: int = 2, clips: int = 60, seed: int = 0, temperature: float | None = 2.0
) -> Made:
    """A finished run whose probabilities are drawn, too sure by about the `temperature`; None: it had no validation."""
    names = [
        f"data.folds={folds}",
        "train.epochs=2",
        f"train.seed={seed + 1}",
        f"data.validation={0.1 * bool(temperature)}",
    ]
    run = runs.create(folder, configs.load("dfew_160", [*names, *([f"data.store={store}"] if store else [])]))
    made = Made(run.path, {}, {}, {})
    for fold in range(1, folds + 1):
        ids, truth = labelled(fold, clips)
        rng = np.random.default_rng([seed, fold])
        logits = 2.5 * (rng.normal(0, 1, (clips, len(LABELS))) + 1.1 * np.eye(len(LABELS))[truth])
        powers = np.exp(logits - logits.max(1, keepdims=True))
        told = np.round(powers / powers.sum(1, keepdims=True), 6)
        made.ids[fold], made.truth[fold], made.told[fold] = ids, truth, told
        write_fold(run.fold(fold), fold, ids, truth, told, temperature)
    return made


def write_fold(
    folder: Path, fold: int, ids: list[str], truth: np.ndarray, told: np.ndarray, temperature: float | None
) -> None:
    folder.mkdir(exist_ok=True)
    said = told.argmax(1)
    table = metrics.confusion(truth, said, len(LABELS))
    scores = {"uar": metrics.uar(table), "war": metrics.war(table)}
    found = {"fold": fold, "epoch": 2, "epochs": 2, **scores, "best": {"epoch": 1, **scores}, "seconds": 5400.0}
    if temperature:
        found |= {"validation": {"epoch": 2, "clips": 9, **scores}, "temperature": {"value": temperature, "clips": 9}}
    found |= {"confusion": table.tolist(), "labels": list(LABELS), "finished": True}
    (folder / "result.json").write_text(json.dumps(found))
    events = [{"event": "begin", "device": "cpu", "ranks": 2}]
    events += [{"event": "epoch", "epoch": e, "loss": 1 / e, **scores} for e in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    rows = [
        ",".join([clip, LABELS[t], LABELS[s], *(f"{p:.6f}" for p in row)])
        for clip, t, s, row in zip(ids, truth, said, told, strict=True)
    ]
    head = ",".join(["id", "label", "predicted", *(f"p_{label}" for label in LABELS)])
    (folder / "predictions.csv").write_text("\n".join([head, *rows]) + "\n")


def make_store(path: Path, folds: int = 2, clips: int = 60) -> Path:
    """Every clip with a coloured face, a subject, and the columns sex, light and band (a group of three clips)."""
    settings = PrepareConfig.model_validate({"face_size": SIDE})
    header = Header("made", LABELS, settings, path.parent / "media")
    made = [
        _clip(fold, k, name, LABELS[t])
        for fold in range(1, folds + 1)
        for k, (name, t) in enumerate(zip(*labelled(fold, clips), strict=True))
    ]
    write_store(path, header, made)
    return path


def group_of(fold: int, k: int) -> dict[str, str]:
    rng = np.random.default_rng([9, fold, k])
    found = {
        "sex": "fm"[rng.integers(2)],
        "light": ("dark", "day", "dusk")[rng.integers(3)],
        "band": "old" if fold == 1 and k < 3 else "young",
    }
    return {name: value for name, value in found.items() if name != "light" or k % 10}


def _clip(fold: int, k: int, name: str, label: str) -> tuple[Clip, ClipRecord]:
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[:, : SIDE // 2] = (10 * fold, 4 * k % 255, 120)
    jpegs = [encode_jpeg(image // (n + 1), 90) for n in range(3)]
    fbank = np.zeros((512, 128), np.float32)
    about = Clip(name, label, fold, f"{name}.mp4", 3, subject=f"p{fold}{k % 4}", groups=group_of(fold, k))
    return about, ClipRecord(jpegs, fbank)
