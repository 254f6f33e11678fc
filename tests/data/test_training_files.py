"""A training that could not begin is refused before anything is made: what the store lacks of the task's target."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from mmadfer.config.schema import Config, parse
from mmadfer.data.store.store import Clip, Header, write_store
from mmadfer.data.store.targets import Target
from mmadfer.data.training_files import check_files
from mmadfer.errors import ConfigError, DataError

FEELING = {"feeling": Target("values", ("valence", "arousal"))}
REGRESSION = {
    "task": {"name": "regression", "target": "feeling", "values": {"valence": [-1, 1], "arousal": [-1, 1]}},
    "model": {"head": "values"},
}


def store(
    path: Path,
    change: Callable[[Clip], Clip] = lambda clip: clip,
    labels: tuple[str, ...] = tiny.LABELS,
    targets: dict[str, Target] = FEELING,
) -> Path:
    """The tiny store, with its clips changed."""
    header = Header("tiny", labels, tiny.config().prepare, Path("/media"), targets=targets)
    write_store(path, header, ((change(clip), record) for clip, record in tiny.records()))
    return path


def config(path: Path, **sections: dict[str, Any]) -> Config:
    tree = tiny.config(data={"store": str(path)}).model_dump(mode="json", exclude_unset=True)
    for name, section in sections.items():
        tree[name] = {**tree.get(name, {}), **section}
    return parse(tree, "the test")


def felt(clip: Clip) -> Clip:
    return replace(clip, targets={"feeling": [0.5, -0.5]})


def test_what_a_store_has_can_be_trained(tmp_path: Path) -> None:
    path = store(tmp_path / "felt.store", felt)
    check_files(config(path), [1, 2])
    check_files(config(path, **REGRESSION), [1, 2])


def test_classes_need_labels(tmp_path: Path) -> None:
    path = store(tmp_path / "bare.store", lambda clip: replace(felt(clip), label=""), labels=())
    check_files(config(path, **REGRESSION), [1])
    with pytest.raises(
        DataError, match=r"bare\.store has no labels, .* prepare a store with a column `label`.*feeling"
    ):
        check_files(config(path), [1])


def test_values_that_the_store_lacks_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    path = store(tmp_path / "felt.store", felt)
    other = {**REGRESSION["task"], "values": {"arousal": [-1, 1], "joy": [-1, 1]}}
    with pytest.raises(DataError, match=r"learns arousal, joy of .* has 'feeling' with valence, arousal"):
        check_files(config(path, **{**REGRESSION, "task": other}), [1])
    with pytest.raises(DataError, match="learns valence, arousal of the target 'mood'"):
        check_files(config(path, **{**REGRESSION, "task": {**REGRESSION["task"], "target": "mood"}}), [1])


def test_clips_that_are_not_used_may_lack_the_target(tmp_path: Path) -> None:
    def some(clip: Clip) -> Clip:
        number = int(clip.id[-2:])
        part = "train" if number < 12 else "test"
        return replace(clip, splits={"mine": part}, targets=felt(clip).targets) if number < 18 else clip

    path = store(tmp_path / "some.store", some)
    check_files(config(path, **REGRESSION, data={"split": "mine"}), [1])
    with pytest.raises(DataError, match=r"^5 clips of .*some\.store lack the target 'feeling' \(c/18, c/19, c/20, …\)"):
        check_files(config(path, **REGRESSION), [1])


def test_the_options_of_the_sampler_are_checked(tmp_path: Path) -> None:
    path = store(tmp_path / "felt.store", felt)
    with pytest.raises(ConfigError, match=r"data\.sampler balanced does not take .*twice"):
        check_files(config(path, data={"sampler": "balanced", "sampler_options": {"twice": 2}}), [1])


def test_folds_are_those_of_the_split_that_is_trained(tmp_path: Path) -> None:
    """Eight subjects: the eighth has two of the 23 clips, the others three; the store's own folds are five."""
    path = store(tmp_path / "people.store", lambda clip: replace(clip, subject=f"s{int(clip.id[-2:]) % 8}"), targets={})
    people = config(path, data={"split": "leave_one_subject_out"}, train={"batch_size": 21})
    check_files(people, [8])
    with pytest.raises(ConfigError, match=r"fold 7 of .* leaves 20 training clips, which do not fill one batch"):
        check_files(people, [7])
