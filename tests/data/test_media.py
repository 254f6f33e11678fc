import struct
from pathlib import Path

import av
import numpy as np
import pytest
from make_media import FPS, RATE, grey, moving_face, portrait, rotate, tone, video, write_video
from whole_media import read_frames, read_sound

from mmadfer.data.media.container import explained, remarked
from mmadfer.data.media.decode import video_frames
from mmadfer.errors import ClipError
from mmadfer.utils.memory import lacks_memory

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


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_phone_held_otherwise_gives_upright_pictures(tmp_path: Path, quarters: int) -> None:
    upright = np.zeros((96, 128, 3), np.uint8)
    upright[:48] = 255  # the upper half
    turned = np.rot90(upright, quarters)
    path = rotate(write_video(tmp_path / "clip.mp4", [turned] * 5, tone(0.2)), quarters)
    _, first = next(read_frames(path))
    assert first.shape == upright.shape
    assert first[:36].mean() > 240
    assert first[60:].mean() < 15


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov"])
def test_a_variable_frame_rate_has_its_own_times(tmp_path: Path, ending: str) -> None:
    ticks = [0, 1, 2, 5, 6, 10, 11, 12, 20]
    path = write_video(tmp_path / f"clip.{ending}", moving_face(9), tone(1.0), codecs=FORMATS[ending], ticks=ticks)
    times = np.array([time for time, _ in read_frames(path)])
    np.testing.assert_allclose(times - times[0], np.array(ticks) / FPS, atol=0.0015)


@pytest.mark.parametrize("count", [1, 2, 6, 8])
@pytest.mark.parametrize(
    ("ending", "codec"), [("mov", "pcm_s16le"), ("mkv", "flac"), ("mkv", "pcm_f32le"), ("mp4", "aac")]
)
def test_every_channel_is_kept_in_its_place(tmp_path: Path, count: int, ending: str, codec: str) -> None:
    loudness = np.linspace(1, 0.2, count)[:, None].astype(np.float32)
    sound = tone(0.5, 48000, channels=count) * loudness
    path = write_video(tmp_path / f"clip.{ending}", grey(12), sound, rate=48000, codecs=("libx264", codec))
    for rate in (48000, 16000):
        waveform, _ = read_sound(path, rate)
        assert waveform.dtype == np.float32
        assert waveform.flags.c_contiguous
        heard = np.delete(
            np.sqrt((waveform[:, 2000:-2000] ** 2).mean(axis=1)), 3 if codec == "aac" and count > 2 else []
        )
        wanted = np.delete(0.3 * loudness[:, 0] / np.sqrt(2), 3 if codec == "aac" and count > 2 else [])
        np.testing.assert_allclose(heard, wanted, rtol=0.06)  # AAC's fourth channel holds nothing above 120 Hz


@pytest.mark.parametrize("rate", [8000, 96000])
def test_the_files_own_rate_is_kept(tmp_path: Path, rate: int) -> None:
    sound = tone(0.5, rate)
    path = write_video(tmp_path / "clip.mov", grey(12), sound, rate=rate, codecs=("libx264", "pcm_s16le"))
    waveform, found = read_sound(path)
    assert found == rate
    np.testing.assert_allclose(waveform, sound, atol=1e-4)


def test_reading_ends_at_a_limit(tmp_path: Path) -> None:
    path = write_video(tmp_path / "stated.mp4", moving_face(50), tone(2.0))
    assert len(list(video_frames(path, 2.1))) == 50
    live = write_video(
        tmp_path / "live.mkv", [portrait()] * 3, tone(5.0), options={"live": "1"}, ticks=[0, 1, 90 * FPS]
    )
    raw = write_video(tmp_path / "equal.mkv", [portrait()] * 3, tone(3.0), options={"live": "1"})
    assert len(list(video_frames(raw, 2.0))) == 3
    for read in (
        lambda: list(video_frames(path, 1.5)),
        lambda: read_sound(path, limit=1.5),
        lambda: list(video_frames(live, 60)),
        lambda: read_sound(live, limit=4.0),
        lambda: read_sound(raw, 16000, limit=2.0),
    ):
        with pytest.raises(ClipError, match=r"is longer than [\d.]+ s: cut it") as caught:
            read()
        assert caught.value.reason == "too long"


