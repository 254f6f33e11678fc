"""`predict --overlay`: what is said of a video, drawn into it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from mmadfer.cli.predict import predict_files
from mmadfer.data.sets import toy
from mmadfer.data.sets.toy import write_clip
from mmadfer.errors import ConfigError

pytestmark = pytest.mark.slow
_PANEL = 232


def pictures(path: Path) -> Iterator[tuple[float, np.ndarray]]:
    with av.open(str(path)) as file:
        for frame in file.decode(video=0):
            yield float(frame.time or 0), frame.to_ndarray(format="rgb24")


def sound(path: Path) -> tuple[float, float]:
    """Length in seconds, and loudness."""
    with av.open(str(path)) as file:
        heard = np.concatenate([frame.to_ndarray().mean(0) for frame in file.decode(audio=0)])
        return len(heard) / file.streams.audio[0].rate, float(np.sqrt(np.mean(heard**2)))


def coloured(picture: np.ndarray) -> np.ndarray:
    """Pixels (H, W) that are far from grey."""
    return np.ptp(picture.astype(int), axis=2) > 60


def test_times_and_sound_are_those_of_the_video_and_each_face_has_its_box(
    onnx_file: Path, pair: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    assert predict_files([pair], onnx_file, window=1, hop=0.5, faces="all", overlay=out) == 0
    before, now = list(pictures(pair)), list(pictures(out))
    assert [time for time, _ in now] == pytest.approx([time for time, _ in before], abs=1e-4)
    height, width = before[0][1].shape[:2]
    assert now[0][1].shape[1] == width + _PANEL
    assert sound(out) == pytest.approx(sound(pair), rel=0.05)
    drawn = coloured(now[5][1][:height, :width]) & ~coloured(before[5][1])
    for half in (drawn[:, : width // 2], drawn[:, width // 2 :]):
        assert half.any(0).sum() > 40  # as wide as a face
    cursor = [int(picture[-3].min(axis=1).argmax()) for _, picture in now]  # below the timelines
    assert cursor == sorted(cursor)
    assert cursor[-1] > 0.8 * (width + _PANEL)
    assert not list(tmp_path.glob(".*"))


def test_a_folder_has_one_of_each_video_and_one_that_cannot_be_drawn_stops_no_other(
    onnx_file: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in" / "b").mkdir(parents=True)
    one, other = tmp_path / "in" / "a.mp4", tmp_path / "in" / "b" / "a.mp4"
    shutil.copy(video, one)
    shutil.copy(video, other)
    from mmadfer.cli import predict

    kept = predict._collect

    def then_lost(*given: object) -> object:
        results = kept(*given)  # type: ignore[arg-type]
        one.write_bytes(b"")
        return results

    monkeypatch.setattr(predict, "_collect", then_lost)
    assert predict_files([one, other], onnx_file, overlay=tmp_path / "out") == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a-2.mp4"]
    assert f"{tmp_path / 'out' / 'a.mp4'} cannot be drawn" in capsys.readouterr().err


def test_one_that_cannot_be_written_stops_no_other(
    onnx_file: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other, out = tmp_path / "a.mp4", tmp_path / "b.mp4", tmp_path / "out"
    shutil.copy(video, one)
    shutil.copy(video, other)
    for taken in ("a.mp4", "a.png"):
        (out / taken).mkdir(parents=True)
    assert predict_files([one, other], onnx_file, overlay=out, plot=out) == 2
    assert sorted(path.name for path in out.iterdir() if path.is_file()) == ["b.mp4", "b.png"]
    told = capsys.readouterr().err
    assert f"{out / 'a.mp4'} cannot be drawn: [Errno 21] Is a directory" in told
    assert f"{out / 'a.png'} cannot be drawn: [Errno 21] Is a directory" in told


def test_what_overlays_cannot_be_written_to(onnx_file: Path, video: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "a.mp4", tmp_path / "b.mp4"
    shutil.copy(video, one)
    shutil.copy(video, other)
    for given, place, says in (
        ([one, other], "o.mp4", r"--overlay .*o\.mp4 is one file, and there are 2 videos"),
        ([one], "a.mp4", r"--overlay would write over .*a\.mp4, which is read"),
        ([one, other], ".", r"--overlay would write over .*a\.mp4"),
        ([one], "o.avi", r"--overlay .*o\.avi: the name must end in \.mp4, or be of a folder"),
    ):
        with pytest.raises(ConfigError, match=says):
            predict_files(given, onnx_file, overlay=tmp_path / place)
    assert one.read_bytes() == other.read_bytes() == video.read_bytes()


def test_a_picture_of_odd_and_small_size(onnx_file: Path, tmp_path: Path) -> None:
    shown, heard = toy.content("happy", 0, seed=1)
    write_clip(tmp_path / "small.mp4", shown[:, :, :-6], heard)
    assert predict_files([tmp_path / "small.mp4"], onnx_file, overlay=tmp_path / "out.mp4") == 0
    (_, first), *_ = pictures(tmp_path / "out.mp4")
    assert first.shape[0] % 2 == first.shape[1] % 2 == 0
    assert first.shape[0] >= 240
