"""`mmadfer predict`: what its arguments stand for, and what becomes of its results whatever ends it."""

import csv
import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from export_setup import CONTRACT

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from make_media import forbidden

from mmadfer.cli.drawings import _drawn, _files
from mmadfer.cli.predict import predict_files
from mmadfer.errors import ConfigError, DataError
from mmadfer.runtime import Failure, Recogniser, Video
from mmadfer.runtime.find_videos import videos
from mmadfer.utils.files import write_text


@pytest.fixture
def tree(tmp_path: Path, media: Path) -> Path:
    """Videos and what else lies in folders."""
    four = sorted(media.glob("*/*.mp4"))
    for k, name in enumerate(("b.mp4", "a.MP4", "sub/c.mp4", ".hidden/d.mp4")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(four[k])
    for name in ("notes.txt", "sub/cover.jpg", ".e.mp4"):
        (tmp_path / name).write_text("no video")
    return tmp_path


def test_a_folder_stands_for_its_videos(tree: Path) -> None:
    assert [video.path.relative_to(tree).as_posix() for video in videos([tree])] == ["a.MP4", "b.mp4", "sub/c.mp4"]
    assert videos([tree / "b.mp4", tree / "sub"]) == [Video(tree / "b.mp4"), Video(tree / "sub/c.mp4")]


def test_a_folder_without_videos_stands_for_folders_of_images(tmp_path: Path) -> None:
    for name in ("b/1.jpg", "b/2.jpg", "a/1.png", "c/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [video.path.name for video in videos([tmp_path])] == ["a", "b"]
    assert [video.path.name for video in videos([tmp_path / "a"])] == ["a"]
    assert [video.path.name for video in videos([tmp_path / "c"])] == ["c"]
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "b.flac").touch()
    sounds = {video.path.name: video.sound for video in videos([tmp_path], tmp_path / "sounds", cropped=True)}
    assert sounds["b"] == tmp_path / "sounds/b.flac"
    assert sounds["a"] == tmp_path / "sounds/a.wav"  # which is not there, as will be said
    with pytest.raises(DataError, match="typo does not exist"):
        videos([tmp_path], tmp_path / "typo")
    with pytest.raises(DataError, match="there are 2 clips"):
        videos([tmp_path / "a", tmp_path / "b"], tmp_path / "sounds/b.flac")


def test_a_rate_is_for_folders_of_images(onnx_file: Path, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "1.jpg").touch()
    assert videos([tree / "b.mp4", tmp_path / "frames"], fps=30) == [
        Video(tree / "b.mp4", fps=30),
        Video(tmp_path / "frames", fps=30),
    ]
    with pytest.raises(DataError, match="--fps 30 is for folders of images"):
        videos([tree / "b.mp4"], fps=30)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="give the images per second"):
            predict_files([tmp_path / "frames"], onnx_file, fps=wrong)


