"""A fold whose old ranks come back from the dead, and ranks that srun starts."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from setting import checkpoints, events, make_config, start, wait_for_step, weights

from mmadfer.config.schema import Config
from mmadfer.distributed.ranks import Ranks
from mmadfer.run import checkpoint_state
from mmadfer.run.checkpoint_state import Progress
from mmadfer.run.lease import Held
from mmadfer.train.checkpoint import Checkpoints
from mmadfer.train.loop import train
from mmadfer.utils.files import sha256

SLOW = 24
"""Epochs of a run that is caught in the middle."""


@pytest.fixture(scope="module")
def slow(store: Path) -> Config:
    return make_config(store, epochs=SLOW)


@pytest.fixture(scope="module")
def undisturbed(slow: Config, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("undisturbed") / "fold-1"
    assert train(slow, 1, folder).finished
    return weights(folder)


@pytest.fixture
def begun() -> Iterator[list[subprocess.Popen]]:
    """Processes to be ended with the test, however it goes."""
    processes: list[subprocess.Popen] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def step(number: int, restart: int, rank: int = 0, world: int = 1) -> dict[str, str]:
    """What srun sets for one task of a start of an array's job; nothing sets RANK."""
    values = {
        "SLURM_ARRAY_JOB_ID": number,
        "SLURM_ARRAY_TASK_ID": 1,
        "SLURM_JOB_ID": number,
        "SLURM_RESTART_COUNT": restart,
        "SLURM_STEP_ID": 0,
        "SLURM_STEP_NUM_TASKS": world,
        "SLURM_PROCID": rank,
        "SLURM_LOCALID": rank,
        "SLURM_STEP_NODELIST": "127.0.0.[11-12]" if world > 1 else "127.0.0.11",
    }
    return {name: str(value) for name, value in values.items()}


def files(fold: Path) -> dict[Path, str]:
    """Everything in a fold but TensorBoard's files, of which each process has its own."""
    found = (path for path in fold.rglob("*") if path.is_file() and path.parent.name != "tensorboard")
    return {path: sha256(path) for path in found}


@pytest.mark.parametrize("world", [1, 2])
def test_ranks_back_from_the_dead_end_and_change_nothing(
    slow: Config, undisturbed: bytes, tmp_path: Path, begun: list, world: int
) -> None:
    run, job = tmp_path / "run", os.getpid()
    fold = run / "fold-1"
    dead = [start(slow, run, "--resume", env=step(job, 0, rank, world)) for rank in range(world)]
    begun += dead
    wait_for_step(fold, 20, dead[0])
    for rank in dead:
        rank.send_signal(signal.SIGSTOP)

    again = start(slow, run, "--resume", env=step(job, 1))
    begun.append(again)
    wait_for_step(fold, 40, again)
    for rank in dead:  # while its successor trains
        rank.send_signal(signal.SIGCONT)
    ends = [rank.communicate(timeout=240) for rank in dead]
    assert [rank.returncode for rank in dead] == [0] * world, ends  # a failure would end the later start's step
    assert all("was taken over by another start of this training" in err for _, err in ends), ends
    assert not any("Traceback" in err for _, err in ends)
    out, err = again.communicate(timeout=240)
    assert again.returncode == 0, out + err
    assert f"epoch {SLOW}/{SLOW}" in out
    steps = [event["step"] for event in events(fold, "step")]
    assert steps == list(range(1, 3 * SLOW + 1)), "each step is told once"
    assert not list(fold.rglob("*.tmp"))
    assert not (fold / "failed.json").exists()
    if world == 1:
        assert weights(fold) == undisturbed


