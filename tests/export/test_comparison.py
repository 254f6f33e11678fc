"""Verdicts on made-up logits."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mmadfer.errors import ParityError
from mmadfer.export.parity.comparison import Form, ParityComparison, Reading, check_parity, logit_differences
from mmadfer.export.parity.picture import draw_picture
from mmadfer.export.parity.tables import show_parity
from mmadfer.export.parity.tolerance import TOLERANCES

INF, NAN = float("inf"), float("nan")


def compared(reference: np.ndarray, *candidates: tuple[str, np.ndarray]) -> ParityComparison:
    """Clips of two classes, every second one truly of the second."""
    names = [f"clip-{i}" for i in range(len(reference))]
    one = reference.astype(np.float32)
    return ParityComparison(
        labels=("happy", "sad"),
        ids=names,
        media=[f"{name}.mp4" for name in names],
        truth=[i % 2 for i in range(len(names))],
        reference=Form("torch", one),
        forms=[Form(f"{kind}.onnx", logits.astype(np.float32), kind) for kind, logits in candidates],
        served=Reading("torch, as served", one, *np.zeros((2, len(one)))),
        stored=Reading("torch, from the store", one, *np.zeros((2, len(one)))),
    )


def right(clips: int) -> np.ndarray:
    """Logits that are right for every clip."""
    return np.eye(2)[np.arange(clips) % 2]


def flipped(clips: int, *which: int) -> np.ndarray:
    logits = right(clips)
    logits[list(which)] = logits[list(which), ::-1]
    return logits


@pytest.mark.parametrize(
    ("kind", "shift", "passes"),
    [
        ("fp32", 0.00005, True),
        ("fp32", 0.001, False),
        ("fp16", 0.019, True),
        ("fp16", 0.021, False),
        ("bf16", 0.019, True),
        ("int8", 0.3, True),
        ("fp8", 0.3, True),
        *((kind, value, False) for kind in TOLERANCES for value in (NAN, INF)),
    ],
)
def test_a_logit_that_moves(kind: str, shift: float, passes: bool) -> None:
    moved = right(4)
    moved[1, 0] += shift
    comparison = compared(right(4), (kind, moved))
    assert comparison.passed == passes
    if passes:
        return check_parity(comparison)
    with pytest.raises(ParityError, match=f"{kind}.onnx .* clip 'clip-1', clip-1.mp4, is furthest apart"):
        check_parity(comparison)
    return None


@pytest.mark.parametrize(
    ("kind", "clips", "which", "fault"),
    [
        ("fp32", 400, (0,), "99.75% of the labels are equal"),
        ("fp16", 200, (0,), ""),
        ("fp16", 200, (0, 1), "99.00% of the labels are equal"),
        ("bf16", 200, (0,), ""),
        ("int8", 200, (0, 1), ""),
        ("int8", 200, (0, 1, 2, 3), "UAR differs by 2.00 points"),
        ("int8", 200, (0, 1, 2), "UAR differs by 1.50 points"),
        ("fp8", 100, (0, 1, 2), "97.00% of the labels are equal"),
    ],
)
def test_labels_and_scores(kind: str, clips: int, which: tuple[int, ...], fault: str) -> None:
    close = right(clips) * 1e-5  # so near to each other that labels flip within any difference
    comparison = compared(close, (kind, flipped(clips, *which) * 1e-5))
    assert comparison.passed == (not fault)
    (form,) = comparison.forms
    assert fault in " ".join(comparison.faults(form))
    assert comparison.flips(form) == [f"clip-{i}" for i in which]


def test_wrong_labels_that_even_out_are_found() -> None:
    """Half of the labels of a reference that is never right: the score stays, the labels do not."""
    wrong = right(100)[:, ::-1]
    other = wrong.copy()
    other[:50] = [[2.0, 2.5]] * 50
    (form,) = compared(wrong, ("int8", other)).forms
    assert compared(wrong, ("int8", other)).faults(form)[0].startswith("75.00% of the labels")


def test_one_form_that_fails_does_not_hide_another() -> None:
    far = right(4) + 1
    comparison = compared(right(4), ("fp32", right(4)), ("fp16", far), ("int8", flipped(4, 2)))
    assert [form["passed"] for form in comparison.to_dict()["forms"]] == [True, False, False]
    with pytest.raises(ParityError, match=r"fp16\.onnx .*; int8\.onnx .*UAR differs by 25\.00 points"):
        check_parity(comparison)


def test_differences_are_over_all_logits() -> None:
    apart = logit_differences(np.zeros((2, 2), np.float32), np.array([[0, 0], [1, 3]], np.float32))
    assert (apart["max"], apart["mean"], apart["median"], apart["label_agreement"]) == (3, 1, 0.5, 0.5)
    nothing = logit_differences(np.zeros((2, 2), np.float32), np.array([[0, 0], [NAN, 3]], np.float32))
    assert (nothing["max"], nothing["median"]) == (None, 1.5)  # JSON has no infinity


@pytest.mark.parametrize(
    ("clips", "frames", "sound", "flips", "fault"),
    [
        (100, 0.9, 0.009, 2, ""),
        (100, 1.1, 0, 0, "frames differ in 3 of 100 clips, by up to 1.1 (at most 1 is accepted, and more in 2 clips)"),
        (100, 0, 0.02, 0, "filter banks differ in 3 of 100 clips, by up to 0.02"),
        (100, NAN, 0, 0, "frames differ in 3 of 100 clips"),
        (100, 0, 0, 3, "3 of 100 clips get another label, at most 2 may"),
        (50, 0, 0, 1, ""),
        (49, 0, 0, 1, "1 of 49 clips get another label, at most 0 may"),
        (7, 0.6, 0, 0, ""),
        (5, 0.6, 0, 0, "frames differ by 0.6 in the median clip (at most 0.05 is accepted)"),
        (5, 0, 0.0099, 0, "filter banks differ by 0.0099 in the median clip (at most 0.0001 is accepted)"),
    ],
)
def test_a_reading_has_a_bound(clips: int, frames: float, sound: float, flips: int, fault: str) -> None:
    one = right(clips).astype(np.float32)
    off = np.zeros((2, clips))
    off[:, :3] = [[frames], [sound]]
    other = Reading("torch, read so", flipped(clips, *range(flips)).astype(np.float32), *off, cure="Mend it.")
    told = replace(compared(one, ("fp32", one)), stored=other)
    assert told.passed == (not fault)
    assert fault in " ".join(told.reading_faults(other))
    if fault:
        with pytest.raises(ParityError, match=r"^torch, read so: .*; the worst is clip 'clip-0'\. Mend it\.$"):
            check_parity(told)


@pytest.mark.parametrize(("which", "faults"), [((0,), []), ((0, 2), ["UAR differs by 2.00 points, at most 1"])])
def test_forms_are_held_against_pytorch_on_the_same_arrays(which: tuple[int, ...], faults: list[str]) -> None:
    """Logits that the reading moves are not the graph's fault; of 8 bits labels are asked of the whole way, too."""
    served = flipped(100, *which).astype(np.float32)
    made = compared(right(100), ("fp32", served), ("int8", served))
    told = replace(made, served=replace(made.served, logits=served))
    assert told.faults(told.forms[0]) == []
    expected = [f"against PyTorch on its own arrays, {fault} is accepted" for fault in faults]
    assert told.faults(told.forms[1]) == expected


