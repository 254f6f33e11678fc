"""Samplers of installed packages: what they observe decides what is picked, whatever stops the run, on any ranks."""

import json
import os
import signal
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from setting import StopAt, checkpoints, events, make_config, start, wait_for_step, weights

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


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a sampler, as other processes find it, too."""
    place = tmp_path / "site"
    info = place / "hardest-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hardest\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[mmadfer.samplers]\nhard = hardest_parts:Hard\n")
    (place / "hardest_parts.py").write_text(CODE)
    monkeypatch.syspath_prepend(place)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.delitem(SAMPLERS.__dict__, "plug_ins", raising=False)
    return place


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
def test_stopped_anywhere_the_sampler_goes_on(installed: Path, store: Path, tmp_path: Path, asked: int) -> None:
    config = sampled(store, tmp_path / "noted", epochs=3)
    train(config, 1, tmp_path / "straight")
    (tmp_path / "noted").unlink()
    assert not train(config, 1, tmp_path / "fold", stop=StopAt(asked)).finished
    assert train(config, 1, tmp_path / "fold", resume=True).finished
    assert weights(tmp_path / "fold") == weights(tmp_path / "straight")


def test_killed_on_two_ranks_it_goes_on_to_the_same_weights(installed: Path, store: Path, tmp_path: Path) -> None:
    config = sampled(store, tmp_path / "noted", epochs=8)
    _ranks(config, tmp_path / "straight")
    straight = told(tmp_path / "noted")
    (tmp_path / "noted").unlink()

    killed = _start(config, tmp_path / "run", 1)
    wait_for_step(tmp_path / "run" / "fold-1", 11, killed[0])  # in the fourth epoch
    for rank in killed:
        rank.send_signal(signal.SIGKILL)
    for rank in killed:
        rank.communicate()
    assert (checkpoints(tmp_path / "run" / "fold-1")[-1] / "sampler.json").is_file()
    _ranks(config, tmp_path / "run", "--resume")
    assert weights(tmp_path / "run" / "fold-1") == weights(tmp_path / "straight" / "fold-1")
    assert told(tmp_path / "noted")[-1] == straight[-1]


def test_one_rank_and_two_pick_the_same(installed: Path, store: Path, tmp_path: Path) -> None:
    config = sampled(store, tmp_path / "two", epochs=3)
    _ranks(config, tmp_path / "run")
    train(sampled(store, tmp_path / "one", epochs=3), 1, tmp_path / "fold")
    for one, two in zip(told(tmp_path / "one"), told(tmp_path / "two"), strict=True):
        assert [*one[1]] == [*two[1]], "the same clips in the same order"
        assert one[1] == pytest.approx(two[1], abs=1e-3)


def _start(config: Config, run: Path, port: int, *options: str) -> list[Any]:
    env = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(21000 + (os.getpid() + port) % 10000)}
    return [start(config, run, *options, env={**env, "RANK": k, "LOCAL_RANK": k}) for k in "01"]


def _ranks(config: Config, run: Path, *options: str) -> None:
    ranks = _start(config, run, 2, *options)
    outputs = [rank.communicate(timeout=240) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], outputs


def test_a_state_that_is_not_the_samplers_is_refused(installed: Path, store: Path, tmp_path: Path) -> None:
    from mmadfer.distributed.ranks import Ranks
    from mmadfer.train.feedback import Feedback

    feedback = Feedback(import_module("hardest_parts").Hard(1, []), Ranks())
    for state in ({}, {"losses": [1.0], "sampler": {}}, {"losses": [None, "x"], "sampler": {}}):
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
