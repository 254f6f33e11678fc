"""`mmadfer adapt`: a tiny model adapted to one person from real videos, what it writes, and what it refuses."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from setting import LABELS, make_config, make_store

from mmadfer import Recogniser
from mmadfer import load as load_model
from mmadfer.cli.adapt import publish
from mmadfer.cli.main import app
from mmadfer.cli.main import run as command
from mmadfer.data.sets import toy
from mmadfer.data.store.store import Store, write_store
from mmadfer.data.video_windows import Windows
from mmadfer.distributed.signals import stop_on_signals
from mmadfer.errors import ConfigError, DataError
from mmadfer.export.to_weights import to_weights
from mmadfer.run import directory as runs
from mmadfer.runtime.arrays import from_record
from mmadfer.runtime.inputs import Video, read_parts
from mmadfer.train import person
from mmadfer.train.loop import train
from mmadfer.train.person import Answers, _refuse_worse
from mmadfer.train.person_store import write_person_store
from mmadfer.utils.files import sha256
from mmadfer.utils.temporary_folders import workplace

FAST = ["--window", "1", "--hop", "0.4", "--jobs", "1"]
QUICK = {"adapt.threshold": 0.34, "train.batch_size": 8, "train.epochs": 2, "train.lr": 1e-3}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 clips of six people."""
    folder = tmp_path_factory.mktemp("people")
    with Store(make_store(folder / "plain.store")) as plain:
        people = (
            (replace(clip, subject=f"p{k // 4}"), plain.read(name))
            for k, (name, clip) in enumerate(plain.clips.items())
        )
        write_store(folder / "people.store", replace(plain.header, fingerprint="six people"), people)
    return folder / "people.store"


