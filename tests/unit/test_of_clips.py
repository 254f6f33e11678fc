"""Numbers of a report that come from the predictions of every clip, each computed again in another way."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_setup import LABELS, Made, group_of, make_run, make_store
from rich.console import Console
from scipy.special import softmax
from scipy.stats import binomtest, hypergeom
from sklearn.metrics import log_loss, recall_score

from mmadfer.data.store.store import Clip, Store, write_store
from mmadfer.evaluation.bootstrap import mcnemar
from mmadfer.evaluation.groups import FEWEST, groups, holm, paired_groups
from mmadfer.evaluation.intervals import intervals, wilson
from mmadfer.evaluation.saved_predictions import ToldClips
from mmadfer.report import report
from mmadfer.report.summary import summarise_run
from mmadfer.tasks.classification import CLASSIFICATION


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("store") / "made.store")


@pytest.fixture(scope="module")
def made(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    found = make_run(tmp_path_factory.mktemp("runs") / "run", store)
    report(found.run, {}, Console(file=open("/dev/null", "w")))  # noqa: SIM115
    return found


@pytest.fixture(scope="module")
def told(made: Made) -> dict:
    return json.loads((made.run / "report" / "report.json").read_text())["clips"]


def everything(made: Made) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([*made.truth.values()]), np.concatenate([*made.told.values()])


def test_calibration_of_each_fold(made: Made, told: dict) -> None:
    for row in told["calibration"]:
        truth, shares = made.truth[row["fold"]], made.told[row["fold"]]
        assert row["ece"] == pytest.approx(error(shares, truth))
        safe = np.maximum(shares, 5e-7)
        chosen = safe[np.arange(len(truth)), truth]
        assert row["cross_entropy"] == pytest.approx(-np.log(chosen).mean())
        assert row["temperature"] == 2.0
        after = softmax(np.log(safe) / 2.0, axis=1)
        assert row["ece_after"] == pytest.approx(error(after, truth))
        assert row["cross_entropy_after"] == pytest.approx(log_loss(truth, after, labels=range(3)), rel=1e-6)
    assert [row["fold"] for row in told["calibration"]] == [1, 2]


def error(shares: np.ndarray, truth: np.ndarray) -> float:
    """ECE by the definition, with numpy's own bins."""
    sure, right = shares.max(1), shares.argmax(1) == truth
    bin_of = np.digitize(sure, np.linspace(0, 1, 16)[1:-1], right=True)
    gaps = [abs(right[bin_of == k].mean() - sure[bin_of == k].mean()) * (bin_of == k).sum() for k in {*bin_of}]
    return sum(gaps) / len(truth)


def test_abstaining_over_all_folds(made: Made, told: dict) -> None:
    truth, shares = everything(made)
    order = np.argsort(-shares.max(1), kind="stable")
    right = (shares.argmax(1) == truth)[order]
    for row, share in zip(told["abstaining"], (1, 0.9, 0.8, 0.5), strict=True):
        count = row["clips"]
        assert count >= share * len(truth)
        assert row["accuracy"] == pytest.approx(right[:count].mean())
        assert row["coverage"] == pytest.approx(count / len(truth))
        assert row["threshold"] == pytest.approx(np.sort(shares.max(1))[::-1][count - 1])


def test_intervals_of_scores_are_those_of_clips_drawn_one_by_one_and_of_recalls_wilsons(made: Made, told: dict) -> None:
    rng, scores = np.random.default_rng(3), []

    def recall(truth: np.ndarray, said: np.ndarray) -> np.ndarray:
        return np.array([(said[truth == k] == k).mean() for k in range(3)])

    for _ in range(1500):
        drawn = {fold: rng.integers(0, len(truth), len(truth)) for fold, truth in made.truth.items()}
        parts = [(made.truth[f][rows], made.told[f][rows].argmax(1)) for f, rows in drawn.items()]
        scores.append(np.mean([recall(*part).mean() for part in parts]))
    assert told["intervals"]["scores"]["uar"] == pytest.approx(np.quantile(scores, [0.025, 0.975]), abs=0.02)
    truth, shares = everything(made)
    for k, label in enumerate(LABELS):
        right = shares[truth == k].argmax(1) == k
        wanted = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
        assert told["intervals"]["recall"][label] == pytest.approx(list(wanted), abs=1e-12)
    for (low, high), value in zip(
        told["intervals"]["recall"].values(), recall_score(truth, shares.argmax(1), average=None), strict=True
    ):
        assert low < value < high