def test_one_that_wakes_after_all_is_done_leaves_every_byte(
    slow: Config, undisturbed: bytes, tmp_path: Path, begun: list
) -> None:
    run, job = tmp_path / "run", os.getpid()
    fold = run / "fold-1"
    dead = start(slow, run, "--resume", env=step(job, 0))
    begun.append(dead)
    wait_for_step(fold, 20, dead)
    dead.send_signal(signal.SIGSTOP)
    again = start(slow, run, "--resume", env=step(job, 1))
    out, err = again.communicate(timeout=240)
    assert again.returncode == 0, out + err
    before = files(fold)
    dead.send_signal(signal.SIGCONT)
    _, err = dead.communicate(timeout=240)
    assert dead.returncode == 0, err
    assert files(fold) == before
    assert weights(fold) == undisturbed
    assert events(fold, "resume")


def another_start(straight: Path, folder: Path, token: str) -> Checkpoints:
    """The checkpoints of a fold as one start of its training sees them."""
    belonging = checkpoint_state.read(checkpoints(straight)[-1]).belonging
    return Checkpoints(folder, Held(token=token), belonging, 2, Ranks(), print)


@pytest.mark.parametrize("final", ["step-00000006", "step-00000007"], ids=["replacing", "new"])
def test_a_save_suspended_between_check_and_rename_publishes_nothing(
    straight: Path, tmp_path: Path, final: str
) -> None:
    shutil.copytree(straight / "checkpoints", tmp_path / "checkpoints")
    before, late = files(tmp_path), another_start(straight, tmp_path, "a")
    published = tmp_path / "checkpoints" / final
    temporary = published.with_name(f"{final}.a.tmp")
    shutil.copytree(checkpoints(straight)[-1], temporary)
    late.held.check = lambda: another_start(straight, tmp_path, "b")  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(FileNotFoundError):
        late._publish(temporary, published, Progress(), "0")
    assert files(tmp_path) == before


def test_a_deletion_suspended_after_its_check_deletes_nothing(straight: Path, tmp_path: Path) -> None:
    shutil.copytree(straight / "checkpoints", tmp_path / "checkpoints")
    before, late = files(tmp_path), another_start(straight, tmp_path, "a")
    late.held.check = lambda: another_start(straight, tmp_path, "b")  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(FileNotFoundError):
        late._set_aside(checkpoints(tmp_path)[-1])
    assert files(tmp_path) == before


def test_what_was_killed_between_two_renames_is_put_back(straight: Path, tmp_path: Path) -> None:
    shutil.copytree(straight / "checkpoints", tmp_path / "checkpoints")
    before, newest = files(tmp_path), checkpoints(tmp_path)[-1]
    gone = newest.with_name(f"{newest.name}.a.tmp")
    gone.mkdir()
    newest.rename(gone / "old")
    another_start(straight, tmp_path, "b")
    assert files(tmp_path) == before
    shutil.copytree(newest, newest / "old")  # killed after both
    assert checkpoint_state.damage(newest) is None
    another_start(straight, tmp_path, "c")
    assert files(tmp_path) == before


def test_the_number_of_ranks_does_not_change_the_weights(store: Path, tmp_path: Path, begun: list) -> None:
    """1, 2 and 4 ranks over gloo, batches of 8 in 2 micro-batches each: equal but for the order of sums in float32.

    After 12 steps that move a weight by up to 0.012, it differs by at most 8e-7 with two ranks and 1.3e-6 with four.
    """
    config = make_config(store, epochs=12, batch_size=8, accumulate=2)
    assert train(config, 1, tmp_path / "straight").finished
    straight = load_file(checkpoints(tmp_path / "straight")[-1] / "weights.safetensors")
    for world in (2, 4):
        run = tmp_path / f"run{world}"
        ranks = [start(config, run, env=step(os.getpid() + world, 0, rank, world)) for rank in range(world)]
        begun += ranks
        ends = [rank.communicate(timeout=240) for rank in ranks]
        assert [rank.returncode for rank in ranks] == [0] * world, ends
        found = load_file(checkpoints(run / "fold-1")[-1] / "weights.safetensors")
        for name, value in straight.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5, msg=name)
