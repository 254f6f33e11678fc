"""The toy set: real media files whose frames and spectra say nothing without their order."""

import hashlib
import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from av import AudioStream, VideoStream
from whole_media import read_frames, read_sound

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.clip import read_clip
from mmadfer.data.faces import detection
from mmadfer.data.media.image import decode_jpeg
from mmadfer.data.sets import table, toy, toy_face, toy_voice
from mmadfer.errors import DataError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("toy") / "set"
    toy.make(path, clips_per_class=2, seed=3, jobs=1)
    return path


def digests(root: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(root.rglob("*.mp4"))}


def clip_pair(frames: int = 45, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The same clip in both orders."""
    look = toy_face.draw_look(np.random.RandomState(seed))
    return toy_face.render_face(look, frames, backward=False), toy_face.render_face(look, frames, backward=True)


def voice_pair(samples: int = 48000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    voice = toy_voice.draw_voice(np.random.RandomState(seed))
    forth, back = (toy_voice.speak(voice, samples, back, np.random.RandomState(9)) for back in (False, True))
    return forth, back


def power(sound: np.ndarray) -> np.ndarray:
    """Mean power in 32 bands of 250 Hz, in decibels."""
    blocks = sound[: len(sound) // 512 * 512].reshape(-1, 512) * np.hanning(512)
    spectrum = (np.abs(np.fft.rfft(blocks)) ** 2).mean(axis=0)[1:]
    return 10 * np.log10(spectrum.reshape(32, 8).mean(axis=1))


def seconds_of(stream: VideoStream | AudioStream) -> float:
    assert stream.duration
    assert stream.time_base
    return float(stream.duration * stream.time_base)


def test_the_same_seed_gives_the_same_bytes_in_any_number_of_processes(root: Path, tmp_path: Path) -> None:
    toy.make(tmp_path / "again", clips_per_class=1, seed=3, jobs=2)
    again = digests(tmp_path / "again")
    assert len(again) == 4
    assert again.items() <= digests(root).items()


def test_another_seed_class_or_number_gives_another_clip() -> None:
    one = toy.content("happy", 0, seed=3)
    for label, number, seed in (("happy", 0, 4), ("sad", 0, 3), ("happy", 1, 3)):
        other = toy.content(label, number, seed)
        assert one[0].shape != other[0].shape or np.abs(one[0].astype(int) - other[0]).mean() > 1
        assert one[1].shape != other[1].shape or np.abs(one[1] - other[1]).mean() > 1e-3


def test_streams_are_h264_and_aac_of_one_length(root: Path) -> None:
    for path in root.rglob("*.mp4"):
        with av.open(str(path)) as file:
            video, audio = file.streams.video[0], file.streams.audio[0]
            assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
            seconds = seconds_of(video)
            assert 2.8 <= seconds <= 3.2
            assert seconds_of(audio) == pytest.approx(seconds, abs=0.01)
            assert (video.average_rate, audio.rate) == (toy_face.TOY_FPS, toy_voice.VOICE_RATE_HZ)


def test_files_decode_to_what_was_drawn(root: Path) -> None:
    frames, sound = toy.content("angry", 1, seed=3)
    path = root / "angry" / "angry-001.mp4"
    decoded = np.stack([image for _, image in read_frames(path)])
    assert np.abs(decoded.astype(int) - frames).mean() < 4
    heard, rate = read_sound(path)
    assert rate == toy_voice.VOICE_RATE_HZ
    assert np.corrcoef(heard[0, : len(sound)], sound[: heard.shape[1]])[0, 1] > 0.95


def test_a_face_is_found_in_every_state_of_it(root: Path) -> None:
    for label in ("happy", "surprise"):
        images = [image for _, image in read_frames(root / label / f"{label}-000.mp4")][::4]
        found = list(detection.detect(images))
        assert all(len(boxes) == 1 for boxes in found)
        assert all(boxes[0, 3] - boxes[0, 1] > 0.5 for boxes in found)


def test_preparation_takes_a_clip(root: Path) -> None:
    data = read_clip(root / "sad" / "sad-000.mp4", PrepareConfig(face_size=80, detect_every=12))
    assert decode_jpeg(data.jpegs[0]).shape == (80, 80, 3)
    assert len(data.jpegs) == round(data.span[1] * toy_face.TOY_FPS)


def test_a_bag_of_frames_cannot_tell_the_orders_apart() -> None:
    forth, back = clip_pair()
    assert np.array_equal(forth[::-1], back)
    assert not np.array_equal(forth, back)
    early = slice(7, 15)  # around the first of the two movements
    assert np.abs(forth[early].mean(axis=0) - back[early].mean(axis=0)).max() > 60


def test_a_mean_spectrum_cannot_tell_the_orders_apart() -> None:
    forth, back = voice_pair()
    assert np.abs(power(forth) - power(back)).max() < 1.0
    first, second = np.split(forth, 2)
    assert np.abs(power(first) - power(second)).max() > 10
    assert np.sqrt(np.mean(forth**2)) == pytest.approx(np.sqrt(np.mean(back**2)), rel=0.02)


def test_labels_pair_the_two_orders() -> None:
    assert sorted(toy.TOY_CLASSES.values()) == [(a, b) for a in (False, True) for b in (False, True)]


def test_folds_have_the_same_share_of_every_class(root: Path) -> None:
    listed = table("toy", root, folds=2)
    assert listed.labels == tuple(toy.TOY_CLASSES)
    assert sorted((clip.fold, clip.label) for clip in listed.clips) == sorted(
        (f, c) for f in (1, 2) for c in toy.TOY_CLASSES
    )


def test_what_was_broken_off_goes_on(root: Path, tmp_path: Path) -> None:
    whole = tmp_path / "set"
    shutil.copytree(root, whole)
    kept, lost = whole / "sad" / "sad-000.mp4", whole / "happy" / "happy-000.mp4"
    (whole / toy.MANIFEST).unlink()
    lost.unlink()
    before = kept.stat().st_mtime_ns
    assert len(toy.table(whole).clips) == 8
    assert kept.stat().st_mtime_ns == before
    assert lost.read_bytes() == (root / "happy" / "happy-000.mp4").read_bytes()


def test_the_manifest_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy, "TOY_CLASSES", {"happy": (True, False), "broken": "not a pair of orders"})
    with pytest.raises(ValueError, match="unpack"):
        toy.make(tmp_path / "set", clips_per_class=1, jobs=1)
    assert not (tmp_path / "set" / toy.MANIFEST).exists()
    assert json.loads((tmp_path / "set" / toy.PLAN).read_text())["clips_per_class"] == 1
    assert not list((tmp_path / "set").rglob("*.tmp"))


def test_another_set_or_folder_is_left_alone(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="another toy set"):
        toy.make(root, clips_per_class=2, seed=4)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="not a toy set and not empty"):
        toy.table(tmp_path)
    with pytest.raises(DataError, match="clips_per_class >= 1"):
        toy.make(tmp_path / "none", clips_per_class=0)