def test_a_class_without_clips_has_no_interval() -> None:
    one = ToldClips(1, ["a", "b"], np.array([0, 1]), np.array([0, 0]), np.full((2, 3), 1 / 3))
    found = intervals([one], CLASSIFICATION, 200)
    z2 = 1.959963984540054**2
    assert found.recall == [pytest.approx((1 / (1 + z2), 1.0)), pytest.approx((0.0, z2 / (1 + z2))), None]


@pytest.mark.parametrize(("hits", "clips"), [(0, 29), (29, 29), (1, 29), (10, 29), (3000, 4000)])
def test_the_interval_of_a_recall_is_wilsons(hits: int, clips: int) -> None:
    """The p that lie z standard errors from the recall, sqrt(p (1 - p) / n), are the roots of a square."""
    z2 = 1.959963984540054**2
    roots = np.roots([clips + z2, -(2 * hits + z2), hits**2 / clips])
    assert wilson(hits, clips) == pytest.approx(sorted(roots.real), abs=1e-9)
    assert wilson(hits, clips) == pytest.approx(list(binomtest(hits, clips).proportion_ci(method="wilson")), abs=1e-12)
    assert wilson(clips - hits, clips) == pytest.approx([1 - end for end in wilson(hits, clips)[::-1]])
    assert wilson(0, 29)[1] > 0.1, "none of 29 does not say that there are none"


def test_groups_have_their_clips_and_scores(made: Made, told: dict) -> None:
    rows = {(row["column"], row["value"]): row for row in told["groups"]}
    assert {column for column, _ in rows} == {"subject", "band", "light", "sex"}
    for (column, value), row in rows.items():
        if column == "subject":
            continue
        mine = [
            (made.truth[f][k], made.told[f][k].argmax())
            for f in (1, 2)
            for k in range(60)
            if group_of(f, k).get(column) == value
        ]
        truth, said = zip(*mine, strict=True)
        assert row["clips"] == len(mine)
        assert row["accuracy"] == pytest.approx(np.mean(np.array(truth) == said))
        assert row["uar"] == pytest.approx(recall_score(truth, said, average="macro", labels=sorted({*truth})))
    assert rows["band", "old"] | {"accuracy": 0, "uar": 0} == {
        **{"column": "band", "value": "old", "clips": 3, "accuracy": 0, "uar": 0},
        **{"within_folds": None, "p": None, "holm": None, "note": "too few", "subjects": None},
    }
    assert rows["band", "young"]["note"] == "too few", "as the rest has three"
    assert rows["sex", "f"]["p"] == rows["sex", "m"]["p"]
    assert rows["sex", "f"]["within_folds"] == pytest.approx(-rows["sex", "m"]["within_folds"])
    for column in ("subject", "light", "sex"):
        mine = [row for row in rows.values() if row["column"] == column][: 1 if column == "sex" else None]
        assert [row["holm"] for row in mine] == holm([row["p"] for row in mine]), "of each column on its own"


def test_subjects_of_whole_folds_are_compared_within_their_fold(told: dict) -> None:
    people = [row for row in told["groups"] if row["column"] == "subject"]
    assert len(people) == 8
    assert all(row["clips"] == 15 for row in people)
    assert all(row["p"] is not None for row in people)


def fold_of(fold: int, truth: list[int], right: list[bool]) -> ToldClips:
    said = [t if ok else (t + 1) % 2 for t, ok in zip(truth, right, strict=True)]
    ids = [f"{fold}-{k}" for k in range(len(truth))]
    return ToldClips(fold, ids, np.array(truth), np.array(said), np.full((len(truth), 2), 0.5))


