from collections import Counter

import pytest

from mmadfer.data.splits import assign, check_fold_count, official, training_gaps
from mmadfer.errors import DataError

FROZEN = [1, 5, 1, 4, 4, 1, 1, 4, 3, 1]  # a change here would change every result of a set without published folds
LABELS = {f"clip{k}": "abc"[k % 3 if k < 60 else 0] for k in range(103)}


def test_every_label_is_spread_evenly() -> None:
    fold = assign(LABELS, 5)
    assert set(fold) == set(LABELS)
    for label in "abc":
        counts = Counter(fold[clip] for clip in LABELS if LABELS[clip] == label)
        assert set(counts) == {1, 2, 3, 4, 5}
        assert max(counts.values()) - min(counts.values()) <= 1
    sizes = Counter(fold.values())
    assert max(sizes.values()) - min(sizes.values()) <= 1


def test_folds_depend_on_ids_and_seed_and_nothing_else() -> None:
    backwards = dict(reversed(LABELS.items()))
    assert assign(LABELS, 5) == assign(backwards, 5)
    assert assign(LABELS, 5) != assign(LABELS, 5, seed=1)
    assert [assign(LABELS, 5)[f"clip{k}"] for k in range(10)] == FROZEN


def test_nobody_is_in_two_folds() -> None:
    subjects = {clip: f"s{int(clip[4:]) % 17}" for clip in LABELS}
    fold = assign(LABELS, 4, subjects=subjects)
    places = {(subjects[clip], fold[clip]) for clip in LABELS}
    assert len(places) == len(set(subjects.values()))
    sizes = Counter(fold.values())
    assert set(sizes) == {1, 2, 3, 4}
    assert max(sizes.values()) - min(sizes.values()) <= 6


def test_too_few_are_refused() -> None:
    with pytest.raises(DataError, match="3 clips cannot make 5 folds"):
        assign({"a": "x", "b": "x", "c": "y"}, 5)
    with pytest.raises(DataError, match="2 subjects cannot make 3 folds"):
        assign(LABELS, 3, subjects={clip: (clip[-1] > "4" and "p") or "q" for clip in LABELS})
    with pytest.raises(DataError, match="at least 2 folds"):
        assign(LABELS, 1)


def test_official_folds_are_the_test_lists() -> None:
    tests = {1: ["a", "b"], 2: ["c"], 3: ["d"]}
    trains = {fold: [clip for k in tests if k != fold for clip in tests[k]] for fold in tests}
    assert official(tests, trains) == official(tests, {}) == {"a": 1, "b": 1, "c": 2, "d": 3}


def test_training_lists_are_what_the_other_folds_test() -> None:
    tests = {1: ["a", "b"], 2: ["c"], 3: ["d"]}
    assert (
        training_gaps(tests, {1: ["c", "d"], 2: ["d", "b", "a"], 3: ["a", "b", "c"]}) == training_gaps(tests, {}) == ()
    )
    first, last = training_gaps(tests, {1: [], 2: ["a", "b", "d"], 3: ["a", "b"]})
    assert "fold 1 lacks 2 of the 2 clips that other folds test (c, d)" in first
    assert "fold 3 lacks 1 of the 3 clips that other folds test (c)" in last


@pytest.mark.parametrize(
    ("tests", "trains", "message"),
    [
        ({1: ["a"], 2: ["b", "a"]}, {}, "'a' is in the test lists of folds 1 and 2"),
        ({1: ["a"], 2: ["b"]}, {1: ["b"], 2: ["a", "b"]}, "'b' is in the training list and in the test list of fold 2"),
        ({1: ["a"], 2: ["b"]}, {1: ["b", "c"], 2: []}, "'c' is in the training list of fold 1 and in no test list"),
    ],
)
def test_official_folds_that_contradict(
    tests: dict[int, list[str]], trains: dict[int, list[str]], message: str
) -> None:
    with pytest.raises(DataError, match=f"clip {message}; every clip is tested in exactly one fold"):
        official(tests, trains)


def test_the_number_of_official_folds_is_given() -> None:
    check_fold_count(5, 5, "DFEW")
    with pytest.raises(DataError, match=r"DFEW has 5 folds of its own, and data.folds is 10: set data.folds=5"):
        check_fold_count(10, 5, "DFEW")
