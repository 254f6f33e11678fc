import pickle
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmadfer.config import schema as configs
from mmadfer.launch import jobs
from mmadfer.launch.jobs import FoldJob, StopFlag
from mmadfer.run import directory as runs
from mmadfer.run.lease import lease
from mmadfer.run.lock import BusyError


def view(**values: object) -> SimpleNamespace:
    """What submitit tells a job."""
    given = {
        "global_rank": 3,
        "local_rank": 1,
        "num_tasks": 4,
        "num_nodes": 2,
        "job_id": "77_2",
        "hostnames": ["n5", "n6"],
    }
    return SimpleNamespace(**{**given, **values})


def test_ranks_agree_on_where_to_meet() -> None:
    job = FoldJob("run", 2, "cuda", 6)
    first, last = job.environment(view(global_rank=0, local_rank=0)), job.environment(view())
    assert (last["RANK"], last["LOCAL_RANK"], last["WORLD_SIZE"]) == ("3", "1", "4")
    assert (first["MASTER_ADDR"], first["MASTER_PORT"]) == (last["MASTER_ADDR"], last["MASTER_PORT"])
    assert last["MASTER_ADDR"] == "n5"
    assert jobs.port_of("77_2") != jobs.port_of("77_3")
    assert (last["OMP_NUM_THREADS"], last["DS_ACCELERATOR"]) == ("6", "cuda")
    assert "CUDA_VISIBLE_DEVICES" not in last


def test_a_fold_of_this_machine_gets_its_own_gpus_and_a_free_port() -> None:
    alone = view(num_tasks=1, num_nodes=1)
    one = FoldJob("run", 1, "cuda", 2, ("3",)).environment(alone)
    other = FoldJob("run", 2, "cuda", 2, ("0",)).environment(alone)
    assert (one["CUDA_VISIBLE_DEVICES"], other["CUDA_VISIBLE_DEVICES"]) == ("3", "0")
    assert one["MASTER_ADDR"] == "127.0.0.1"


def test_a_job_is_small_and_comes_back_from_its_pickle_and_its_checkpoint() -> None:
    job = FoldJob("run", 3, "cpu", 2, ())
    text = pickle.dumps(job)
    assert pickle.loads(text) == job
    assert len(text) < 300
    assert job.checkpoint().function == job


def test_the_signal_only_raises_the_flag_until_all_have_saved() -> None:
    queued: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: queued.append(number))
    term = signal.getsignal(signal.SIGTERM)
    try:
        stop = StopFlag()
        assert not stop()
        signal.raise_signal(signal.SIGUSR2)
        assert stop()
        assert queued == []
        stop.requeue()
        assert queued == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)
        signal.signal(signal.SIGTERM, term)


def test_sigterm_stops_for_good_and_usr2_for_the_queue() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    try:
        stop = StopFlag()
        assert not stop.cancelled
        signal.raise_signal(signal.SIGTERM)
        assert stop()
        assert stop.cancelled
        signal.raise_signal(signal.SIGUSR2)
        assert not stop.cancelled
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_fold_told_to_leave_while_it_waits_for_another_goes_back_into_the_queue(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, queued = runs.create(tmp_path / "run", configs.load(five)), list[int]()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    signal.signal(signal.SIGUSR2, lambda number, frame: queued.append(number))
    monkeypatch.setattr(jobs, "StopFlag", Told)
    try:
        with lease(run.fold(1)), pytest.raises(BusyError, match="is being trained by another process"):
            FoldJob(str(run.path), 1)._train(run.fold(1), tmp_path / "log", first=True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert queued == [signal.SIGUSR2]
    assert runs.failure(run.fold(1)) is None


class Told(StopFlag):
    """The signal comes before the training has begun."""

    def __init__(self) -> None:
        super().__init__()
        signal.raise_signal(signal.SIGUSR2)