def test_a_closed_folder_is_a_failure(onnx_file: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.chmod(0o755)
    monkeypatch.chdir(tree)  # paths from here, as pytest closes the folders above to other users
    recogniser = Recogniser(onnx_file)
    with forbidden(Path("sub")):
        found = videos([Path()])
        assert [str(video.path) for video in found] == ["a.MP4", "b.mp4", "sub"]
        (failure,) = recogniser.predict(found[2:])
    assert isinstance(failure, Failure)
    assert "sub cannot be read (Permission denied)" in str(failure.error)


def test_the_command_takes_folders_and_goes_on(onnx_file: Path, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "sub/broken.mp4").write_text("no video")
    out = tree / "out.csv"
    assert predict_files([tree], onnx_file, out=(out,), jobs=2) == 2
    lines = out.read_text().splitlines()
    assert [Path(line.split(",")[0]).name for line in lines[1:]] == ["a.MP4", "b.mp4", "broken.mp4", "c.mp4"]
    assert "broken.mp4" in capsys.readouterr().out


def test_where_results_go_is_asked_before_anything_is_computed(tree: Path) -> None:
    (tree / "folder.csv").mkdir()
    for name, words in {
        "out.xml": r"must end in one of \.json, \.csv, \.vtt, \.srt",
        "notes.txt/out.csv": r"cannot be written \(Not a directory\)",
        "folder.csv": r"cannot be written \(Is a directory\)",
    }.items():
        with pytest.raises(ConfigError, match=words):
            predict_files([tree], tree / "no_model", out=(tree / name,))


def test_nothing_is_written_over_what_is_read(tree: Path) -> None:
    model, talk, voice, frames = tree / "no_model.onnx", tree / "b.mp4", tree / "voice.mp4", tree / "frames"
    srt, kept, sentences = tree / "talk.srt", tree / "talk.partial.csv", tree / "said.json"
    frames.mkdir()
    for path in (voice, srt, kept, sentences, frames / "1.png"):
        path.touch()
    for videos_, says, options in (
        ([talk], "--overlay would write over .*voice.mp4, which is read", {"sound": voice, "overlay": voice}),
        ([talk], "--out would write over .*talk.srt, which is read", {"transcripts": srt, "out": (srt,)}),
        ([talk], "--out would write over .*partial", {"transcripts": kept, "out": (tree / "talk.csv",)}),
        ([talk], "--out would write over .*said.json", {"sentences": sentences, "out": (tree / "sub/../said.json",)}),
        ([talk], "--out would write over .*no_model.onnx.json", {"out": (tree / "no_model.onnx.json",)}),
        ([frames], "--plot would write .*1.png among the frames", {"plot": frames / "1.png"}),
        ([frames], "--overlay would write .*frames.mp4 among the frames", {"overlay": frames}),
    ):
        with pytest.raises(ConfigError, match=says):
            predict_files(videos_, model, **options)  # type: ignore[arg-type]


def test_drawings_do_not_go_into_a_file_without_an_ending(tree: Path) -> None:
    (tree / "plots").touch()
    for option in ("plot", "overlay"):
        with pytest.raises(ConfigError, match=rf"--{option} .*plots: the name must end in .* or be of a folder"):
            predict_files([tree / "b.mp4"], tree / "no_model", **{option: tree / "plots"})  # type: ignore[arg-type]


def test_drawings_of_one_name_are_numbered_past_names_that_are_taken(tmp_path: Path) -> None:
    named = [Video(Path(name)) for name in ("d1/a.mp4", "d2/a.mp4", "d3/a-2.mp4", "d4/a.mp4", ".")]
    found = [path.name for path in _files(tmp_path, ".png", named)]
    assert found == ["a.png", "a-2.png", "a-2-2.png", "a-3.png", "clip.png"]


def test_a_full_disk_ends_the_drawing_and_nothing_else_does(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(number: int) -> list[str]:
        raise OSError(number, os.strerror(number), "a.png")

    assert not _drawn(Path("a.png"), lambda: fail(errno.EACCES))
    assert "a.png cannot be drawn: [Errno 13] Permission denied" in capsys.readouterr().err
    with pytest.raises(OSError, match="No space left"):
        _drawn(Path("a.png"), lambda: fail(errno.ENOSPC))


def test_one_file_is_not_where_another_is_kept(tree: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.partial\.csv is where --out .*a\.csv is kept until it is whole"):
        predict_files([tree], tree / "no_model", out=(tree / "a.partial.csv", tree / "sub/../a.csv"))


def test_a_full_disk_hides_no_other_error(
    onnx_file: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            predict_files([video], onnx_file, out=(out,))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
    assert str(caught.value).endswith(f": {str(out)!r}")
    told = "1 of 1 videos are predicted, and cannot be kept: [Errno 27] File too large:"
    assert f"{told} '{tmp_path}/out.partial" in capsys.readouterr().err


ENDLESS = """
import sys
from mmadfer.cli import main, predict

predict._WRITE_EVERY_SECONDS = 0
sys.argv = ["mmadfer", "predict", *sys.argv[1:]]
main.main()
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_results_outlive_the_command(onnx_file: Path, video: Path, tmp_path: Path, end: signal.Signals) -> None:
    out, kept = tmp_path / "out.csv", tmp_path / "out.partial.csv"
    write_text(out, "an older one")
    command = [ENDLESS, *[str(video)] * 500, "--model", str(onnx_file), "--out", str(out), "--jobs", "2"]
    with subprocess.Popen([sys.executable, "-c", *command], stdout=-1, stderr=-1, text=True) as process:
        while not kept.exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(end)
        shown, told = process.communicate(timeout=60)
    rows = list(csv.DictReader(kept.read_text().splitlines()))
    assert 1 <= len(rows) < 500
    assert {row["label"] for row in rows} <= set(CONTRACT.labels)
    assert out.read_text() == "an older one"
    if end != signal.SIGKILL:
        assert process.returncode == 128 + end
        assert f"not finished: {len(rows)} of 500 videos are predicted, and kept in {kept}\n" in told
        assert shown.count(rows[0]["label"]) > len(rows)


def test_a_whole_result_replaces_what_was_kept(onnx_file: Path, video: Path, tmp_path: Path) -> None:
    out, kept = tmp_path / "out.json", tmp_path / "out.partial.json"
    write_text(kept, "of a command that was stopped")
    assert predict_files([video], onnx_file, out=(out,)) == 0
    assert out.exists()
    assert not kept.exists()


def test_rows_say_which_model_it_was(onnx_file: Path, video: Path, tmp_path: Path) -> None:
    write_text(tmp_path / "bad.mp4", "no video")
    predict_files([video, tmp_path / "bad.mp4"], onnx_file, out=(tmp_path / "out.csv",), window=1)
    *rows, failed = csv.DictReader((tmp_path / "out.csv").read_text().splitlines())
    facts = Recogniser(onnx_file).facts()
    assert {(row["model"], row["fold"], row["weights_hash"]) for row in rows} == {
        ("tiny.onnx", "1", facts["weights_hash"])
    }
    assert (failed["model"], failed["label"]) == ("", "")
    assert "bad.mp4" in failed["error"]