def test_the_permutation_test_is_fishers_where_there_is_one_stratum() -> None:
    """One class is always right, so the difference is that of the other: hits there are hypergeometric."""
    truth = [0] * 30 + [1] * 30
    right = [True] * 30 + [True] * 9 + [False] * 3 + [True] * 6 + [False] * 12
    one = fold_of(1, truth, right)
    group = {clip: "a" if k % 30 < 12 else "b" for k, clip in enumerate(one.ids)}
    found, other = groups([one], {"x": group}, {})
    drawn, middle = hypergeom(30, 15, 12), 12 * 15 / 30
    exact = sum(drawn.pmf(k) for k in range(13) if abs(k - middle) >= abs(9 - middle))
    assert found.p == pytest.approx(exact, abs=0.01)
    assert found.within_folds == pytest.approx((9 / 12 - 6 / 18) / 2)
    assert found.holm == found.p == other.p, "two groups are one test"


def test_an_easy_fold_is_no_difference_between_groups() -> None:
    """All clips of fold 1 are right and half of fold 2, and a group has most of fold 1: within folds all are alike."""
    folds = [fold_of(1, [0, 1] * 20, [True] * 40), fold_of(2, [0, 1] * 20, [True, True, False, False] * 10)]
    most = {
        clip: "a" if k % 40 < (32 if clip[0] == "1" else 8) else "b"
        for k, clip in enumerate(folds[0].ids + folds[1].ids)
    }
    found, other = groups(folds, {"x": most}, {})
    assert found.accuracy > other.accuracy + 0.2
    assert found.within_folds == pytest.approx(0)
    assert found.p == pytest.approx(1)