def test_a_header_cannot_fill_the_memory(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", grey(5), tone(0.2), codecs=("mjpeg", "pcm_s16le"), pixels="yuvj420p")
    height_and_width = b"\xff\xc0\x00\x11\x08\x00\xc0\x01\x00"
    data = path.read_bytes()
    assert data.count(height_and_width) == 5
    path.write_bytes(data.replace(height_and_width, height_and_width[:5] + struct.pack(">HH", 40000, 40000)))
    with explained(), pytest.raises(ClipError, match=r"clip\.avi .*40000") as caught:
        list(read_frames(path))
    assert caught.value.reason == "unreadable"
    wave = write_video(tmp_path / "clip.mov", grey(5), tone(0.2), codecs=("libx264", "pcm_s16le")).read_bytes()
    (tmp_path / "slow.mov").write_bytes(wave.replace(struct.pack(">I", RATE << 16)[:4], struct.pack(">HH", 3, 0)))
    with pytest.raises(ClipError, match=r"slow\.mov says that its sound has 1 channels at 3 Hz"):
        read_sound(tmp_path / "slow.mov", 16000)


def test_a_table_of_billions_is_no_lack_of_memory(tmp_path: Path) -> None:
    path = video(tmp_path / "clip.mp4", 0.2)
    data = path.read_bytes()
    rows = data.index(b"stts") + 8
    path.write_bytes(data[:rows] + struct.pack(">I", 2**30) + data[rows + 4 :])
    with pytest.raises(ClipError, match="Cannot allocate memory") as caught:
        list(read_frames(path))
    assert not lacks_memory(caught.value.__cause__)  # else it would end the preparation


def test_a_list_of_other_files_leads_nowhere(tmp_path: Path) -> None:
    good = video(tmp_path / "good.mp4", 0.4)
    for number, text in enumerate((f"#EXTM3U\n#EXTINF:1,\n{good}\n", f"ffconcat version 1.0\nfile '{good}'\n")):
        path = tmp_path / f"{number}.mp4"
        path.write_text(text)
        with pytest.raises(ClipError, match=rf"{number}\.mp4 cannot be decoded"):
            list(read_frames(path))
    (tmp_path / "12:30.mp4").write_bytes(good.read_bytes())
    assert len(list(read_frames(tmp_path / "12:30.mp4"))) == 10


def test_what_ffmpeg_says_is_in_the_message_and_not_on_the_console(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = video(tmp_path / "clip.mp4", 0.4)
    path.write_bytes(path.read_bytes()[:5000])
    before = av.logging.get_level()
    with explained(), pytest.raises(ClipError, match="moov atom not found"):
        list(read_frames(path))
    assert av.logging.get_level() == before
    (tmp_path / "text").write_text("no video\n" * 99)
    with explained(), pytest.raises(ClipError) as caught:  # nothing of the file before
        list(read_frames(tmp_path / "text"))
    assert "moov" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_reading_twice_gives_the_same(tmp_path: Path) -> None:
    path = video(tmp_path / "clip.mp4", 0.4)
    for (_, one), (_, two) in zip(read_frames(path), read_frames(path), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_damaged_picture_is_remarked_on(tmp_path: Path) -> None:
    path = video(tmp_path / "clip.mp4", 0.4)
    data = bytearray(path.read_bytes())
    data[3000:3040] = bytes(40)
    path.write_bytes(data)
    with explained(), remarked() as remarks:
        assert len(list(read_frames(path))) == 10
    assert len(remarks) == 1
    assert "damaged in places" in remarks[0]

    def no_face() -> None:
        list(read_frames(path))
        raise ClipError("no face here", "no face")

    with (
        pytest.raises(ClipError, match="no face here; FFmpeg says that it is damaged: ") as caught,
        explained(),
        remarked(),
    ):
        no_face()
    assert caught.value.reason == "no face"
    with explained(), remarked() as remarks:
        list(read_frames(video(tmp_path / "good.mp4", 0.4)))
    assert remarks == []
