"""`predict --faces`: a prediction of each person in a video, from their face and the sound of the same time."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_setup import CONTRACT, peak

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from make_media import FPS, grey, portrait, tone, write_images, write_video

from mmadfer.cli.predict import predict_files
from mmadfer.config.windows import WindowConfig
from mmadfer.data.sets import toy
from mmadfer.data.sets.toy import write_clip
from mmadfer.errors import ClipError, ConfigError
from mmadfer.runtime import Failure, Prediction, Recogniser, Video

LABELS = list(toy.TOY_CLASSES)


def alone(path: Path, half: slice, label: str, number: int) -> Path:
    """One of the two, with the other's place left grey."""
    (one, sound), (own, _) = toy.content("happy", 0, seed=1), toy.content(label, number, seed=1)
    pictures = np.full((min(len(one), len(own)), own.shape[1], 2 * own.shape[2], 3), 128, np.uint8)
    pictures[:, :, half] = own[: len(pictures)]
    write_clip(path, pictures, sound)
    return path


def of_people(model: Path, video: Path, faces: str | int = "all", **options: Any) -> Prediction:
    return Recogniser(model, faces=faces)(video, **options)


def test_each_person_is_predicted_as_if_the_other_were_not_there(onnx_file: Path, pair: Path, tmp_path: Path) -> None:
    found = of_people(onnx_file, pair)
    assert [one["person"] for one in found.people] == [1, 2]
    assert (found.label, found.probabilities, found.model["faces"]) == (None, {}, "all")
    width = toy.content("happy", 0, seed=1)[0].shape[2]
    halves = [("happy", 0, slice(0, width)), ("sad", 1, slice(width, None))]
    for person, segment, (label, number, half) in zip(found.people, found.segments, halves, strict=True):
        single = of_people(onnx_file, alone(tmp_path / f"{label}.mp4", half, label, number))
        assert [segment["person"], segment["start"]] == [person["person"], 0]
        near = pytest.approx(single.people[0]["probabilities"], abs=0.02)  # the two files are coded apart
        assert person["probabilities"] == near
        assert person["label"] == max(person["probabilities"], key=person["probabilities"].__getitem__)
        assert list(person["probabilities"]) == LABELS
        assert person["probabilities"] == pytest.approx(segment["probabilities"])
    boxes = [one["box"] for one in found.segments]
    assert boxes[0][0] < boxes[0][2] < 0.5 < boxes[1][0] < boxes[1][2] < 1


@pytest.mark.parametrize("options", [{}, {"window": 1, "hop": 0.5}])
def test_the_largest_is_the_default_and_the_same_to_the_bit(
    onnx_file: Path, pair: Path, video: Path, tmp_path: Path, options: dict[str, float]
) -> None:
    for number, path in enumerate((pair, video)):
        files = [(tmp_path / f"{number}{name}.json", tmp_path / f"{number}{name}.csv") for name in "ab"]
        assert predict_files([path], onnx_file, out=files[0], **options) == 0
        assert predict_files([path], onnx_file, out=files[1], **options, faces="largest") == 0
        for before, now in zip(*files, strict=True):
            assert before.read_bytes() == now.read_bytes()
        (told,) = json.loads(files[0][0].read_text())
        assert list(told) == ["video", "label", "probabilities", "segments", "model", "notes"]
        assert list(told["segments"][0]) == ["start", "end", "label", "probabilities", "notes"]
        assert "faces" not in told["model"]


def test_one_person_has_the_answer_of_the_largest(onnx_file: Path, video: Path) -> None:
    """The same frames are searched, and nobody else is there."""
    recogniser, all_ = Recogniser(onnx_file), Recogniser(onnx_file, faces="all")
    for one in (recogniser, all_):
        prepare = CONTRACT.prepare.model_copy(update={"detect_every": 5})
        one.backend.contract = CONTRACT.model_copy(update={"prepare": prepare})
    for options in ({}, {"window": 1.0}):
        (person,) = all_(video, **options).people
        assert person["probabilities"] == recogniser(video, **options).probabilities


