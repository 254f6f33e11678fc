"""Media files are read as a player shows them, or as the published program reads them, which is then told."""

import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from make_media import FPS, RATE, moving_face, sound_frames, tone, write_video
from whole_media import read_frames, read_sound

from mmadfer.config.schema import PrepareConfig, load
from mmadfer.data.clip import ClipData, read_clip
from mmadfer.data.media.decode import SoundTrack, video_frames
from mmadfer.data.video_windows import Windows, read_windows
from mmadfer.errors import ClipError

pytestmark = pytest.mark.slow

PLAYER = PrepareConfig(face_size=32, jpeg_quality=100)
PUBLISHED = PLAYER.model_copy(update={"media": "published"})
EXACT = ("ffv1", "pcm_s16le")
MATRICES = [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] + [(0, b, c, 0) for b in (1, -1) for c in (1, -1)]


def first(count: int) -> list[int]:
    return [0]


def clip(path: Path, settings: PrepareConfig) -> ClipData:
    return read_clip(path, settings, cropped=True, keep=first)


def late(path: Path, seconds: float, gap: tuple[float, float] = (0, 0)) -> Path:
    """A video whose sound starts late, and lacks what lies in `gap`."""
    with av.open(str(path), "w") as file:
        pictures = file.add_stream("ffv1", rate=FPS)
        pictures.width, pictures.height, pictures.pix_fmt = 256, 192, "bgr0"
        sound = file.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for k, image in enumerate(moving_face(100)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = k
            file.mux(pictures.encode(frame))
        for frame in sound_frames(tone(4 - seconds, RATE), RATE, "mono"):
            frame.pts += round(seconds * RATE)
            if not gap[0] <= frame.pts / RATE < gap[1]:
                file.mux(sound.encode(frame))
    return path


@pytest.mark.parametrize("matrix", MATRICES, ids=str)
def test_pictures_are_turned_and_mirrored_as_the_matrix_says(tmp_path: Path, matrix: tuple[int, ...]) -> None:
    path = write_video(tmp_path / "a.mp4", moving_face(3), None)
    (_, stored), *_ = read_frames(path)
    plain, wanted = (struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30) for a, b, c, d in
                     ((1, 0, 0, 1), matrix))  # fmt: skip
    data = path.read_bytes()
    start = data.index(plain, data.index(b"tkhd"))
    path.write_bytes(data[:start] + wanted + data[start + len(wanted) :])
    (_, shown), *_ = read_frames(path)
    height, width = stored.shape[:2]
    a, b, c, d = matrix
    for x, y in ((10, 20), (200, 5), (77, 150)):  # x' = a x + c y, y' = b x + d y, moved back into the picture
        to_x = (x if a > 0 else width - 1 - x) if a else (y if c > 0 else height - 1 - y)
        to_y = (y if d > 0 else height - 1 - y) if d else (x if b > 0 else width - 1 - x)
        np.testing.assert_array_equal(shown[to_y, to_x], stored[y, x])


@pytest.mark.parametrize("channels", [2, 6])
def test_the_channel_that_has_sound_is_heard_and_told(tmp_path: Path, channels: int) -> None:
    alone = write_video(tmp_path / "alone.mkv", moving_face(50), tone(2), codecs=EXACT, pixels="bgr0")
    sound = np.zeros((channels, 2 * RATE), np.float32)
    sound[-1] = tone(2)[0]
    path = write_video(tmp_path / "last.mkv", moving_face(50), sound, codecs=EXACT, pixels="bgr0")
    heard, wanted, published = clip(path, PLAYER), clip(alone, PLAYER), clip(path, PUBLISHED)
    np.testing.assert_allclose(heard.fbank, wanted.fbank, atol=1e-5)
    assert heard.notes == (f"the first of {channels} channels holds nothing but zeros: channel {channels} is heard",)
    assert not heard.silent
    assert published.silent
    assert not published.waveform.any()
    assert f"the sound is on channel {channels}" in str(published.notes[0])


