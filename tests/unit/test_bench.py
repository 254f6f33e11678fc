"""The benchmarks of inference and training run, their tables have every row, and they go on where one form fails."""

import os
import re
import subprocess
import sys
import time
from argparse import Namespace
from cProfile import Profile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PARTS = ["waiting for data", "forward", "backward", "all-reduce", "optimizer"]
LONG = 60
PROGRAM = Path(__file__).parents[2] / "bench" / "inference.py"


@pytest.fixture(autouse=True)
def _programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PROGRAM.parent))


@pytest.mark.slow
def test_every_form_is_measured_or_told_why_not() -> None:
    sizes = ("--clips", "2", "--batch", "2", "--rounds", "1", "--jobs", "1", "--precisions", "int8", "int3")
    command = [sys.executable, str(PROGRAM), "--small", "--device", "cpu", *sizes]
    env = {**os.environ, "CXX": str(PROGRAM.with_name("no-compiler")), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert not done.returncode, done.stderr
    for form, most in (("torch eager fp32", 1e-9), ("torch autocast bf16 *", 1e-1), ("ONNX Runtime int8", 1e-1)):
        found = re.search(rf"^{re.escape(form)} .* (\S+e\S+) +2/2$", done.stdout, re.MULTILINE)
        assert found is not None, done.stdout
        assert float(found[1]) < most, form
    assert re.search(r"^torch\.compile fp32 \*: not run: .*C\+\+ compiler", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^ONNX Runtime int3: not run: --precision int3", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^ONNX Runtime int8 +[0-9.]+$", done.stdout, re.MULTILINE), "from file to label"
    for step in ("find the face (MTCNN)", "decode H.264, two passes", "filter bank", "the model", "the rest"):
        assert re.search(rf"^{re.escape(step)} +[0-9.]+ +\d+%$", done.stdout, re.MULTILINE), step


def test_all_rounds_of_one_size_come_before_those_of_the_next() -> None:
    """Else an engine sets its sizes anew in each, and never launches its CUDA graph."""
    from _forms import Form
    from inference import measure

    seen: list[tuple[str, int]] = []

    def answer(name: str, frames: np.ndarray) -> np.ndarray:
        seen.append((name, len(frames)))
        return frames

    forms = {name: Form(partial(answer, name)) for name in "abc"}
    found = measure(forms, [(np.zeros((1, 2)),)] * 3, batch=4, rounds=2, untimed=3)
    assert [size for _, size in seen] == [1] * 15 + [4] * 15
    assert "".join(name for name, _ in seen) == "aaabbbccc" + "abcbca" + "aaabbbccc" + "abcbca"
    assert {len(own[size].seconds) for own in found.values() for size in (1, 4)} == {2}


def test_a_form_that_cannot_be_made_is_told_and_the_next_is_made() -> None:
    from _forms import Missing, run

    missing, work = Missing(), {"dies": partial(os._exit, 1), "fails": partial(int, "x"), "works": partial(Path, "x")}
    assert run(work, True, missing) == {"works": Path("x")}
    assert missing["dies"].startswith("BrokenProcessPool: ")
    assert missing["fails"].startswith("ValueError: invalid literal")


def test_two_files_of_one_name_are_two_forms() -> None:
    from _forms import given_files

    paths = [Path("one/fp32.onnx"), Path("two/fp32.onnx"), Path("two/int8.onnx")]
    assert given_files(paths) == dict(zip(("one/fp32.onnx", "two/fp32.onnx", "int8.onnx"), paths, strict=True))


def test_steps_that_a_model_does_not_need_can_be_left_out() -> None:
    from common import REST, by_step

    profiler = Profile()
    profiler.runcall(_pause)
    steps = {"pause": (Path(__file__).name, "_pause"), "sound": ("fbank.py", "fbank")}
    assert set(by_step(profiler, steps, every=False)) == {"pause", REST}
    with pytest.raises(LookupError, match="sound"):
        by_step(profiler, steps)


@pytest.mark.slow
def test_every_way_to_train_is_measured_beside_the_plain_one() -> None:
    few = ("--tests", "--clips", "2", "--rounds", "2", "--batches", "--sizes", "32", "48", "--ranks", "1", "2", "3")
    command = [sys.executable, str(PROGRAM.with_name("train.py")), "--small", *few]
    env = {**os.environ, "CXX": str(PROGRAM.with_name("no-compiler")), "OMP_NUM_THREADS": "1"}
    env["CUDA_VISIBLE_DEVICES"] = ""
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert not done.returncode, done.stderr
    for way, ratio, loss in (
        ("plain", "1.00", "0"),
        ("reference", r"\S+", "0"),
        ("fp32", r"\S+", r"\S+"),
        ("bf16", r"\S+", r"\S+"),
    ):
        assert re.search(rf"^{way} .* +\d+% +{ratio} +\S+ +{loss} +\S+$", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^bf16, compiled: not run: .*C\+\+ compiler", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^3 ranks: not run: they do not divide 2 clips$", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"clips/s +GFLOP/s +process, GB +test clips/s\n", done.stdout), done.stdout
    assert re.search(r"^48( +[0-9.,]+){8}$", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^2 clips .* \S+ GFLOP a step, \S+ forward and \S+ back", done.stdout, re.MULTILINE), done.stdout
    shares = re.findall(r"^(.+?) +\S+ +(\S+)% +\S+ +(\S+)%$", done.stdout, re.MULTILINE)
    assert [name for name, *_ in shares] == [*PARTS, "the rest"]
    for ranks in (1, 2):
        assert sum(float(row[ranks]) for row in shares) == pytest.approx(100, abs=0.5)
        told = [row for row in shares[:-1] if ranks > 1 or row[0] != "all-reduce"]  # which one rank hardly has
        assert all(float(row[ranks]) > 0 for row in told), done.stdout
    assert re.search(r"^CPU: times as fast as plain, \S+ +[0-9.]+ +3\.5 +(not )?met$", done.stdout, re.MULTILINE)


@pytest.mark.slow
def test_joints_are_measured_beside_the_sum() -> None:
    command = [
        sys.executable,
        str(PROGRAM.with_name("train.py")),
        "--small",
        "--joints",
        "--clips",
        "2",
        "--rounds",
        "1",
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert not done.returncode, done.stderr
    found = re.findall(
        r"^fp32, joint (\w+) +\S+ +(\S+) \(.*\) +\S+ +\S+ \(.*\) +([0-9.]+) +[0-9.]+$", done.stdout, re.M
    )
    assert [name for name, *_ in found] == ["sum", "concat", "jmt"]
    assert found[0][1] == "1.000"


@pytest.mark.slow
def test_terms_are_measured_beside_the_same_model_without() -> None:
    command = [sys.executable, str(PROGRAM.with_name("terms.py")), "--small", "--rounds", "1"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert not done.returncode, done.stderr
    found = re.findall(r"^(face and sound|frames alone) +(\S.*?) +\S+ +(\S+) \(", done.stdout, re.MULTILINE)
    rows = {"face and sound": ["none", "align"], "frames alone": ["none", "logits", "pkdot", "pkdot, t_net"]}
    assert [row[:2] for row in found] == [(model, term) for model, terms in rows.items() for term in terms]
    assert {ratio for _, term, ratio in found if term == "none"} == {"1.000"}
    assert re.search(r"^128 +30 +\S+$", done.stdout, re.MULTILINE), done.stdout


def test_the_operations_of_a_step_are_counted_without_doing_them() -> None:
    from _model import SMALL
    from _train_forms import flops

    from mmadfer.config.schema import ModelConfig

    assert flops(SMALL, 4).whole == 2 * flops(SMALL, 2).whole > 0
    work = flops(ModelConfig(), 1)
    forward = 2 * 85e6 * (16 * 107 + 263)  # two ViT-B: matrices of 85 million numbers for each token
    assert forward < work.forward < 1.2 * forward
    assert work.forward < work.back < 1.2 * work.forward
    attention = 12 * 2 * 2 * 768 * (16 * 107**2 + 263**2)  # each token's product with each other, twice
    assert attention < work.attention / 3 < 1.1 * attention
    assert (work.whole - work.attention) / 1e9 == pytest.approx(701, abs=0.5)


def test_the_goals_of_a_gpu_are_told_of_bfloat16_and_of_each_batch(capsys: pytest.CaptureFixture[str]) -> None:
    from _model import SMALL
    from _train_forms import Form, Way, flops
    from _train_goals import Row, print_goals
    from _train_points import Point

    def row(way: Way, step: float) -> Row:
        return Row(Form(way, None, ready=60.0), step, ratio=4 / step, rate=0.0, share=0.0)  # type: ignore[arg-type]

    rows = [row(Way(), 4.0), row(Way("bf16"), 2.0), row(Way("bf16", True), 1.0), row(Way("fp8", True), 0.5)]
    work = flops(SMALL, 8)
    peaks = {"float32": [1.0], "bfloat16": [(work.whole - work.attention) / 0.4], "float8": [1.0]}
    point = Point(step=0.1, ready=1.0, memory=0, test=0.001, test_ready=30.0, parts={})
    found = {(8, 32, 1): point, (64, 32, 1): replace(point, ready=90.0), (8, 48, 1): point, (8, 32, 2): point}
    print_goals(Namespace(device="cuda", model=SMALL, batch=8), rows, peaks, found)
    told = re.findall(r"^GPU: (.*?) {2,}(\S+) +(\S+) +(met|not met)$", capsys.readouterr().out, re.MULTILINE)
    every = 25 * 2_341 * 0.001
    assert told == [
        ("times as fast as plain, fp8, compiled", "8", "8", "met"),
        ("share of the bfloat16 peak, bf16, compiled", "0.4", "0.45", "not met"),
        (
            "minutes for 25 x 9356 clips, 8 in a step, bf16, compiled",
            f"{(60 + 30 + 25 * 9_356 / 8 * 0.1 + every) / 60:.3g}",
            "10",
            "not met",
        ),
        (
            "minutes for 25 x 9356 clips, 64 in a step, bf16, compiled",
            f"{(90 + 30 + 25 * 9_356 / 64 * 0.1 + every) / 60:.3g}",
            "10",
            "met",
        ),
    ]


@pytest.mark.slow
def test_where_a_rank_fails_the_others_are_ended() -> None:
    from _model import SMALL
    from _train_points import Job, apart

    from mmadfer.config.schema import TrainConfig

    job = Job(Path(), SMALL, TrainConfig(), rounds=1, steps=1, threads=1, parts=False, tests=False, ranks=2)
    begun = time.monotonic()
    with pytest.raises(Exception, match="clip 7 is damaged"):
        apart(job, _second_fails)
    assert time.monotonic() - begun < LONG


def test_a_machine_is_told_with_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from common import machine

    import mmadfer

    code = tmp_path / "__init__.py"
    monkeypatch.setattr(mmadfer, "__file__", str(code))
    code.write_text("")
    _git(tmp_path, "init")
    assert "commit" not in machine(), "of a checkout that does not know this file"
    _git(tmp_path, "add", "--all")
    _git(tmp_path, "-c", "user.name=one", "-c", "user.email=one@example.org", "commit", "--message=first")
    head = _git(tmp_path, "rev-parse", "--short", "HEAD")
    assert machine().endswith(f"; commit {head}")
    code.write_text("changed")
    assert machine().endswith(f"; commit {head}-dirty")


def test_numbers_have_three_digits_and_no_exponents() -> None:
    from common import short

    assert [short(value) for value in (17_920.4, 8_340, 100, 99.96, 12.345, 0.0123)] == [
        "17,920",
        "8,340",
        "100",
        "100",
        "12.3",
        "0.0123",
    ]


def _second_fails(job: Any) -> None:
    if job.rank:
        raise ValueError("clip 7 is damaged")
    time.sleep(LONG)


def _git(where: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=where, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _pause() -> None:
    time.sleep(0.01)


def test_every_addition_that_is_compared_changes_the_recipe() -> None:
    from extras import ADDITIONS

    from mmadfer.config.schema import load

    plain, one_by_one = load("demo"), [load("demo", settings) for settings in ADDITIONS.values()]
    assert all(config != plain for config in one_by_one)
    together = load("demo", [setting for settings in ADDITIONS.values() for setting in settings])
    assert (together.data.sampler, together.train.ema, together.model.lora.rank) == ("balanced", 0.95, 8)


@pytest.mark.slow
def test_people_in_scenes_of_real_faces_keep_their_numbers() -> None:
    """And hardly a face is missed; the videos are fetched, where they are to be had."""
    import faces

    folder = PROGRAM.parents[1] / "build" / "faces"
    try:
        faces.fetch(folder)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no videos of real faces can be fetched ({error})")
    command = [sys.executable, str(PROGRAM.with_name("faces.py")), "--media", str(folder), "--seconds", "6"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    scenes = {"two": 2, "three": 3, "crossing": 2, "covered": 2, "jumps": 2, "views": 3}
    done = subprocess.run(
        [*command, "--only", *scenes], env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert not done.returncode, done.stderr
    for name, people in scenes.items():
        found = re.search(rf"^{name} +(\d+) +(\d+) of (\d+) +(\d+) +(\d+) +(\d+) ", done.stdout, re.MULTILINE)
        assert found is not None, done.stdout
        number, missed, known, extra, switches, mixed = map(int, found.groups())
        assert (number, extra, switches, mixed) == (people, 0, 0, 0), name
        assert missed <= 0.02 * known, name


def test_without_its_videos_the_program_of_faces_says_so(tmp_path: Path) -> None:
    command = [sys.executable, str(PROGRAM.with_name("faces.py")), "--media", str(tmp_path)]
    env = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert not done.returncode, done.stderr
    assert "bench/faces.py is skipped: its videos are not to be had here" in done.stdout