@pytest.fixture(scope="module")
def run(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fold 2 of a run, of one epoch."""
    config = make_config(store, epochs=1)
    made = runs.create(tmp_path_factory.mktemp("run") / "first", config)
    assert train(config, 2, made.fold(2)).finished
    return made.path


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos of three seconds, and a file that is none."""
    root = tmp_path_factory.mktemp("toy")
    toy.make(root, clips_per_class=1, jobs=1)
    folder = root / "mira"
    folder.mkdir()
    for path in root.glob("*/*.mp4"):
        path.rename(folder / path.name)
    (folder / "torn.mp4").write_bytes(b"no video")
    return folder


def words(model: Path, videos: Path, out: Path, *more: object, **changes: float) -> list[str]:
    settings = [text for key, value in {**QUICK, **changes}.items() for text in ("--set", f"{key}={value}")]
    return ["adapt", str(model), "--videos", str(videos), "--out", str(out), *FAST, *settings, *map(str, more)]


@pytest.fixture(scope="module")
def adapted(run: Path, videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "mira.safetensors"
    assert command(app, words(run, videos, out, "--fold", 2)) == 0
    return out


@pytest.mark.slow
def test_the_model_is_for_this_person_and_predicts_otherwise_than_before(
    adapted: Path, run: Path, videos: Path
) -> None:
    before, after = load_model(run, fold=2), load_model(adapted)
    assert before.contract is not None
    assert after.contract is not None
    facts = after.contract.adapted
    assert facts is not None
    assert (facts.people, facts.name, facts.share) == (("mira",), "tiny", None)
    assert facts.weights_hash == before.contract.weights_hash != after.contract.weights_hash
    assert after.contract.metrics == {}
    assert (after.contract.labels, after.contract.priors) == (LABELS, before.contract.priors)
    frozen = before.frozen()
    assert all(torch.equal(value, frozen[key]) for key, value in after.frozen().items())
    learned = before.learned()
    moved = {key.split(".")[0] for key, value in after.learned().items() if not torch.equal(value, learned[key])}
    assert moved == {"temporal", "classifier"}
    assert [path.name for path in adapted.parent.iterdir()] == [adapted.name], "nothing else is left"

    video = sorted(videos.glob("*.mp4"))[0]
    said = [Recogniser(path, fold=fold)(video, window=1, hop=0.4) for path, fold in ((run, 2), (adapted, None))]
    assert said[0].model.get("adapted_to") is None
    assert said[1].model["adapted_to"] == ["mira"]
    surest = [max(one.probabilities.values()) for one in said]
    assert surest[1] > surest[0], "pseudo-labels make it surer"


@pytest.mark.slow
def test_a_file_beside_a_store_gives_the_same_model_as_its_run(
    adapted: Path, run: Path, store: Path, videos: Path, tmp_path: Path
) -> None:
    """The one that is the same in a run and in a file; made in another process's way: twice the same bytes."""
    whole = to_weights(run, tmp_path / "tiny.safetensors", fold=2)
    out = tmp_path / "out" / "mira.safetensors"
    assert command(app, words(whole, videos, out, "--data", store)) == 0
    assert out.read_bytes() == adapted.read_bytes()


@pytest.mark.slow
def test_what_cannot_be_adapted_is_refused_and_nothing_is_written(
    run: Path, store: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone, empty, out = tmp_path / "alone", tmp_path / "empty", tmp_path / "out" / "x.safetensors"
    for folder in (alone, empty):
        folder.mkdir()
    shutil.copy(sorted(videos.glob("*.mp4"))[0], alone / "one.mp4")
    shutil.copy(alone / "one.mp4", alone / "copy.mp4")
    plain = make_store(tmp_path / "plain.store")
    whole = to_weights(run, tmp_path / "tiny.safetensors", fold=2)
    for told, arguments in {
        "1 of 2 videos can be used, and two are needed": words(run, alone, out, "--fold", 2),
        "0 of 1 videos can be used": words(run, empty, out, "--fold", 2),
        "clips without a subject (c00": words(whole, alone, out, "--data", plain),
        "does not say where its training clips are": words(whole, alone, out),
        "has labelled clips of 'p1'": words(run, alone, out, "--fold", 2, "--name", "p1"),
        "--set data.split=folds: here adapt.* and train.*": [*words(run, alone, out), "--set", "data.split=folds"],
        "nobody knows those of a person's own videos": [*words(run, alone, out), "--set", "adapt.labels=given"],
        "must end in .safetensors": words(run, alone, tmp_path / "x.onnx"),
        "exists, and may be another person's": words(run, alone, whole),
    }.items():
        assert command(app, arguments) == 2
        assert told in capsys.readouterr().err
    assert not out.exists()
    assert [*out.parent.iterdir()] == []


@pytest.mark.slow
def test_an_unsure_model_is_not_adapted(
    run: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = words(run, videos, tmp_path / "x.safetensors", "--fold", 2, **{"adapt.threshold": 0.999})
    assert command(app, arguments) == 2
    told = capsys.readouterr().err
    assert "no clip has a pseudo-label, so nothing was written: the model must be surer of it than 0.999" in told
    assert "left out: " in told
    assert "torn.mp4" in told
    assert [*tmp_path.iterdir()] == []


@pytest.mark.slow
def test_asked_to_stop_it_says_so_and_nothing_of_the_model(
    run: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real signal, the n-th time that it looks for one; the last times, it asks how sure the model is."""
    arguments = words(run, videos, tmp_path / "x.safetensors", "--fold", 2, **{"adapt.threshold": 0.999})
    told = dict[int, tuple[int, str]]()
    for number in range(1, 100):
        monkeypatch.setattr(person, "stop_on_signals", partial(signalled, number))
        code = command(app, arguments)
        told[number] = code, capsys.readouterr().err
        if code == 2:
            break
    *stopped, last = told.values()
    assert len(stopped) > 5
    assert {code for code, _ in stopped} == {130}
    assert not any("sure" in said for _, said in stopped)
    assert all(said.endswith("\nstopped: nothing was written\n") for _, said in stopped)
    assert "no clip has a pseudo-label, so nothing was written" in last[1]
    assert [*tmp_path.iterdir()] == []


@pytest.mark.slow
def test_stopped_when_the_model_is_there_it_does_not_say_that_nothing_is(
    run: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real ctrl-C, between the name of the file and the end of the command."""
    out = tmp_path / "x.safetensors"
    monkeypatch.setattr("mmadfer.cli.adapt.sync", lambda folder: os.kill(os.getpid(), signal.SIGINT))
    assert command(app, words(run, videos, out, "--fold", 2)) == 130
    said = " ".join(capsys.readouterr().err.split())
    assert said.endswith(f"stopped: {out} may be there already; if it is, it is whole")
    assert load_model(out).contract is not None
    assert [*tmp_path.iterdir()] == [out]


@pytest.mark.slow
def test_an_error_names_the_persons_videos_and_no_file_that_is_gone(
    run: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    out = Path("out") / "x.safetensors"
    of_both = f"the temporary store of {videos} and the labelled clips"
    for told, setting in {
        f"fold 1 of {of_both} leaves 12 training clips": "train.batch_size=1000",
        "error: --set breaks 1 rule(s):\n  train.lr: Input should be a valid number": "train.lr=fast",
        "error: --set breaks 1 rule(s):\n  train.bogus: unknown key": "train.bogus=1",
    }.items():
        assert command(app, [*words(run, videos, out, "--fold", 2), "--set", setting]) == 2
        said = capsys.readouterr().err
        assert told in said
        assert str(tmp_path / "out") not in said
        assert ".x.safetensors." not in said
    limited = ["bash", "-c", 'ulimit -f 20; exec "$@"', "-", sys.executable, "-m", "mmadfer"]
    full = subprocess.run(
        [*limited, *words(run, videos, out, "--fold", 2)], capture_output=True, text=True, check=False
    )
    assert full.returncode == 2
    assert f"error: {of_both} could not be written: File too large" in full.stderr
    assert ".x.safetensors." not in full.stderr
    assert [*out.parent.iterdir()] == []


@pytest.mark.slow
def test_two_at_once_neither_lose_nor_mix_files(adapted: Path, run: Path, videos: Path, tmp_path: Path) -> None:
    """With one --out, the file of one of them is there and the other is refused; with two, each is as one alone."""
    outs = tmp_path / "mira.safetensors", tmp_path / "mira.safetensors", tmp_path / "other.safetensors"
    begun = [
        subprocess.Popen(
            [sys.executable, "-m", "mmadfer", *words(run, videos, out, "--fold", 2, "--name", "mira")],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for out in outs
    ]
    said = [process.communicate() for process in begun]
    assert sorted(process.returncode for process in begun[:2]) == [0, 2], said
    refused = next(error for process, (_, error) in zip(begun, said, strict=True) if process.returncode)
    assert f"{outs[0]} exists, and may be another person's model" in refused
    assert begun[2].returncode == 0, said[2]
    assert {path.name for path in tmp_path.iterdir()} == {"mira.safetensors", "other.safetensors"}
    assert all(out.read_bytes() == adapted.read_bytes() for out in outs)


def test_of_files_published_at_once_one_has_the_name(tmp_path: Path) -> None:
    def attempt(made: Path) -> bool:
        ready.wait()
        try:
            publish(made, out)
        except ConfigError:
            return False
        return True

    for number in range(50):
        out, ready = tmp_path / f"{number}.safetensors", threading.Barrier(4)
        files = [tmp_path / f"{number}-{k}" for k in range(4)]
        for file in files:
            file.write_text(file.name)
        with ThreadPoolExecutor(4) as pool:
            won = [*pool.map(attempt, files)]
        assert sum(won) == 1
        assert out.read_text() == files[won.index(True)].name


@contextmanager
def signalled(number: int) -> Iterator[Callable[[], bool]]:
    """As `stop_on_signals`, with SIGTERM to this process when it is asked for the time `number`."""
    with stop_on_signals() as stop:
        asked = count(1)

        def ask() -> bool:
            if next(asked) == number:
                os.kill(os.getpid(), signal.SIGTERM)
            return stop()

        yield ask


@pytest.mark.slow
def test_the_persons_clips_are_what_predict_looks_at(run: Path, store: Path, videos: Path, tmp_path: Path) -> None:
    contract, video, windows = load_model(run, fold=2).contract, Video(sorted(videos.glob("*.mp4"))[0]), Windows(1, 0.4)
    assert contract is not None
    with Store(store) as opened:
        sources = [opened.clips["c00"], opened.clips["c05"]]
        read = write_person_store(tmp_path / "p.store", contract, "mira", [video, video], windows, (opened, sources))
        kept = opened.raw("c05")
        known = [replace(sources[0], sha256=sha256(video.path))]
        none = write_person_store(tmp_path / "n.store", contract, "mira", [video], windows, (opened, known))
    assert (read.videos, len(read.problems)) == (1, 1)
    assert none.problems == [f"{video.path} is among the labelled clips, as one of 'p0'"]
    assert none.clips == 0
    parts = [part.inputs for part in read_parts(video, contract, windows) if part.inputs is not None]
    with Store(tmp_path / "p.store") as made:
        assert made.raw("c05") == kept
        own = [name for name, clip in made.clips.items() if clip.subject == "mira"]
        assert len(own) == read.clips == len(parts)
        for name, inputs in zip(own, parts, strict=True):
            again = from_record(made.read(name), contract)
            assert all(np.array_equal(one, other) for one, other in zip(again, inputs, strict=True))


def answers(*rows: tuple[float, float]) -> Answers:
    """Of two labels: the first one's probability of a clip, and of its mirror image."""
    plain, mirrored = torch.tensor(rows, dtype=torch.float64).T
    return Answers(torch.stack([plain, 1 - plain], 1), torch.stack([mirrored, 1 - mirrored], 1))


def test_a_model_that_is_worse_by_its_own_check_is_refused() -> None:
    before = answers((0.8, 0.7), (0.3, 0.4), (0.9, 0.6))
    assert before.agreement == 1
    assert before.consistency == pytest.approx((0.62 + 0.54 + 0.58) / 3)
    assert before.confidence.tolist() == pytest.approx([0.75, 0.65, 0.75])
    _refuse_worse(before, answers((0.9, 0.8), (0.2, 0.3), (0.9, 0.7)), "mira")
    with pytest.raises(DataError, match=r"worse by its own check.* on 3 held-out clips of mira, 100.0% agree .* 66.7%"):
        _refuse_worse(before, answers((0.8, 0.4), (0.3, 0.4), (0.9, 0.6)), "mira")
    unsure = answers((0.6, 0.6), (0.6, 0.6), (0.4, 0.4))
    sharp = answers((0.95, 0.95), (0.95, 0.95), (0.45, 0.55))
    assert sharp.consistency > unsure.consistency
    with pytest.raises(DataError, match=r"worse by its own check.* 100\.0% agree .* 66\.7%"):
        _refuse_worse(unsure, sharp, "mira")
    with pytest.raises(DataError, match="tells one label of every held-out clip"):
        _refuse_worse(before, answers((0.99, 0.99), (0.9, 0.9), (0.99, 0.99)), "mira")


@pytest.mark.slow
def test_a_kill_in_the_middle_leaves_nothing_that_the_next_does_not_remove(
    run: Path, videos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mira.safetensors"
    begun = subprocess.Popen([sys.executable, "-m", "mmadfer", *words(run, videos, out, "--fold", 2)])
    while not any(tmp_path.glob(".mira.safetensors.*/.person.store.*")):
        assert begun.poll() is None, "it ended before it was killed"
        time.sleep(0.02)
    os.kill(begun.pid, signal.SIGKILL)
    begun.wait()
    assert not out.exists()
    with workplace(out) as folder:
        assert [*tmp_path.iterdir()] == [folder]