def test_a_group_that_is_worse_than_its_fold_mates_is_shown_as_worse() -> None:
    """A is 20 points below B in fold 1, which is easy; C and D have a hard fold of their own, and tell nothing of A."""
    easy = fold_of(1, [0, 1] * 80, [k % 80 < (60 if k < 80 else 76) for k in range(160)])
    hard = fold_of(2, [0, 1] * 80, [k % 10 < 4 for k in range(160)])
    names = {clip: "AB"[k // 80] for k, clip in enumerate(easy.ids)} | {
        clip: "CD"[k // 80] for k, clip in enumerate(hard.ids)
    }
    a, b, c, d = groups([easy, hard], {"who": names}, {})
    assert (a.accuracy, b.accuracy, c.accuracy) == (0.75, 0.95, 0.4)
    assert [one.within_folds for one in (a, b, c, d)] == pytest.approx([-0.2, 0.2, 0, 0])
    assert a.p is not None
    assert a.p < 0.01
    assert c.p == pytest.approx(1)


def of_people(seed: int, spread: float, effect: float = 0.0) -> tuple[list[ToldClips], dict, dict]:
    """Two folds of ten people with 60 clips each, who differ by `spread`; the folds, their sex, and their names."""
    rng, folds, sex, people = np.random.default_rng(seed), [], {}, {}
    for fold in (1, 2):
        which = rng.permutation(10) % 2
        chance = np.clip(0.6 + effect * which + rng.normal(0, spread, 10), 0, 1)
        folds.append(fold_of(fold, [0, 1] * 300, list(rng.random(600) < np.repeat(chance, 60))))
        people |= {clip: f"{fold}-{k // 60}" for k, clip in enumerate(folds[-1].ids)}
        sex |= {clip: "fm"[which[k // 60]] for k, clip in enumerate(folds[-1].ids)}
    return folds, sex, people


def test_people_who_differ_are_no_difference_between_groups_of_people() -> None:
    drawn = [of_people(seed, 0.12) for seed in range(400)]
    found = [groups(folds, {"sex": sex}, people, 199)[0] for folds, sex, people in drawn]
    assert {one.subjects for one in found} == {10}
    assert np.mean([one.p <= 0.05 for one in found]) == pytest.approx(0.05, abs=0.03)
    assert np.mean([one.p <= 0.5 for one in found]) == pytest.approx(0.5, abs=0.08)
    of_clips = [groups(folds, {"sex": sex}, {}, 199)[0] for folds, sex, _ in drawn[:100]]
    assert {one.subjects for one in of_clips} == {None}
    assert np.mean([one.p <= 0.05 for one in of_clips]) > 0.2, (
        "what clips of one person say as if they were independent"
    )


def test_a_difference_between_groups_of_people_is_found() -> None:
    folds, sex, people = of_people(3, 0.05, 0.3)
    one, other = groups(folds, {"sex": sex}, people)
    assert one.p == other.p
    assert one.p is not None
    assert one.p < 0.001
    assert one.within_folds == pytest.approx(-0.3, abs=0.08)
    everywhere = dict(zip(people, [str(k % 600 // 60) for k in range(1200)], strict=True))
    first = {clip: str(int(name) % 2) for clip, name in everywhere.items()}
    assert groups(folds, {"odd": first}, everywhere)[0].subjects == 5, "people of several folds are whole, too"


def test_few_people_on_a_side_are_not_tested() -> None:
    folds, _, people = of_people(0, 0.1)
    few = {clip: "ab"[name in ("1-0", "1-1", "1-2", "2-0")] for clip, name in people.items()}
    assert {one.note for one in groups(folds, {"x": few}, people)} == {"too few subjects"}
    apart = {clip: "ab"[name[0] == "1"] for clip, name in people.items()}
    assert {one.note for one in groups(folds, {"x": apart}, people)} == {"no other clips in its folds"}
    mixed = {clip: "ab"[k % 2] for k, clip in enumerate(people)}
    assert {one.subjects for one in groups(folds, {"x": mixed}, people)} == {None}, "each has both values"


def test_the_stores_subjects_are_what_is_exchanged(made: Made, tmp_path: Path) -> None:
    found = summarise_run(made.run, {}).of_clips
    assert found is not None
    assert found.clips is not None
    kept = {name: replace(clip, groups={"odd": str(int(clip.subject) % 2)}) for name, clip in renamed(found.clips)}
    with Store(found.store) as store:
        write_store(tmp_path / "kept.store", store.header, ((clip, store.read(name)) for name, clip in kept.items()))
    other = replace(found, store=tmp_path / "kept.store")
    people, odd = ([one for one in other.groups if one.column == column] for column in ("subject", "odd"))
    assert {one.subjects for one in people} == {None}, "each of them is compared with the others clip by clip"
    assert [(one.value, one.subjects, one.note) for one in odd] == [("0", 10, ""), ("1", 10, "")]


def renamed(clips: dict[str, Clip]) -> list[tuple[str, Clip]]:
    """Ten people in each fold, with six clips each."""
    return [(name, replace(clip, subject=f"{clip.fold}{int(name[3:]) // 6}")) for name, clip in clips.items()]


def test_two_runs_are_compared_over_people() -> None:
    def runs(seed: int) -> list:
        folds, sex, people = of_people(seed, 0.12)
        other, _, _ = of_people(seed + 1000, 0.12)
        return paired_groups(folds, other, {"sex": sex}, people, 199)

    found = [runs(seed)[0] for seed in range(200)]
    assert {one.subjects for one in found} == {10}
    assert np.mean([one.p <= 0.05 for one in found]) == pytest.approx(0.05, abs=0.04)
    assert np.mean([mcnemar(one.only_first, one.only_second) <= 0.05 for one in found]) > 0.2
    folds, _, people = of_people(0, 0.1)
    four = {clip: name[0] for clip, name in people.items() if int(name[2]) < 4}
    assert [one.p for one in paired_groups(folds, folds, {"x": four}, people)] == [None, None]


def test_p_of_groups_is_about_uniform_where_there_is_no_difference() -> None:
    p = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        one = fold_of(1, [0, 1] * 60, list(rng.random(120) < 0.6))
        found, _ = groups([one], {"x": {clip: "ab"[rng.integers(2)] for clip in one.ids}}, {}, 400, seed)
        p.append(found.p)
    assert [float(np.mean(np.array(p) <= level)) for level in (0.05, 0.25, 0.5)] == pytest.approx(
        [0.05, 0.25, 0.5], abs=0.09
    )


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_a_group_in_two_runs_is_tested_clip_by_clip() -> None:
    truth = [0, 1] * 10
    first, second = (fold_of(1, truth, [ok] * 14 + [True] * 6) for ok in (False, True))
    group = {clip: "a" if k < 12 else "b" for k, clip in enumerate(first.ids)}
    a, b = paired_groups([first], [second], {"x": group}, {})
    assert (a.clips, a.only_first, a.only_second) == (12, 0, 12)
    assert a.p == pytest.approx(2 / 2**12)
    assert a.holm == a.p, "the only test"
    assert (b.clips, b.p) == (8, None)
    assert b.clips < FEWEST
