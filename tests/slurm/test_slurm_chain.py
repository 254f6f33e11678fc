"""Chains of runs on a real SLURM: element by element, with a fold of the parent that fails, and with time limits."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster import Cluster
from slow import Slow

SIZE = ("--cluster", "slurm", "--gpus-per-fold", "0", "--cpus-per-fold", "1", "--time", "60")


def read(path: Path) -> Any:
    return json.loads(path.read_text())


class Chain:
    """Runs `first` and `second` in a folder, launched together."""

    def __init__(self, cluster: Cluster, config: Path, folder: Path, python: str) -> None:
        self.cluster, self.folder, self._python = cluster, folder, python
        tree = yaml.safe_load(config.read_text())
        self.files = [config.with_name("first.yaml"), config.with_name("second.yaml")]
        for file, stages in zip(self.files, ({}, {"init": "first"}), strict=True):
            file.write_text(yaml.safe_dump({**tree, "name": file.stem, "stages": stages}))

    def launch(self, *words: object) -> str:
        return self.cluster.run(self._python, "-m", "mmadfer", "launch", *map(str, words))

    def start(self, folds: str) -> None:
        self.launch(*self.files, "--run", self.folder, "--folds", folds, *SIZE)

    def jobs(self, run: str) -> dict[str, str]:
        found: dict[str, str] = read(self.folder / run / "jobs" / "launch.json")["jobs"]
        return found

    def reported(self, run: str) -> dict[int, dict[str, Any]]:
        """The folds of a run's report, once it is there."""
        self.cluster.wait_for(self.jobs(run)["report"], "COMPLETED", seconds=240)
        return {fold["fold"]: fold for fold in read(self.folder / run / "report" / "report.json")["folds"]}

    def times(self, run: str, fold: int) -> tuple[str, str]:
        """When SLURM started a fold's job, and when it ended."""
        shown = self.cluster.show(self.jobs(run)[f"fold {fold}"])
        return shown["StartTime"], shown["EndTime"]


@pytest.fixture
def chain(cluster: Cluster, five: Callable[..., Path], tmp_path: Path) -> Chain:
    return Chain(cluster, five(epochs=1), tmp_path / "chain", sys.executable)


def test_two_arrays_element_by_element(cluster: Cluster, chain: Chain) -> None:
    chain.start("1-3")
    first, second = (chain.jobs(run) for run in ("first", "second"))
    array = first["fold 1"].partition("_")[0]
    assert f"aftercorr:{array}_*" in cluster.run("squeue", "-h", "-j", second["fold 1"], "-o", "%E")
    told = json.loads(chain.launch("status", chain.folder, "--json"))["runs"][1]["folds"][0]
    assert told["state"] in ("queued", "running", "finished")
    assert {fold["state"] for k, fold in chain.reported("second").items() if k < 4} == {"finished"}
    for fold in (1, 2, 3):
        assert chain.times("first", fold)[1] <= chain.times("second", fold)[0]
        parent = read(chain.folder / "second" / "run.json")["parents"][str(fold)]["init"]
        assert (parent["run"], parent["fold"]) == (str(chain.folder / "first"), fold)
    cluster.wait_for(first["report"], "COMPLETED")


def test_a_fold_of_the_parent_that_fails_ends_the_childs(cluster: Cluster, chain: Chain) -> None:
    spoiled = chain.folder / "first" / "fold-2" / "checkpoints" / "step-00000004"
    blocked = cluster.wrap("sleep 100", "--exclusive", "--nodes=4")  # so that nothing starts before all is spoiled
    cluster.wait_for(blocked, "RUNNING")
    chain.start("1-3")
    spoiled.mkdir(parents=True)
    (spoiled / "state.json").write_text("{")
    cluster.run("scancel", blocked)
    states = {k: fold["state"] for k, fold in chain.reported("second").items() if k < 4}
    assert states == {1: "finished", 2: "missing", 3: "finished"}
    assert cluster.state(chain.jobs("first")["fold 2"]) == "FAILED"
    second = chain.jobs("second")["fold 2"]
    assert cluster.state(second) == "CANCELLED"
    why = f"fold 2 of {chain.folder / 'first'} (stages.init) is not finished: no checkpoint in "
    told = chain.launch("status", chain.folder)
    assert f"fold 2: {why}" in told
    assert why in chain.reported("second")[2]["note"]

    shutil.rmtree(spoiled.parent)
    chain.launch("resume", chain.folder)
    assert set(chain.jobs("second")) == {"fold 2", "report"}
    for run in ("first", "second"):
        assert {fold["state"] for k, fold in chain.reported(run).items() if k < 4} == {"finished"}


def test_a_chain_is_cancelled_from_its_end(cluster: Cluster, chain: Chain) -> None:
    blocked = cluster.wrap("sleep 100", "--exclusive", "--nodes=4")
    cluster.wait_for(blocked, "RUNNING")
    chain.start("1-2")
    chain.launch("cancel", chain.folder)
    cluster.run("scancel", blocked)
    cluster.until(lambda: not cluster.run("squeue", "-h"), "the end of all jobs")
    assert not (chain.folder / "second" / "fold-1").exists()
    told = json.loads(chain.launch("status", chain.folder, "--json"))["runs"]
    assert {fold["state"] for one in told for fold in one["folds"][:2]} == {"cancelled"}


def test_a_time_limit_of_the_parent_lets_the_child_wait_on(
    cluster: Cluster, five: Callable[..., Path], slow: Slow, tmp_path: Path
) -> None:
    slow.set(step=4)  # SLURM looks at time limits every 30 s
    chain = Chain(cluster, five(epochs=3), tmp_path / "chain", str(slow.python))
    chain.start("1-2")
    first, second = (chain.jobs(run)["fold 1"] for run in ("first", "second"))
    metrics = chain.folder / "first" / "fold-1" / "metrics.jsonl"
    cluster.until(lambda: metrics.exists() and '"step": 2,' in metrics.read_text(), "the second step")
    assert cluster.limit(first, minutes=2), "USR2 comes 120 s before the end"
    cluster.until(lambda: '"event": "stop"' in metrics.read_text(), "the end of training", 90)
    slow.set()
    assert cluster.state(second) == "PENDING"
    cluster.wait_for_restart(first)
    assert cluster.state(second) == "PENDING"
    found = chain.reported("second")
    assert cluster.state(first) == "COMPLETED"
    assert [found[fold]["state"] for fold in (1, 2)] == ["finished"] * 2
    assert cluster.restarts(first) >= 1  # again where the rest takes longer than the two minutes
    assert cluster.restarts(second) == 0
    assert chain.times("first", 1)[1] <= chain.times("second", 1)[0]
