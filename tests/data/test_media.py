import struct
from pathlib import Path

import numpy as np
import pytest
from make_media import FPS, RATE, grey, moving_face, tone, video, write_video

from mmadfer.data.media import read_frames, read_sound
from mmadfer.errors import ClipError

FORMATS = {
    "mp4": ("libx264", "aac"),
    "mkv": ("libx264", "aac"),
    "webm": ("libvpx-vp9", "libopus"),
    "avi": ("mpeg4", "mp3"),
    "flv": ("flv", "mp3"),
    "mov": ("libx264", "pcm_s16le"),
}


def make(path: Path, seconds: float = 2.0) -> Path:
    rate = 48000 if path.suffix == ".webm" else RATE
    frames = moving_face(round(seconds * FPS))
    return write_video(path, frames, tone(seconds, rate), rate=rate, codecs=FORMATS[path.suffix[1:]])


@pytest.mark.parametrize("ending", FORMATS)
def test_all_frames_and_all_sound_are_read(tmp_path: Path, ending: str) -> None:
    path = make(tmp_path / f"clip.{ending}", 1.0)
    times, images = zip(*read_frames(path), strict=True)
    assert len(images) == FPS
    np.testing.assert_allclose(np.diff(times)[1:], 1 / FPS, atol=0.0015)  # AVI begins one frame late
    for image, original in zip(images[::12], moving_face(FPS)[::12], strict=True):
        assert (image.dtype, image.shape) == (np.uint8, original.shape)
        assert np.abs(image.astype(float) - original).mean() < 9
    waveform, rate = read_sound(path)
    assert (waveform.dtype, waveform.shape[0]) == (np.float32, 1)
    assert rate == (48000 if ending == "webm" else RATE)
    assert waveform.shape[1] / rate == pytest.approx(1.0, abs=0.06)
    assert np.abs(waveform).max() == pytest.approx(0.3, abs=0.08)


def test_sound_is_resampled(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mov", grey(25), tone(1.0, channels=2), codecs=("libx264", "pcm_s16le"))
    native, rate = read_sound(path)
    np.testing.assert_allclose(native, tone(1.0, channels=2), atol=1e-4)
    low, low_rate = read_sound(path, 16000)
    assert (rate, low_rate, low.shape) == (RATE, 16000, (2, 16000))
    np.testing.assert_allclose(low[:, 500:-500], tone(1.0, 16000, channels=2)[:, 500:-500], atol=2e-3)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("share", [0.8, 0.5, 0.2, 0.01])
def test_a_file_that_is_cut_off_is_noticed(tmp_path: Path, ending: str, share: float) -> None:
    path = make(tmp_path / f"clip.{ending}")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    for read in (lambda: list(read_frames(path)), lambda: read_sound(path)):
        with pytest.raises(ClipError, match=r"clip\.\w+ .*cut off") as caught:
            read()
        assert caught.value.reason == "unreadable"


@pytest.mark.parametrize("share", [0.95, 0.6, 0.2])
def test_a_file_with_its_index_in_front_is_cut_off(tmp_path: Path, share: float) -> None:
    path = write_video(tmp_path / "clip.mp4", moving_face(50), tone(2.0), options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ClipError, match="cut off"):
        list(read_frames(path))


def test_what_is_no_video_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    (tmp_path / "zero.mp4").touch()
    for name, word in (("text.mp4", "cannot be decoded"), ("zero.mp4", "zero bytes"), ("no.mp4", "does not exist")):
        with pytest.raises(ClipError, match=word) as caught:
            list(read_frames(tmp_path / name))
        assert caught.value.reason == "unreadable"
    with pytest.raises(ClipError, match="is not a file"):
        read_sound(tmp_path)


def test_missing_streams_have_their_own_reasons(tmp_path: Path) -> None:
    mute = write_video(tmp_path / "mute.mp4", grey(10), None)
    with pytest.raises(ClipError, match=r"mute\.mp4 has no sound") as caught:
        read_sound(mute)
    assert caught.value.reason == "no sound"
    blind = write_video(tmp_path / "blind.mkv", [], tone(0.5))
    with pytest.raises(ClipError, match="no pictures") as caught:
        list(read_frames(blind))
    assert caught.value.reason == "empty"


def test_a_phone_held_upright_gives_upright_pictures(tmp_path: Path) -> None:
    image = np.zeros((96, 128, 3), np.uint8)
    image[:48] = 255  # the upper half
    path = write_video(tmp_path / "clip.mp4", [image] * 5, tone(0.2))
    data = path.read_bytes()
    matrix = data.index(struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30), data.index(b"tkhd"))
    turned = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)  # a quarter clockwise
    path.write_bytes(data[:matrix] + turned + data[matrix + len(turned) :])
    _, first = next(read_frames(path))
    assert first.shape == (128, 96, 3)
    assert first[:, 60:].mean() > 240
    assert first[:, :36].mean() < 15


def test_reading_twice_gives_the_same(tmp_path: Path) -> None:
    path = video(tmp_path / "clip.mp4", 0.4)
    for (_, one), (_, two) in zip(read_frames(path), read_frames(path), strict=True):
        np.testing.assert_array_equal(one, two)