def test_people_are_written_and_printed(
    onnx_file: Path, pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = (tmp_path / "out.json", tmp_path / "out.csv")
    assert predict_files([pair], onnx_file, out=files, window=1, faces="all") == 0
    (told,) = json.loads(files[0].read_text())
    assert list(told) == ["video", "people", "segments", "model", "notes"]
    assert list(told["people"][0]) == ["person", "start", "end", "label", "probabilities", "notes"]
    rows = list(csv.DictReader(files[1].read_text().splitlines()))
    assert list(rows[0])[:6] == ["video", "person", "start", "end", "label", "person_label"]
    segments = [(str(one["person"]), one["start"], one["end"], one["label"]) for one in told["segments"]]
    assert [(row["person"], float(row["start"]), float(row["end"]), row["label"]) for row in rows] == segments
    labels = {str(one["person"]): one["label"] for one in told["people"]}
    assert [row["person_label"] for row in rows] == [labels[row["person"]] for row in rows]
    assert [len(one["box"]) for one in told["segments"]] == [4] * len(rows)
    shown = " ".join(capsys.readouterr().out.split())
    assert "person 1" in shown
    assert "person 2" in shown


def test_as_many_as_are_asked_for_with_their_numbers(onnx_file: Path, tmp_path: Path) -> None:
    small = np.pad(portrait()[::2, ::2], ((0, 96), (0, 128), (0, 0)), mode="edge")
    path = write_video(tmp_path / "a.mkv", [np.concatenate([small, portrait()], axis=1)] * 25, tone(1))
    everyone = of_people(onnx_file, path)
    assert [one["person"] for one in everyone.people] == [1, 2]
    for count, numbers in ((1, [2]), (2, [1, 2]), ("12", [1, 2])):
        found = of_people(onnx_file, path, count)
        assert [one["person"] for one in found.people] == numbers
        assert [one for one in everyone.people if one["person"] in numbers] == found.people


def test_many_videos_with_jobs_and_batches_have_the_same_answers(onnx_file: Path, pair: Path, video: Path) -> None:
    recogniser = Recogniser(onnx_file, faces="all")
    together = list(recogniser.predict([pair, video, pair], jobs=2, batch=3, window=1))
    for path, found in zip((pair, video, pair), together, strict=True):
        single = recogniser(path, window=1)
        assert isinstance(found, Prediction)
        assert [(one["person"], one["label"]) for one in found.segments] == [
            (one["person"], one["label"]) for one in single.segments
        ]
        for one, other in zip(found.people, single.people, strict=True):
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


def test_nobody_is_a_failure_with_exit_code_2(
    onnx_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write_video(tmp_path / "grey.mkv", grey(50), tone(2)), tmp_path / "out.csv"
    assert predict_files([path], onnx_file, out=(out,), faces="all", window=1) == 2
    assert "none of 2 windows can be predicted: no face (in 2)" in " ".join(capsys.readouterr().out.split())
    (row,) = csv.DictReader(out.read_text().splitlines())
    assert (row["person"], row["label"]) == ("", "")
    assert "no face" in row["error"]
    (failure,) = Recogniser(onnx_file, faces=3).predict([path])
    assert isinstance(failure, Failure)
    assert failure.error.reason == "no face"


def test_no_sound_under_two_people(onnx_file: Path, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", [np.concatenate([portrait()] * 2, axis=1)] * 50, None)
    with pytest.raises(ClipError, match="has no sound") as caught:
        of_people(onnx_file, path, window=1)
    assert caught.value.reason == "no sound"
    assert predict_files([path], onnx_file, faces="all") == 2
    recogniser = Recogniser(onnx_file, faces="all")
    prepare = CONTRACT.prepare.model_copy(update={"no_sound": "silence"})
    recogniser.backend.contract = CONTRACT.model_copy(update={"prepare": prepare})
    found = recogniser(path)
    assert [one["person"] for one in found.people] == [1, 2]
    assert len([note for note in found.notes if "silence in its place" in note]) == 1


def test_sound_that_ends_is_missing_from_then_on(onnx_file: Path, tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "a.mkv", [np.concatenate([portrait()] * 2, axis=1)] * 75, tone(2), codecs=("ffv1", "flac")
    )
    found = of_people(onnx_file, path, window=1)
    assert [(one["person"], one["label"] is None) for one in found.segments[-2:]] == [(1, True), (2, True)]
    assert all("no sound" in one["notes"][0] for one in found.segments[-2:])
    assert any(note.startswith("no sound") and note.endswith("(in 1 of 3 windows)") for note in found.notes)


def test_twelve_people(onnx_file: Path, tmp_path: Path) -> None:
    wall = np.concatenate([np.concatenate([portrait()] * 4, axis=1)] * 3, axis=0)
    path = write_video(tmp_path / "wall.mkv", [wall] * 15, tone(0.6))
    found = of_people(onnx_file, path)
    assert [one["person"] for one in found.people] == list(range(1, 13))
    places = {(round(one["box"][0] * 4), round(one["box"][1] * 3)) for one in found.segments}
    assert len(places) == 12


def test_one_who_comes_and_goes_every_second_is_one_person(onnx_file: Path, tmp_path: Path) -> None:
    covered = portrait().copy()
    covered[50:135, 80:160] = 128
    there = [k // FPS % 2 == 0 for k in range(5 * FPS)]
    frames = [np.concatenate([portrait(), portrait() if own else covered], axis=1) for own in there]
    path = write_video(tmp_path / "a.mkv", frames, tone(5))
    found = of_people(onnx_file, path, window=1)
    assert [one["person"] for one in found.people] == [1, 2]
    assert [one["start"] for one in found.segments if one["person"] == 1] == [0, 1, 2, 3, 4]
    assert {0, 2, 4} <= {one["start"] for one in found.segments if one["person"] == 2}


def test_one_frame(onnx_file: Path, tmp_path: Path) -> None:
    images = write_images(tmp_path / "frames", [np.concatenate([portrait()] * 2, axis=1)])
    sound = write_video(tmp_path / "sound.mkv", grey(25), tone(1))
    for options in ({}, {"window": 1.0}):
        found = of_people(onnx_file, images, sound=sound, **options)
        assert [one["person"] for one in found.people] == [1, 2]
        assert Recogniser(onnx_file)(images, sound=sound, **options).label in LABELS


def test_a_video_that_is_too_long_is_told_of_windows(onnx_file: Path, pair: Path) -> None:
    recogniser = Recogniser(onnx_file, faces="all")
    prepare = CONTRACT.prepare.model_copy(update={"max_seconds": 2})
    recogniser.backend.contract = CONTRACT.model_copy(update={"prepare": prepare})
    with pytest.raises(ClipError, match="longer than 2 s: predict it in windows"):
        recogniser(pair)
    assert len(recogniser(pair, window=1).people) == 2


@pytest.mark.parametrize("wrong", ["nobody", "0", "-2", "1.5", ""])
def test_other_words_are_refused(onnx_file: Path, pair: Path, wrong: str) -> None:
    with pytest.raises(ConfigError, match="give largest, all, or a number of people"):
        predict_files([pair], onnx_file, faces=wrong)
    done = subprocess.run(
        [sys.executable, "-m", "mmadfer", "predict", str(pair), "--model", str(onnx_file), f"--faces={wrong}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "number of people" in " ".join(done.stderr.split())


def test_models_and_videos_without_people_are_refused(onnx_file: Path, pair: Path) -> None:
    from mmadfer.runtime.people import check_people

    union = CONTRACT.model_copy(update={"prepare": CONTRACT.prepare.model_copy(update={"face_box": "union"})})
    hearing = CONTRACT.model_copy(update={"modalities": "audio"})
    for contract, words in ((union, "face_box: union"), (hearing, "looks at no faces")):
        with pytest.raises(ConfigError, match=words):
            check_people("all", contract, onnx_file)
        assert check_people("largest", contract, onnx_file) == "largest"
    with pytest.raises(ConfigError, match="--cropped"):
        of_people(onnx_file, pair, cropped=True)
    with pytest.raises(ConfigError, match="--cropped"):
        list(Recogniser(onnx_file, faces=2).predict([Video(pair, cropped=True)]))
    recogniser = Recogniser(onnx_file, faces="all")
    recogniser.backend.contract = CONTRACT.model_copy(update={"window": WindowConfig()})
    with pytest.raises(ConfigError, match="--window 5 --hop 1"):
        recogniser(pair)
    assert len(recogniser(pair, window=1).people) == 2


@pytest.mark.slow
def test_six_minutes_take_no_more_memory_than_two(onnx_file: Path, tmp_path: Path) -> None:
    pair = np.concatenate([portrait()] * 2, axis=1)
    pictures = [np.roll(pair, k % 9, axis=0) for k in range(9)]
    two, six = (peak(onnx_file, tmp_path, pictures, minutes, "all") for minutes in (2, 6))
    assert (two[0], six[0]) == (80, 240)
    assert six[1] - two[1] < 40, (two, six)
