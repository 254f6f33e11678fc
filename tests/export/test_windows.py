"""Long videos in windows: each window is predicted as if it had been cut out of the video."""

import csv
import json
import sys
import wave
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from export_setup import CONTRACT, peak

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from make_media import FPS, RATE, damage, grey, moving_face, sound_frames, tone, write_images, write_video
from rich.console import Console

from mmadfer.cli.predict import predict_files
from mmadfer.config.schema import PrepareConfig
from mmadfer.data.clip import read_clip
from mmadfer.data.media import decode
from mmadfer.data.video_windows import Windows, read_windows
from mmadfer.errors import ClipError, ConfigError
from mmadfer.runtime import Failure, Prediction, Recogniser, Video
from mmadfer.runtime.writers import print_predictions

EVERY_FRAME = PrepareConfig(face_size=64, detect_every=1)
SILENCE = EVERY_FRAME.model_copy(update={"no_sound": "silence"})


def few(count: int) -> list[int]:
    """Four frames, as the tiny model sees them."""
    return [count * k // 4 for k in range(4)]


def chirp(seconds: float) -> np.ndarray:
    """Sound of which no part is like another."""
    times = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * (200 + 150 * times) * times)).astype(np.float32)[None]


def write_wav(path: Path, sound: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.round(sound[0] * 32768).astype(np.int16).tobytes())
    return path


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds with a face, but for 2 to 4 s, with sound up to 5 s; without loss, so that parts can be compared."""
    path = tmp_path_factory.mktemp("long") / "long.mkv"
    pictures = moving_face(6 * FPS)
    pictures[2 * FPS : 4 * FPS] = grey(2 * FPS)
    return write_video(path, pictures, chirp(5), codecs=("ffv1", "flac"), pixels="bgr0")


@pytest.mark.parametrize(
    ("seconds", "window", "hop", "starts"),
    [
        (6, 2, 1, [0, 1, 2, 3, 4]),
        (6, 2, 2, [0, 2, 4]),
        (6.52, 2, 2, [0, 2, 4, 4.52]),
        (1.92, 2, 1, [0]),
        (2, 2, 1, [0]),
        (2.04, 2, 0.5, [0, 0.04]),
        (0.08, 2, 1, [0]),
    ],
)
def test_windows_cover_a_video(seconds: float, window: float, hop: float, starts: list[float]) -> None:
    spans = Windows(window, hop).spans(np.arange(round(seconds * FPS)) / FPS)
    assert [start for start, _ in spans] == pytest.approx(starts)
    assert spans[-1][1] == pytest.approx(seconds)
    assert {round(end - start, 6) for start, end in spans} == {min(window, seconds)}


@pytest.mark.parametrize(
    ("window", "hop"), [(0, 1), (5, 0), (5, 1e-5), (5, 6), (-5, -1), (float("nan"), 1), (float("inf"), 1)]
)
def test_windows_that_cannot_be_are_refused(onnx_file: Path, video: Path, window: float, hop: float) -> None:
    with pytest.raises(ConfigError, match="--window 5 --hop 1"):
        Recogniser(onnx_file)(video, window=window, hop=hop)
    with pytest.raises(ConfigError, match="--window"):
        Recogniser(onnx_file)(video, hop=1)


@pytest.mark.parametrize("face_box", ["track", "union"])
def test_a_window_is_what_would_be_cut_out(long: Path, tmp_path: Path, face_box: str) -> None:
    settings = SILENCE.model_copy(update={"face_box": face_box})
    first = next(read_windows(long, settings, Windows(2, 1), keep=few))
    part = write_video(
        tmp_path / "part.mkv", moving_face(2 * FPS), chirp(5)[:, : 2 * RATE], codecs=("ffv1", "flac"), pixels="bgr0"
    )
    alone = read_clip(part, settings, keep=few)
    assert first.clip is not None
    assert first.clip.jpegs == alone.jpegs
    assert (first.clip.boxes is None) == (face_box == "union")
    np.testing.assert_array_equal(first.clip.boxes, alone.boxes)
    assert first.clip.fbank.tobytes() == alone.fbank.tobytes()
    assert first.clip.waveform.tobytes() == alone.waveform.tobytes()
    assert (first.start, first.end) == alone.span == (0, 2)


def test_later_windows_have_their_own_frames_and_sound(tmp_path: Path) -> None:
    pictures, sound = moving_face(3 * FPS, step=2), chirp(3)
    path = write_video(tmp_path / "a.mkv", pictures, sound, codecs=("ffv1", "pcm_s16le"), pixels="bgr0")
    later = list(read_windows(path, EVERY_FRAME, Windows(1, 0.4), keep=few, cropped=True))
    assert [window.start for window in later] == pytest.approx([0, 0.4, 0.8, 1.2, 1.6, 2])
    for window in later:
        first, start = round(window.start * FPS), round(window.start * RATE)
        own = write_images(tmp_path / f"{first}", pictures[first : first + FPS])
        heard = write_wav(tmp_path / f"{first}.wav", sound[:, start : start + RATE])
        alone = read_clip(own, EVERY_FRAME, sound=heard, keep=few, cropped=True)
        assert window.clip is not None
        assert window.clip.jpegs == alone.jpegs
        assert window.clip.fbank.tobytes() == alone.fbank.tobytes()


@pytest.mark.parametrize("order", ["time", "published"])
def test_a_video_no_longer_than_a_window_is_predicted_as_a_whole(video: Path, order: str) -> None:
    settings = CONTRACT.prepare.model_copy(update={"mafw_frame_order": order})
    (window,) = read_windows(video, settings, Windows(10, 1), keep=few)
    whole = read_clip(video, settings, keep=few)
    assert window.clip is not None
    assert (window.clip.jpegs, window.clip.notes) == (whole.jpegs, whole.notes)
    assert whole.boxes is not None
    assert len(whole.boxes) == len(whole.times)
    np.testing.assert_array_equal(window.clip.boxes, whole.boxes)
    assert window.clip.fbank.tobytes() == whole.fbank.tobytes()
    assert window.clip.waveform.tobytes() == whole.waveform.tobytes()
    np.testing.assert_array_equal(window.clip.times, whole.times)


@pytest.mark.parametrize("longest", [1.0, float("inf")])
def test_of_sound_without_end_no_more_is_read_than_of_a_clip(video: Path, tmp_path: Path, longest: float) -> None:
    sound = write_wav(tmp_path / "long.wav", tone(60))
    settings = EVERY_FRAME.model_copy(update={"max_seconds": longest})
    read, pieces = 0, decode.SoundTrack.__iter__

    def counted(track: decode.SoundTrack) -> Iterator[decode.Sound]:
        nonlocal read
        for piece in pieces(track):
            read += piece.waveform.shape[1]
            yield piece

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode.SoundTrack, "__iter__", counted)
        (window,) = read_windows(video, settings, Windows(10, 1), keep=few, sound=sound, cropped=True)
    assert window.clip is not None
    assert read / RATE == pytest.approx(min(window.end + longest, 60), abs=0.2)


@pytest.fixture(scope="module")
def told(onnx_file: Path, long: Path) -> Prediction:
    return Recogniser(onnx_file)(long, window=1, hop=1)


def test_what_a_window_lacks_is_said(told: Prediction) -> None:
    assert [one["label"] is None for one in told.segments] == [False, False, True, True, False, True]
    assert [one["notes"] for one in told.segments[2:4]] == [["no face"], ["no face"]]
    assert "no sound" in told.segments[5]["notes"][0]
    assert "no face (in 2 of 6 windows)" in told.notes
    shares = np.mean([list(one["probabilities"].values()) for one in told.segments if one["label"]], axis=0)
    assert list(told.probabilities.values()) == pytest.approx(shares.tolist())
    assert told.label == max(told.probabilities, key=told.probabilities.__getitem__)


def test_silence_is_taken_for_missing_sound_where_the_contract_says_so(onnx_file: Path, long: Path) -> None:
    recogniser = Recogniser(onnx_file)
    recogniser.backend.contract = CONTRACT.model_copy(
        update={"prepare": CONTRACT.prepare.model_copy(update={"no_sound": "silence"})}
    )
    last = recogniser(long, window=1, hop=1).segments[-1]
    assert last["label"] is not None
    assert "silence in its place" in last["notes"][0]


def test_windows_are_written_and_printed(
    onnx_file: Path, long: Path, told: Prediction, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = (tmp_path / "out.json", tmp_path / "out.csv")
    assert predict_files([long], onnx_file, out=files, window=1, hop=1) == 0
    assert json.loads(files[0].read_text())[0] == told.to_dict()
    rows = list(csv.DictReader(files[1].read_text().splitlines()))
    assert [(float(row["start"]), float(row["end"])) for row in rows] == [(k, k + 1) for k in range(6)]
    assert [row["error"] for row in rows[2:4]] == ["no face", "no face"]
    assert [row["label"] or None for row in rows] == [one["label"] for one in told.segments]
    assert "2.0 - 4.0 s  no face" in capsys.readouterr().out
    console = Console(record=True, width=150)
    print_predictions([replace(told, segments=told.segments[:1])], console)
    assert "windows" not in console.export_text().splitlines()[1]


def test_a_video_without_any_face_fails_as_a_whole(onnx_file: Path, tmp_path: Path) -> None:
    path = write_video(tmp_path / "grey.mkv", grey(50), tone(2))
    with pytest.raises(ClipError, match=r"grey\.mkv: none of 2 windows can be predicted: no face \(in 2\)"):
        Recogniser(onnx_file)(path, window=1)
    (failure,) = Recogniser(onnx_file).predict([path], window=1)
    assert isinstance(failure, Failure)


def test_windows_shorter_than_the_space_between_looks_have_a_face(video: Path) -> None:
    found = list(read_windows(video, CONTRACT.prepare, Windows(0.3, 0.3), keep=few))  # a look each 20 frames
    assert len(found) > 8
    assert all(window.clip is not None for window in found)


def test_a_folder_of_frames_has_windows_too(onnx_file: Path, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "frames", moving_face(50), "jpg")
    sound = write_wav(tmp_path / "sound.wav", chirp(2))
    (found,) = Recogniser(onnx_file).predict([Video(folder, sound)], window=1, hop=0.5)
    assert isinstance(found, Prediction)
    assert [(one["start"], one["end"]) for one in found.segments] == [(0, 1), (0.5, 1.5), (1, 2)]


def test_windows_of_frames_at_their_own_rate_are_those_of_the_video(onnx_file: Path, tmp_path: Path) -> None:
    pictures, sound = moving_face(60), chirp(4)
    film = write_video(tmp_path / "a.mkv", pictures, sound, codecs=("ffv1", "pcm_s16le"), pixels="bgr0")
    folder, heard = write_images(tmp_path / "frames", pictures), write_wav(tmp_path / "a.wav", sound)
    recogniser = Recogniser(onnx_file)
    whole = recogniser(film, window=1)
    there = recogniser(folder, sound=heard, window=1, fps=FPS)
    assert [(one["start"], one["end"], one["probabilities"]) for one in there.segments] == [
        (one["start"], one["end"], one["probabilities"]) for one in whole.segments
    ]
    slower = recogniser(folder, sound=heard, window=1, fps=15)
    assert [(one["start"], one["end"]) for one in slower.segments] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert slower.notes == []


def test_other_lengths_of_sound_are_told_of_the_whole_video(onnx_file: Path, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "frames", moving_face(60), "jpg")
    recogniser, rate = Recogniser(onnx_file), " at 25 per second (another rate: --fps, or prepare.fps)"
    for seconds in (4, 1.5):
        heard = write_wav(tmp_path / f"{seconds}.wav", chirp(seconds))
        told = recogniser(folder, sound=heard, window=1)
        assert f"the sound has {seconds:.1f} s, the pictures have 2.4 s{rate}" in told.notes
        assert len(told.segments) == 3
    whole = recogniser(folder, sound=heard)
    assert whole.notes == [f"the sound has 1.5 s, the pictures have 2.4 s{rate}"]


def test_a_window_counts_its_own_damage_and_missing_faces(onnx_file: Path, tmp_path: Path) -> None:
    pictures = [*moving_face(35), *grey(15), *moving_face(25)]
    path = write_video(tmp_path / "a.mkv", pictures, tone(3), codecs=("mpeg4", "pcm_s16le"))
    found = Recogniser(onnx_file)
    found.backend.contract = CONTRACT.model_copy(update={"prepare": EVERY_FRAME, "cropped": True})
    others = "trained on faces cropped by the data set's owners; here they were found by mmadfer"
    told = found(damage(path, [3, 4, 51, 52, 53]), window=1)
    assert [one["notes"] for one in told.segments] == [
        ["2 of 25 pictures damaged", others],
        ["the face was found in 10 of 25 frames looked at", others],
        ["3 of 25 pictures damaged", others],
    ]
    assert told.notes == [
        "some of the pictures damaged (in 2 of 3 windows)",
        others,
        "the face was found in some of the frames looked at (in 1 of 3 windows)",
    ]


def changing(folder: Path) -> Path:
    """Sound whose rate changes after a second, as where recordings are joined."""
    joined = folder / "joined.aac"
    for rate in (44100, 22050):
        with av.open(str(folder / f"{rate}.aac"), "w") as container:
            stream = container.add_stream("aac", rate=rate, layout="mono")
            for frame in [*sound_frames(tone(2, rate), rate, "mono"), None]:
                container.mux(stream.encode(frame))
        with joined.open("ab") as file:
            file.write((folder / f"{rate}.aac").read_bytes())
    return joined


@pytest.mark.parametrize("no_sound", ["leave_out", "silence"])
def test_damaged_sound_is_silence_in_no_window(onnx_file: Path, tmp_path: Path, no_sound: str) -> None:
    pictures = write_images(tmp_path / "frames", moving_face(4 * FPS), "jpg")
    wav = write_wav(tmp_path / "cut.wav", chirp(4))
    wav.write_bytes(wav.read_bytes()[: wav.stat().st_size // 2])
    recogniser = Recogniser(onnx_file)
    recogniser.backend.contract = CONTRACT.model_copy(
        update={"prepare": CONTRACT.prepare.model_copy(update={"no_sound": no_sound})}
    )
    for sound, words in ((wav, "cut off"), (changing(tmp_path), "changes from")):
        with pytest.raises(ClipError, match=words):
            recogniser(pictures, sound=sound)
        with pytest.raises(ClipError, match=words):
            recogniser(pictures, sound=sound, window=1)
        (failure,) = recogniser.predict([Video(pictures, sound)], window=1)
        assert isinstance(failure, Failure)


@pytest.mark.parametrize("face_box", ["track", "union"])
def test_a_window_is_ready_as_soon_as_it_is_over(video: Path, face_box: str) -> None:
    """And nothing is kept of those before: what windows to come will need is not planned yet."""
    asked = list[int]()

    def keep(count: int) -> list[int]:
        asked.append(count)
        return few(count)

    settings = CONTRACT.prepare.model_copy(update={"face_box": face_box})
    found = read_windows(video, settings, Windows(0.4, 0.2), keep=keep)
    next(found)
    assert 1 <= len(asked) <= 3
    assert len([*found]) + 1 == len(asked) > 8


def test_a_damaged_video_gives_no_windows(onnx_file: Path, long: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(long.read_bytes()[: long.stat().st_size // 2])
    (failure,) = Recogniser(onnx_file).predict([cut], window=1)
    assert isinstance(failure, Failure)
    assert "cut off" in str(failure.error)


def test_six_minutes_take_no_more_memory_than_two(onnx_file: Path, tmp_path: Path) -> None:
    two, six = (peak(onnx_file, tmp_path, moving_face(50), minutes, "largest") for minutes in (2, 6))
    assert (two[0], six[0]) == (40, 120)  # six are more than `max_seconds`
    assert six[1] - two[1] < 40, (two, six)  # the sound alone would take 242 MiB


def test_a_video_or_sound_that_is_too_long_is_told_of_windows(onnx_file: Path, long: Path, tmp_path: Path) -> None:
    recogniser = Recogniser(onnx_file)
    recogniser.backend.contract = CONTRACT.model_copy(
        update={"prepare": CONTRACT.prepare.model_copy(update={"max_seconds": 4})}
    )
    with pytest.raises(ClipError, match="longer than 4 s: predict it in windows"):
        recogniser(long)
    assert len(recogniser(long, window=2).segments) == 3
    short = write_video(tmp_path / "short.mkv", moving_face(FPS), None)
    with pytest.raises(ClipError, match=r"sound\.wav is longer than 4 s: predict it in windows"):
        recogniser(short, sound=write_wav(tmp_path / "sound.wav", tone(6)))
