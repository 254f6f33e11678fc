"""Trackers beside metrics.jsonl: MLflow's files and its server, W&B's offline files, and others that fail."""

import json
import os
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from needs import needed
from setting import make_config

from mmadfer.cli.main import app
from mmadfer.cli.main import run as command
from mmadfer.config.schema import Config
from mmadfer.config.training import TRACKERS
from mmadfer.errors import MissingDependencyError
from mmadfer.report import report
from mmadfer.run import directory as runs
from mmadfer.tracking import TrackedRun, Trackers, background
from mmadfer.train.loop import train
from mmadfer.utils import optional

mlflow = needed("mlflow.tracking")
records = needed("wandb.proto.wandb_internal_pb2")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of the services' own packages
]


@pytest.fixture
def tracked_config(store: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "WANDB_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = make_config(store)
    return config.model_copy(update={"train": config.train.model_copy(update={"trackers": ("wandb", "mlflow")})})


def logged(fold: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (fold / "metrics.jsonl").read_text().splitlines()]


def points(fold: Path) -> dict[tuple[str, int], float]:
    """Every number of metrics.jsonl that is a curve, by name and step."""
    return {
        (f"{line['event']}/{name}", line["step"]): value
        for line in logged(fold)
        for name, value in line.items()
        if "step" in line and isinstance(value, int | float) and name not in ("epoch", "step", "seconds")
    }


def client(run: Path) -> Any:
    return mlflow.MlflowClient((run / "mlruns").as_uri())


def mlflow_runs(run: Path) -> dict[str, Any]:
    found = client(run).search_runs([client(run).get_experiment_by_name("mmadfer").experiment_id])
    return {one.info.run_name: one for one in found}


def mlflow_points(run: Path, one: Any) -> dict[tuple[str, int], float]:
    history = (client(run).get_metric_history(one.info.run_id, name) for name in one.data.metrics)
    return {(point.key, point.step): point.value for points in history for point in points}


def wandb_records(run: Path) -> Iterator[Any]:
    """What W&B's offline files hold: LevelDB's log format (blocks of 32 KiB, chunks with checksum, length and kind)."""
    for path in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        data, at, whole = path.read_bytes(), 7, b""  # behind W&B's own header
        while at + 7 <= len(data):
            if 32768 - at % 32768 < 7:
                at += 32768 - at % 32768
                continue
            _, length, kind = struct.unpack_from("<IHB", data, at)
            whole += data[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):  # all, or the last piece
                record = records.Record()
                record.ParseFromString(whole)
                whole = b""
                yield record


def wandb_points(run: Path) -> dict[tuple[str, int], float]:
    found = dict[tuple[str, int], float]()
    for record in wandb_records(run):
        items = {one.key or one.nested_key[0]: json.loads(one.value_json) for one in record.history.item}
        found |= {(name, items["step"]): value for name, value in items.items() if "/" in name}
    return found


def test_stopped_and_resumed_training_is_one_run_with_every_number(tracked_config: Config, tmp_path: Path) -> None:
    run = runs.create(tmp_path / "run", tracked_config).path
    fold = runs.fold_dir(run, 1)
    steps = count()
    assert not train(tracked_config, 1, fold, stop=lambda: next(steps) > 2).finished
    assert mlflow_runs(run)["run fold 1"].info.status == "KILLED"
    assert train(tracked_config, 1, fold, resume=True).finished
    (one,) = mlflow_runs(run).values()
    assert one.info.status == "FINISHED"
    assert one.data.params["train.lr"] == str(tracked_config.train.lr)
    told = points(fold)
    assert len(told) > 10
    assert mlflow_points(run, one) == pytest.approx(told)
    assert wandb_points(run) == pytest.approx(told)
    ids = {record.run.run_id for record in wandb_records(run) if record.HasField("run")}
    assert ids == {one.data.tags["mmadfer.id"]}
    states = [
        json.loads(item.value_json)
        for record in wandb_records(run)
        for item in record.summary.update
        if item.key == "state"
    ]
    assert states[-1] == "finished"
    report(run, {})
    shown = mlflow_runs(run)["run report"]
    assert shown.data.metrics["mean/uar"] == json.loads((fold / "result.json").read_text())["uar"]
    assert [one.path for one in client(run).list_artifacts(shown.info.run_id)] == ["report.html"]
    sent = Path(client(run).download_artifacts(shown.info.run_id, "report.html")).read_text()
    assert "<h1>" in sent
    assert "data:image" not in sent
    assert str(tmp_path) not in sent
    assert str(tmp_path) in (run / "report" / "report.html").read_text()
    assert shown.info.status == ("FINISHED" if tracked_config.data.folds == 1 else "KILLED")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = f"http://127.0.0.1:{port}"
    command = ["server", "--host", "127.0.0.1", "--port", port, "--workers", 1]
    command += ["--backend-store-uri", tmp_path / "kept", "--artifacts-destination", tmp_path / "kept" / "files"]
    environment = {**os.environ, "MLFLOW_ALLOW_FILE_STORE": "true"}  # a database takes ten times as long to begin
    with open(tmp_path / "server.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *map(str, command)],
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"{place}/health").close()
                    break
                except OSError:
                    assert process.poll() is None, (tmp_path / "server.log").read_text()
                    time.sleep(0.2)
            yield place
        finally:
            os.killpg(process.pid, 15)
            process.wait()


def tracked_run(folder: Path) -> TrackedRun:
    return TrackedRun(folder, "a fold 1", "a-fold-1", "a", {"train.lr": 0.5})


def test_a_server_gets_all(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    (tmp_path / "page.html").write_text("<html>")
    said = list[str]()
    for step in (1, 2):  # the second goes on with the first
        trackers = Trackers(["mlflow"], tracked_run(tmp_path), said.append)
        trackers.scalars(step, {"epoch/uar": step / 4})
        trackers.file(tmp_path / "page.html")
        trackers.close("finished")
    assert said == []
    there = mlflow.MlflowClient(server)
    (one,) = there.search_runs([there.get_experiment_by_name("ours").experiment_id])
    history = there.get_metric_history(one.info.run_id, "epoch/uar")
    assert {point.step: point.value for point in history} == {1: 0.25, 2: 0.5}
    assert (one.info.status, one.data.params) == ("FINISHED", {"train.lr": "0.5"})
    assert [file.path for file in there.list_artifacts(one.info.run_id)] == ["page.html"]
    assert not (tmp_path / "mlruns").exists()


class Failing:
    """A tracker whose service is gone at the first number."""

    def __init__(self, run: TrackedRun) -> None:
        self.run = run

    def open(self) -> None:
        pass

    def state(self, state: str) -> None:
        pass

    def file(self, path: Path) -> None:
        pass

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        raise ConnectionError("nobody answers\nat all")

    def close(self) -> None:
        raise AssertionError("it is told nothing more")


class Hanging(Failing):
    """One that never comes back."""

    released = Event()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.released.wait()

    def close(self) -> None:
        pass


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(TRACKERS.own, "failing", f"{__name__}:Failing")
    monkeypatch.setitem(TRACKERS.own, "hanging", f"{__name__}:Hanging")
    monkeypatch.setattr(background, "CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(background, "STOPPED_SECONDS", 0.1)
    monkeypatch.setattr(background, "MOST_WAITING", 8)
    yield
    Hanging.released.set()


@pytest.mark.usefixtures("odd")
def test_a_tracker_that_fails_or_hangs_stops_no_training(tracked_config: Config, tmp_path: Path) -> None:
    train_section = tracked_config.train.model_copy(update={"trackers": ("failing", "hanging"), "log_every": 1})
    config = tracked_config.model_copy(update={"train": train_section})
    fold = tmp_path / "run" / "fold-1"
    assert train(config, 1, fold).finished
    said = (fold / "log.txt").read_text()
    assert "the tracker failing failed (ConnectionError: nobody answers), and is told nothing more" in said
    assert "the tracker hanging was too slow, and lacks" in said
    assert len(points(fold)) > 10


@pytest.mark.usefixtures("odd")
def test_a_report_is_there_where_trackers_are_not(
    tracked_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = tracked_config.train.model_copy(update={"trackers": ("failing", "wandb")})
    config = tracked_config.model_copy(update={"train": section.model_copy(update={"trackers": ()})})
    run = runs.create(tmp_path / "run", tracked_config.model_copy(update={"train": section})).path
    assert train(config, 1, runs.fold_dir(run, 1)).finished
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert command(app, ["report", str(run)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "WARNING: the trackers are not told of the report (MissingDependencyError: " in said
    assert "'.[wandb]'" in said
    monkeypatch.undo()
    assert (run / "report" / "report.html").exists()


def test_a_package_that_is_missing_is_told_before_the_first_step(
    tracked_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingDependencyError, match=r"needs wandb.*\[wandb\]"):
        train(tracked_config, 1, tmp_path / "run" / "fold-1")
    assert optional.need("json", extra=None) is json
