"""A real film with a time stamp that goes back: its times rise everywhere, and windows of it are trained on."""

from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from tiny import config

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.clip import read_clip
from mmadfer.data.loading.loader import Loader
from mmadfer.data.loading.samplers import Pick
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.sets import ClipTable, SourceClip
from mmadfer.data.sets.toy_voice import VOICE_RATE_HZ
from mmadfer.data.store.store import Store
from mmadfer.data.video_windows import Windows, read_windows

SIDE, FPS, FRAMES = 32, 25, 40
SETTINGS = PrepareConfig(face_size=SIDE, face_box="union", no_sound="silence")


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Motion JPEG with sound; frame 20 is stamped with the time of frame 18."""
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as file:
        picture = file.add_stream("mjpeg", rate=FPS)
        picture.width, picture.height, picture.pix_fmt = SIDE, SIDE, "yuvj420p"
        picture.time_base = Fraction(1, 1000)
        voice = file.add_stream("pcm_s16le", rate=VOICE_RATE_HZ, layout="mono")
        for k in range(FRAMES):
            image = av.VideoFrame.from_ndarray(np.full((SIDE, SIDE, 3), 4 * k, np.uint8))
            image.pts, image.time_base = k, Fraction(1, FPS)
            for packet in picture.encode(image):
                packet.dts, packet.time_base = 40 * k, Fraction(1, 1000)
                packet.pts = 40 * (18 if k == 20 else k) + 200  # no packet is shown before it is decoded
                file.mux(packet)
        for start in range(0, VOICE_RATE_HZ * FRAMES // FPS, 1024):
            time = (start + np.arange(1024)) / VOICE_RATE_HZ
            wave = (8000 * np.sin(2 * np.pi * 440 * time)).astype(np.int16)
            block = av.AudioFrame.from_ndarray(wave[None], "s16", "mono")
            block.sample_rate, block.pts, block.time_base = VOICE_RATE_HZ, start, Fraction(1, VOICE_RATE_HZ)
            file.mux(voice.encode(block))
    return path


def test_windows_of_a_film_with_a_falling_time_stamp(film: Path, tmp_path: Path) -> None:
    with av.open(str(film)) as file:
        stamps = np.array([frame.time for frame in file.decode(video=0)])
    assert (np.diff(stamps) < 0).sum() == 1, "the film is as it should be wrong"
    times = read_clip(film, SETTINGS, cropped=True).times
    np.testing.assert_array_equal(times, np.maximum.accumulate(times))
    assert times[20] == times[19]
    assert times[21] - times[0] == pytest.approx(0.84, abs=1e-3)
    windows = list(read_windows(film, SETTINGS, Windows(0.8, 0.4), cropped=True, keep=range))
    assert all((np.diff(one.clip.times) >= 0).all() for one in windows if one.clip)
    clips = [SourceClip(f"{label}", film, label, 1, cropped=True) for label in ("glad", "sad")]
    made = prepare(ClipTable("falling", ("glad", "sad"), clips), tmp_path / "a.store", SETTINGS)
    settings = config(data={"window": {"stride": 1}}, prepare=SETTINGS.model_dump(), model={"image_size": SIDE})
    with Store(made.out) as store, closing(Loader(store, settings, ("glad", "sad"))) as loader:
        np.testing.assert_array_equal(store.read("sad").times, times)
        (batch,) = loader.train(0, [[Pick("sad", window=(12, 16))]])
    assert batch.frames.shape[1] == 16
