"""A toy in which only words tell two compound classes apart: features, sentences, both together, and late fusion.

    OMP_NUM_THREADS=1 python bench/text_toy.py [--seeds 0 1 2] [--folder FOLDER]

`toy_words` makes 180 clips of three classes: faces of two of them look the same, and what is said in a clip names its
class. Told is the UAR of fold 1 of three, after the last epoch of the configuration words_toy, of

    features        frames alone
    text            sentences alone
    third modality  frames with the sentence added to every step
    late fusion     features and text, weighted by what validation clips say (a fifth of the training clips)
    other words     sentences alone, those of other clips: a control, at chance

Late fusion has runs of its own, which are trained without the clips for validation.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import mean, stdev

from common import machine, table, uar_of_fold_1

from mmadfer.config.schema import load
from mmadfer.data.cues.cues import Row, read_rows
from mmadfer.data.cues.template import Template
from mmadfer.data.cues.textualise import of_store, textualise
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.sets import toy_words
from mmadfer.data.store.store import Store
from mmadfer.evaluation.late_fusion import late_fusion

ALONE = ["model.branches=text", "model.joint=none", "model.temporal=none", "model.prompts=0", "model.progressive=0"]
WAYS = {"features": ["model.text=null"], "text": ALONE, "third modality": []}
"""Row -> what is other than in words_toy."""
FUSED, CONTROL = "late fusion", "other words"
VALIDATION = "data.validation=0.2"


def main() -> None:
    """Train all, and print the table."""
    given = options()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-text-") as name:
        folder = given.folder or Path(name)
        store, found = made(folder), dict[str, list[float]]()
        for seed in given.seeds:
            for row, uar in of_seed(folder, store, seed):
                found.setdefault(row, []).append(uar)
                print(f"seed {seed}, {row}: {uar:.3f}", flush=True)
    rows = [[row, *(f"{uar:.3f}" for uar in each), f"{mean(each):.3f}", spread(each)] for row, each in found.items()]
    print(table(["UAR of fold 1", *(f"seed {seed}" for seed in given.seeds), "mean", "deviation"], rows))


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, help="where set, store and runs are kept; by default nowhere")
    return parser.parse_args()


def spread(values: list[float]) -> str:
    """The deviation, where there is one."""
    return f"{stdev(values):.3f}" if len(values) > 1 else "-"


def made(folder: Path, clips_per_class: int = toy_words.CLIPS_PER_CLASS) -> Path:
    """The store, its sentences beside it, and a file with those of other clips."""
    store = folder / "words.store"
    if not store.exists():
        toy_words.make(folder / "set", clips_per_class, jobs=1)
        prepare(toy_words.table(folder / "set"), store, load("words_toy").prepare, jobs=1)
    sentences = store.with_suffix(".cues.jsonl")
    with Store(store) as read:
        template = Template(use=("text",))
        textualise(of_store(read, template.use), sentences, template, folder / "set" / toy_words.TRANSCRIPTS)
    rows = list(read_rows(sentences))
    others = [
        row.model_copy(update={"sentence": other.sentence}) for row, other in zip(rows, shifted(rows), strict=True)
    ]
    (folder / "others.jsonl").write_text("".join(row.to_line() for row in others), encoding="utf-8")
    return store


def shifted(rows: list[Row]) -> list[Row]:
    """The rows in an order that has nothing to do with their classes: every 7th, and so on."""
    return [rows[7 * k % len(rows)] for k in range(len(rows))]


def of_seed(folder: Path, store: Path, seed: int) -> list[tuple[str, float]]:
    """The UAR of each row."""
    common = [f"data.store={store}", f"train.seed={seed}"]
    found = [(row, trained(folder / f"{seed}-{row}", [*common, *ways])) for row, ways in WAYS.items()]
    pair = [folder / f"{seed}-validated-{row}" for row in ("features", "text")]
    for run, row in zip(pair, WAYS, strict=False):
        trained(run, [*common, VALIDATION, *WAYS[row]])
    fused = late_fusion(pair[0], pair[1], store, 1)
    found.append((FUSED, fused.predictions.scores()["uar"]))
    words = [*common, *ALONE, f"data.text={folder / 'others.jsonl'}"]
    return [*found, (CONTROL, trained(folder / f"{seed}-others", words))]


def trained(run: Path, overrides: list[str]) -> float:
    """The UAR of fold 1."""
    return uar_of_fold_1(run, "words_toy", overrides)


if __name__ == "__main__":
    main()
