"""Samplers of installed packages: what they observe decides what is picked, whatever stops the run, on any ranks."""

import json
import os
import signal
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from setting import StopAt, checkpoints, events, make_config, start_ranks, train_on_two_ranks, wait_for_step, weights

from mmadfer.config.samplers import SAMPLERS
from mmadfer.config.schema import Config, parse
from mmadfer.errors import ConfigError, RunError
from mmadfer.train.loop import train

CODE = '''
import json
import os

import numpy as np

from mmadfer.data.loading.samplers import Pick, Sampler


class Hard(Sampler):
    """The clips with the highest losses of the epoch before come twice, in place of those with the lowest."""

    observes = True

    def __init__(self, seed, clips, twice=2, noted=""):
        super().__init__(seed, clips)
        self.twice, self.noted, self.losses, self.epochs = twice, noted, {}, 0

    def epoch(self, k):
        picks = super().epoch(k)
        ranked = sorted((name for name in self.losses), key=lambda name: (self.losses[name], name))
        if not ranked:
            return picks
        easy, hard = ranked[: self.twice], ranked[-self.twice :]
        kept = [pick for pick in picks if pick.clip not in easy]
        return kept + [Pick(name, 1, window=(0, 2)) for name in hard]

    def observe(self, picks, losses):
        assert losses.dtype == np.float32 and len(picks) == len(losses)
        self.epochs += 1
        self.losses = {pick.clip: round(float(loss), 4) for pick, loss in zip(picks, losses)}
        if self.noted and os.environ.get("RANK", "0") == "0":
            with open(self.noted, "a") as file:
                file.write(json.dumps([self.epochs, self.losses]) + "\\\\n")

    def state_dict(self):
        return {"losses": self.losses, "epochs": self.epochs}

    def load_state_dict(self, state):
        self.losses, self.epochs = state["losses"], state["epochs"]
'''.replace("\\\\n", "\\n")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A package with a sampler, as other processes find it, too."""
    place = tmp_path_factory.mktemp("packages") / "site"
    info = place / "hardest-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hardest\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[mmadfer.samplers]\nhard = hardest_parts:Hard\n")
    (place / "hardest_parts.py").write_text(CODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")]))
        patch.delitem(SAMPLERS.__dict__, "plug_ins", raising=False)
        yield place


@pytest.fixture(scope="module")
def on_two_ranks(installed: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight epochs on two ranks, in one go, and beside it, in `noted`, what its sampler has seen."""
    folder = tmp_path_factory.mktemp("two_ranks")
    train_on_two_ranks(sampled(store, folder / "noted", epochs=8), folder / "run")
    return folder


@pytest.fixture(scope="module")
def three_epochs(installed: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Weights after three epochs on one rank, in one go."""
    folder = tmp_path_factory.mktemp("three_epochs")
    train(sampled(store, folder / "noted", epochs=3), 1, folder / "fold")
    return weights(folder / "fold")


def sampled(store: Path, noted: Path, **train_: Any) -> Config:
    tree = make_config(store, **train_).model_dump(exclude_unset=True)
    tree["data"] |= {"sampler": "hard", "sampler_options": {"twice": 2, "noted": str(noted)}}
    return parse(tree, "the test")


def told(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_is_observed_decides_the_next_epoch(installed: Path, store: Path, tmp_path: Path) -> None:
    config = sampled(store, tmp_path / "noted", epochs=3)
    train(config, 1, tmp_path / "fold")
    epochs = told(tmp_path / "noted")
    assert [number for number, _ in epochs] == [1, 2, 3]
    first = epochs[0][1]
    assert len(first) == 12, "each clip once, as nothing was known before"
    easy = sorted(first, key=lambda name: (first[name], name))[:2]
    assert not {*easy} & {*epochs[1][1]}, "the easy ones do not come"
    assert len(epochs[1][1]) == 10, "two come twice"
    means = [event["loss"] for event in events(tmp_path / "fold", "epoch")]
    assert means[0] == pytest.approx(sum(first.values()) / len(first), abs=1e-3)


@pytest.mark.parametrize("asked", [0, 2, 4, 8])
def test_stopped_anywhere_the_sampler_goes_on(three_epochs: bytes, store: Path, tmp_path: Path, asked: int) -> None:
    config = sampled(store, tmp_path / "noted", epochs=3)
    assert not train(config, 1, tmp_path / "fold", stop=StopAt(asked)).finished
    assert train(config, 1, tmp_path / "fold", resume=True).finished
    assert weights(tmp_path / "fold") == three_epochs


def test_killed_on_two_ranks_it_goes_on_to_the_same_weights(on_two_ranks: Path, store: Path, tmp_path: Path) -> None:
    config = sampled(store, tmp_path / "noted", epochs=8)
    killed = start_ranks(config, tmp_path / "run")
    wait_for_step(tmp_path / "run" / "fold-1", 11, killed[0])  # in the fourth epoch
    for rank in killed:
        rank.send_signal(signal.SIGKILL)
    for rank in killed:
        rank.communicate()
    assert (checkpoints(tmp_path / "run" / "fold-1")[-1] / "sampler.json").is_file()
    train_on_two_ranks(config, tmp_path / "run", "--resume")
    assert weights(tmp_path / "run" / "fold-1") == weights(on_two_ranks / "run" / "fold-1")
    assert told(tmp_path / "noted")[-1] == told(on_two_ranks / "noted")[-1]


def test_one_rank_and_two_pick_the_same(on_two_ranks: Path, store: Path, tmp_path: Path) -> None:
    train(sampled(store, tmp_path / "one", epochs=8), 1, tmp_path / "fold")
    alone, together = told(tmp_path / "one"), told(on_two_ranks / "noted")
    assert len(alone) == len(together) == 8
    for one, two in zip(alone[:3], together[:3], strict=True):
        assert [*one[1]] == [*two[1]], "the same clips in the same order"
        assert one[1] == pytest.approx(two[1], abs=1e-3)


def test_a_state_that_is_not_the_samplers_is_refused(installed: Path, store: Path, tmp_path: Path) -> None:
    from mmadfer.distributed.ranks import Ranks
    from mmadfer.train.feedback import Feedback

    feedback = Feedback(import_module("hardest_parts").Hard(1, []), Ranks())
    for state in ({}, {"told": [1.0], "sampler": {}}, {"told": [None, "x"], "sampler": {}}):
        with pytest.raises(RunError, match="the sampler cannot go on"):
            feedback.load(state, 2)


def test_options_that_a_sampler_does_not_take_are_refused(installed: Path, store: Path, tmp_path: Path) -> None:
    tree = sampled(store, tmp_path / "noted").model_dump(exclude_unset=True)
    tree["data"]["sampler_options"] = {"often": 2}
    with pytest.raises(ConfigError, match=r"data\.sampler hard does not take .*often"):
        train(parse(tree, "the test"), 1, tmp_path / "fold")
    tree["data"]["sampler"] = "hardd"
    with pytest.raises(ConfigError, match="no sampler 'hardd': did you mean hard"):
        parse(tree, "the test")
