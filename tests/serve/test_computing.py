"""One thread computes for all jobs: together, in turn, and each for itself where one fails."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from export_setup import clips
from serve_setup import until

from mmadfer import Recogniser
from mmadfer.serve.computing import READY, Computing, Lane
from mmadfer.serve.metrics import Metrics


class Held:
    """A backend that waits until it is let go, and keeps how many came together."""

    def __init__(self, backend: Any) -> None:
        self.contract, self.device, self._backend = backend.contract, backend.device, backend
        self.go, self.sizes = threading.Event(), list[int]()

    def logits(self, *arrays: np.ndarray) -> np.ndarray:
        self.sizes.append(len(arrays[0]))
        self.go.wait()
        found: np.ndarray = self._backend.logits(*arrays)
        return found


@pytest.fixture
def held(model: Path) -> Any:
    recogniser = Recogniser(model)
    backend = Held(recogniser.backend)
    recogniser.batches.backend = backend
    computing = Computing(recogniser, Metrics(), batch=4)
    yield SimpleNamespace(computing=computing, backend=backend, plain=Recogniser(model).backend)
    backend.go.set()
    computing.stop()


def looks(count: int) -> list[tuple[np.ndarray, ...]]:
    frames, sound = clips(count)
    return [(frames[k : k + 1], sound[k : k + 1]) for k in range(count)]


def test_what_waits_is_computed_together_and_in_turn(held: Any) -> None:
    told = list[tuple[str, np.ndarray]]()
    failed = list[Exception]()
    one, other = Lane(held.computing, failed.append), Lane(held.computing, failed.append)
    given = looks(5)
    one.put(given[0], lambda row: told.append(("first", row)))
    until(lambda: held.backend.sizes == [1])
    for k in range(READY):
        one.put(given[1 + k], lambda row: told.append(("one", row)))
    for k in range(2):
        other.put(given[k], lambda row: told.append(("other", row)))
    held.backend.go.set()
    until(lambda: len(told) == 7)
    assert held.backend.sizes == [1, 4, 2]
    assert [name for name, _ in told] == ["first", "one", "other", "one", "other", "one", "one"]
    alone = held.plain.logits(*given[0])[0]
    np.testing.assert_allclose(told[0][1], alone, atol=1e-5)
    np.testing.assert_allclose(told[2][1], alone, atol=1e-5)
    assert not failed


def test_only_the_job_at_fault_fails(held: Any) -> None:
    told, failed = list[str](), list[str]()
    lanes = [Lane(held.computing, lambda error, name=name: failed.append(f"{name}: {error}")) for name in "abc"]
    good, bad = looks(1)[0], (looks(1)[0][0], np.full((1, 1, 512, 128), np.nan, np.float32))
    lanes[0].put(good, lambda row: told.append("a"))
    until(lambda: held.backend.sizes == [1])
    for lane, inputs, name in zip(lanes, (good, bad, good), "abc", strict=True):
        lane.put(inputs, lambda row, name=name: told.append(name))
    held.backend.go.set()
    until(lambda: len(told) == 3 and failed)
    assert told == ["a", "a", "c"]
    assert held.backend.sizes == [1, 3, 1, 1, 1]
    assert failed[0].startswith("b: ")
    assert "not a finite number" in failed[0]
    assert held.computing.alive


def test_a_lane_has_room_for_few_and_gives_up_when_it_is_closed(held: Any) -> None:
    lane = Lane(held.computing, lambda error: None)
    look = looks(1)[0]
    lane.put(look, lambda row: None)
    until(lambda: held.backend.sizes == [1])
    for _ in range(READY):
        lane.put(look, lambda row: None)
    waits = threading.Thread(target=lane.put, args=(look, lambda row: None))
    waits.start()
    until(lambda: held.computing._changed._waiters or not waits.is_alive())
    assert waits.is_alive()  # it waits for room
    assert len(lane.looks) == READY
    lane.close()
    waits.join(60)
    assert not waits.is_alive()
    assert not lane.looks


def test_what_a_job_does_with_its_logits_harms_no_other(held: Any) -> None:
    failed, told = list[str](), list[int]()
    lane, other = (
        Lane(held.computing, lambda error: failed.append(str(error))),
        Lane(held.computing, lambda error: None),
    )
    held.backend.go.set()
    lane.put(looks(1)[0], lambda row: {}["none"])
    other.put(looks(1)[0], lambda row: told.append(1))
    until(lambda: failed and told)
    assert failed == ["the model failed: KeyError; the log says more"]