def test_one_clip_that_is_read_wrongly_is_found() -> None:
    """A black one, or one with red and blue exchanged."""
    one = right(40).astype(np.float32)
    off = np.zeros((2, 40))
    off[0, 7] = 9.0
    told = replace(compared(one, ("fp32", one)), served=Reading("torch, as served", one, *off))
    with pytest.raises(ParityError, match=r"frames differ in 1 of 40 clips, .*; the worst is clip 'clip-7'"):
        check_parity(told)


def test_a_simulated_form_does_not_pass() -> None:
    made = compared(right(100), ("bf16", right(100)), ("fp16", right(100)))
    simulated = replace(made.forms[0], simulated=True, note="not run, simulated: because")
    told = replace(made, forms=[simulated, made.forms[1]])
    check_parity(told)
    assert (told.passed, told.verdict(simulated), told.to_dict()["forms"][0]["passed"]) == (None, "simulated", None)
    text = io.StringIO()
    show_parity(told, Console(file=text, width=80))
    assert "simulated" in text.getvalue()
    assert "…" not in text.getvalue()
    far = replace(simulated, logits=simulated.logits + 1)
    assert replace(told, forms=[far]).passed is False


def test_a_note_is_told_with_the_fault() -> None:
    made = compared(right(4), ("fp32", right(4) + 1e-3))
    with pytest.raises(ParityError, match=r"furthest apart; it was built with --tf32"):
        check_parity(replace(made, forms=[replace(made.forms[0], note="it was built with --tf32")]))


def test_few_clips_and_classes_without_any_are_told() -> None:
    assert list(compared(right(100)).remarks()) == []
    assert list(compared(right(1)).remarks()) == [
        "1 clips are few: a proof has 100 or more",
        "no clip is of class sad",
    ]


def test_what_a_person_sees() -> None:
    moved = right(4)
    moved[2, 0] = NAN
    comparison = compared(right(4), ("fp32", right(4)), ("int8", moved))
    comparison.not_run["model.engine"] = "no GPU [here]"
    text = io.StringIO()
    show_parity(comparison, Console(file=text, width=80))
    told = text.getvalue()
    assert "int8.onnx, furthest apart: clip-2 not finite, clip-0 0.0e+00" in told
    assert "model.engine was not run: no GPU [here]" in told
    assert "…" not in told  # nothing is cut off, not in 80 columns either
    assert ("passes" in told, "differs" in told) == (True, True)


def test_the_picture_shows_every_form(tmp_path: Path) -> None:
    rng, one = np.random.default_rng(0), right(60)
    holes = one + 0.01 * rng.standard_normal(one.shape)
    holes[3] = NAN
    comparison = compared(one, ("fp32", one), ("fp16", one + 1e-3), ("int8", holes), ("fp8", flipped(60, 1)))
    draw_picture(comparison, tmp_path / "parity.svg")
    drawn = (tmp_path / "parity.svg").read_text()
    assert all(f"{kind}.onnx ({kind}) " in drawn for kind in ("fp32", "fp16", "int8", "fp8"))
    assert all(words in drawn for words in ("fp32: at most 0.0001", "fp16: at most 0.02", "60 clips from file"))
    assert "int8: at most" not in drawn
