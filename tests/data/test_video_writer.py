"""The sound of written videos: from time 0 to the end of the last picture."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from make_media import FPS, RATE, grey, sound_frames, tone, write_video

from mmadfer.data.media.video_writer import VideoWriter


def written(path: Path, sound: Path, pictures: int) -> list[str]:
    """Write so many pictures; the notes."""
    with VideoWriter(path, (192, 256), sound) as file:
        for k, picture in enumerate(grey(pictures)):
            file.write(k / FPS, picture)
    return file.notes


def heard(path: Path) -> tuple[float, np.ndarray]:
    """When sound starts, and mono float32 at 48 kHz."""
    with av.open(str(path)) as file:
        frames = list(file.decode(audio=0))
    return float(frames[0].time or 0), np.concatenate([frame.to_ndarray().mean(0) for frame in frames])


def sound_first(path: Path, sound: np.ndarray, before: float) -> Path:
    """A file whose sound starts so many seconds before the pictures, and comes behind them.

    These are more than FFmpeg looks at to find out when a file starts (5 MB), so that it takes their start for it.
    """
    with av.open(str(path), "w", options={"max_interleave_delta": "1"}) as file:
        video, audio = file.add_stream("rawvideo", rate=FPS), file.add_stream("pcm_s16le", rate=RATE, layout="mono")
        video.height, video.width, video.pix_fmt = 192, 256, "yuv420p"
        for k, picture in enumerate(grey(100)):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = 10 * FPS + k, Fraction(1, FPS)
            file.mux(video.encode(frame))
        for block in sound_frames(sound, RATE, "mono"):
            block.pts += round((10 - before) * RATE)
            file.mux(audio.encode(block))
    return path


@pytest.mark.parametrize("seconds", [0.7, 1.0, 1.3, 8.0])
def test_sound_ends_with_the_pictures(tmp_path: Path, seconds: float) -> None:
    source = write_video(tmp_path / "a.mkv", grey(5), tone(seconds), codecs=("ffv1", "flac"), pixels="bgr0")
    told = written(tmp_path / "out.mp4", source, FPS)
    assert len(heard(tmp_path / "out.mp4")[1]) / 48_000 == pytest.approx(min(1, seconds), abs=0.025)  # AAC's blocks
    longer = ["the sound of the overlay ends at 1.00 s with the pictures; that of the source goes on"]
    assert told == (longer if seconds == 8 else [])


def test_sound_before_time_0_is_left_out_and_the_rest_in_its_place(tmp_path: Path) -> None:
    sound = tone(1.5)
    sound[:, round(0.9 * RATE) :] = 0  # heard until 0.3 s
    assert written(tmp_path / "out.mp4", sound_first(tmp_path / "a.mkv", sound, 0.6), FPS) == []
    start, now = heard(tmp_path / "out.mp4")
    assert start == pytest.approx(0, abs=1e-3)
    assert len(now) / 48_000 == pytest.approx(0.9, abs=0.025)
    assert np.flatnonzero(np.abs(now) > 0.1)[-1] / 48_000 == pytest.approx(0.3, abs=0.025)