def test_sound_that_is_late_or_has_a_gap_lies_at_its_own_time(tmp_path: Path) -> None:
    path = late(tmp_path / "a.mkv", 0.5, (1.5, 2.5))
    waveform, rate = read_sound(path)
    hundredth = rate // 100
    blocks = waveform[0, : waveform.shape[1] // hundredth * hundredth].reshape(-1, hundredth)
    loud = np.abs(blocks).max(axis=1) > 0.1
    for begin, end, there in ((0, 0.45, False), (0.55, 1.45, True), (1.55, 2.45, False), (2.55, 3.95, True)):
        assert (loud[round(100 * begin) : round(100 * end)] == there).all()
    assert waveform.shape[1] / rate == pytest.approx(4, abs=0.05)
    player, published = clip(path, PLAYER), clip(path, PUBLISHED)
    assert "no sound in 2 places, 1.5 s: silence in its place" in player.notes
    assert "no sound in 2 places, 1.5 s: what follows is moved there, as by the published program" in published.notes
    assert not player.waveform[: rate // 3].any()
    assert np.abs(published.waveform[: rate // 100]).max() > 0.1


@pytest.mark.parametrize("settings", [PLAYER, PUBLISHED], ids=["player", "published"])
def test_windows_hear_what_lies_at_their_time(tmp_path: Path, settings: PrepareConfig) -> None:
    path = late(tmp_path / "a.mkv", 0.5, (1.5, 2.5))
    waveform, rate = read_sound(path)
    for window in read_windows(path, settings, Windows(1, 0.5), keep=first, cropped=True):
        assert window.clip is not None
        begin = round(window.start * rate)
        np.testing.assert_array_equal(window.clip.waveform, waveform[0, begin : begin + rate])


def test_time_stamps_that_waver_move_no_sound(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as file:
        sound = file.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for k, frame in enumerate(sound_frames(tone(2), RATE, "mono")):
            frame.pts += (k % 3) * RATE // 100
            file.mux(sound.encode(frame))
    track = SoundTrack(tmp_path / "a.mkv")
    heard = np.concatenate([piece.waveform for piece in track], axis=1)
    np.testing.assert_allclose(heard, tone(2), atol=1e-4)
    assert track.gaps == []


def test_pixels_that_are_not_square_are_stretched_or_told(tmp_path: Path) -> None:
    wide = tmp_path / "wide.mkv"
    with av.open(str(wide), "w") as file:
        stream = file.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 256, 192, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 9)
        for image in moving_face(3):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode(None))
    frame = next(video_frames(wide))
    assert frame.rgb().shape == (192, round(256 * 16 / 9), 3)
    assert frame.rgb(100).shape[1] == 100
    assert next(video_frames(wide, pixels="stored")).rgb().shape == (192, 256, 3)
    silent = {"no_sound": "silence"}
    player, published = (clip(wide, settings.model_copy(update=silent)) for settings in (PLAYER, PUBLISHED))
    assert "its pixels are 1.78 times as wide as high: stretched to squares, as players do" in player.notes
    assert any("left so, as the published program does" in str(note) for note in published.notes)


def test_a_cover_is_no_video(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", moving_face(10), tone(0.4))
    path = tmp_path / "cover.mp4"
    with av.open(str(path), "w") as file, av.open(str(source)) as there:
        cover = file.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 256, 192, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        copied = {stream.index: file.add_stream_from_template(stream) for stream in there.streams}
        file.mux(cover.encode(av.VideoFrame.from_ndarray(moving_face(1)[0], format="rgb24")))
        file.mux(cover.encode(None))
        for packet in there.demux():
            if packet.dts is not None:
                packet.stream = copied[packet.stream.index]
                file.mux(packet)
    assert len(list(read_frames(path))) == 10


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF, 0x80000000])
def test_a_wav_file_written_to_a_pipe_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    samples = (tone(1.234, 16000)[0] * 32767).astype("<i2").tobytes()
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", size, b"WAVE", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16, b"data", size
    )
    (tmp_path / "a.wav").write_bytes(head + samples)
    waveform, rate = read_sound(tmp_path / "a.wav")
    assert (rate, waveform.shape) == (16000, (1, len(samples) // 2))
    (tmp_path / "b.wav").write_bytes(head[:-4] + struct.pack("<I", len(samples) + 2000) + samples)
    with pytest.raises(ClipError, match="cut off"):
        read_sound(tmp_path / "b.wav")


def test_of_many_channels_no_more_is_kept_than_is_heard(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.flac"), "w") as file:
        stream = file.add_stream("flac", rate=96000, layout="7.1")
        stream.format = "s16"
        block = np.zeros((1, 8 * 96000), np.int16)
        for k in range(120):
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="7.1")
            frame.sample_rate, frame.pts = 96000, k * 96000
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    program = f"""import resource
from mmadfer.config.schema import PrepareConfig as P; from mmadfer.data.media.audio import read
from pathlib import Path
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
heard = read(Path({str(tmp_path / "a.flac")!r}), None, P(), False)
print(heard.seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"""

    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert float(told[0]) == pytest.approx(120)
    assert int(told[1]) < 200  # MB; all of it has 369


def test_published_recipes_read_as_published_and_own_clips_as_players_do() -> None:
    published = {"dfew_160", "dfew_160_fast", "mafw_224", "mafw_compound_224"}
    for name in (*published, "own_160", "demo", "crema_d", "ravdess"):
        assert load(name).prepare.media == ("published" if name in published else "player")


@pytest.mark.parametrize(
    ("form", "codec", "fps", "words"),
    [
        ("h264", "libx264", 15, "no time stamps: taken as 15 in a second"),
        ("mjpeg", "mjpeg", 15, "no times and no rate: taken as 25 in a second"),
    ],
)
def test_bare_streams_have_the_times_of_their_rate(tmp_path: Path, form: str, codec: str, fps: int, words: str) -> None:
    path = tmp_path / f"a.{form}"
    with av.open(str(path), "w", format=form) as file:
        stream = file.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = 256, 192, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for image in moving_face(20):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode(None))
    frames = list(video_frames(path))
    rate = 25 if form == "mjpeg" else fps
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(20) / rate, atol=1e-6)
    assert words in frames[0].told[0]
