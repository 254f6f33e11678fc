"""`mmadfer textualise`: stores and videos become rows; bad input is refused by name, and no file is half-written."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import sleep
from types import SimpleNamespace

import numpy as np
import pytest
from layouts import wav
from make_media import grey, moving_face, portrait, tone, video, write_images, write_video
from PIL import Image

from mmadfer.cli.main import app, run
from mmadfer.config.schema import PrepareConfig
from mmadfer.data.cues.cues import Row, read_rows
from mmadfer.data.cues.template import Template, sentence
from mmadfer.data.cues.textualise import Source, textualise
from mmadfer.data.cues.transcripts import read_transcripts
from mmadfer.data.cues.videos import measure_video
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.sets import ClipTable, SourceClip
from mmadfer.errors import ClipError, DataError, FileError, MmadferError

SETTINGS = PrepareConfig(face_size=96, no_sound="silence")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A film of a face with a tone, frames of a face, and frames of none; the store has landmarks or not."""
    root = tmp_path_factory.mktemp("media")
    face = np.asarray(Image.fromarray(portrait()).crop((80, 54, 156, 130)).resize((96, 96)))
    clips = [
        SourceClip("talks", video(root / "talks.mp4", 0.4), "glad", 1),
        SourceClip("mute", write_images(root / "mute", [face, face]), "glad", 2, cropped=True),
        SourceClip("wall", write_images(root / "wall", grey(2)), "glad", 1, cropped=True),
        SourceClip("hidden", write_images(root / "hidden", grey(2)), "glad", 2),
        SourceClip("gone", root / "gone.mp4", "glad", 2),
    ]
    table = ClipTable("made", ("glad",), clips)
    plain, marked = root / "plain.store", root / "marked.store"
    prepare(table, plain, SETTINGS)
    prepare(table, marked, SETTINGS.model_copy(update={"landmarks": "face_mesh_v2"}))
    return SimpleNamespace(root=root, plain=plain, marked=marked, film=root / "talks.mp4")


def told(*arguments: Path | str) -> int:
    return run(app, ["textualise", *map(str, arguments)])


def rows(path: Path) -> dict[str, Row]:
    return {row.id: row for row in read_rows(path)}


def test_every_clip_of_a_store_has_its_row(made: SimpleNamespace, tmp_path: Path) -> None:
    out = tmp_path / "cues.jsonl"
    assert told(made.marked, "--out", out) == 0
    found = rows(out)
    assert [*found] == ["mute", "talks", "wall"]
    assert all(row.sentence == sentence(row.cues) for row in found.values())
    talks, mute, wall = (found[name].cues for name in ("talks", "mute", "wall"))
    assert talks.face
    assert talks.voice
    assert (talks.face.frames, talks.face.found) == (10, 10)
    assert {12, 25} <= {unit for unit, proxy in talks.face.units.items() if proxy > 0.5}  # she smiles
    assert talks.voice.pitch_hz == pytest.approx(220, abs=2)
    assert (
        "lip corners pulled up, lips parted; Head: upright; Sound of the voice: high pitch" in found["talks"].sentence
    )
    assert found["mute"].sentence.endswith("Head: upright; Sound of the voice: no speech found;")
    assert found["wall"].sentence == "Face: no face found; Sound of the voice: no speech found;"
    assert (mute.transcript, wall.face and wall.face.found) == (None, 0)


def test_two_runs_give_the_same_bytes(made: SimpleNamespace, tmp_path: Path) -> None:
    files = [tmp_path / f"{jobs}.jsonl" for jobs in (1, 3)]
    for jobs, out in zip((1, 3), files, strict=True):
        assert told(made.marked, "--out", out, "--jobs", jobs) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"1.jsonl", "3.jsonl"}


def test_landmarks_of_the_store_say_the_same_as_its_frames(made: SimpleNamespace, tmp_path: Path) -> None:
    files = [tmp_path / "plain.jsonl", tmp_path / "marked.jsonl"]
    assert [told(store, "--out", out) for store, out in zip((made.plain, made.marked), files, strict=True)] == [0, 0]
    plain, marked = map(rows, files)
    assert {name: row.sentence for name, row in plain.items()} == {name: row.sentence for name, row in marked.items()}


def test_only_what_is_used_is_measured(made: SimpleNamespace, tmp_path: Path) -> None:
    out = tmp_path / "cues.jsonl"
    assert told(made.marked, "--out", out, "--use", "voice") == 0
    assert all(row.cues.face is None and row.sentence.startswith("Sound of the voice") for row in read_rows(out))
    assert told(made.marked, "--out", out, "--use", "face", "--calm-face", "program") == 0
    assert all(row.cues.voice is None and row.calm_face == "program" for row in read_rows(out))


def test_a_sound_that_is_gone_or_changed_is_refused(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, kept = tmp_path / "cues.jsonl", made.film.read_bytes()
    try:
        made.film.unlink()
        assert told(made.marked, "--out", out) == 2
        assert "talks.mp4 is gone" in (said := capsys.readouterr().err)
        assert "clip 'talks'" in said
        made.film.write_bytes(kept[:-1] + b"x")
        assert told(made.marked, "--out", out) == 2
        assert "other content of the same size" in capsys.readouterr().err
        assert told(made.marked, "--out", out, "--use", "face") == 0
    finally:
        made.film.write_bytes(kept)


@pytest.mark.slow
def test_videos_are_looked_at_as_by_predict(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that cannot be read is told of; one without a face, and one without sound, have rows that say so."""
    out, films = tmp_path / "cues.jsonl", tmp_path / "films"
    write_video(films / "faceless.mp4", grey(5), tone(0.2))
    write_video(films / "silent.mp4", moving_face(5), None)
    (films / "broken.mp4").write_bytes(b"no film")
    shutil.copy(made.film, films / "talks\x1b[2J.mp4")
    assert told(films, "--out", out) == 2
    assert "broken.mp4" in (said := capsys.readouterr()).err
    assert "3 clips (1 without a face, 1 without speech)" in said.out
    found = {Path(name).name: row.sentence for name, row in rows(out).items()}
    assert [*found] == ["faceless.mp4", "silent.mp4", "talks\\x1b[2J.mp4"]
    assert found["faceless.mp4"].startswith("Face: no face found; Sound of the voice: high pitch")
    assert found["silent.mp4"].endswith("Sound of the voice: no speech found;")
    assert "lips parted" in found["talks\\x1b[2J.mp4"]


def test_where_no_video_can_be_read_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    assert told(tmp_path / "broken.mp4", "--out", tmp_path / "cues.jsonl") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["broken.mp4"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "cues.csv"], "must end in .jsonl"),
        (["--out", "cues.jsonl", "--use", "text"], "--use text needs --transcripts"),
        (["--out", "cues.jsonl", "--use", "smell"], "--use smell: a sentence has the parts text, face, voice"),
        (["--out", "cues.jsonl", "--use", "face", "--transcripts", "t.csv"], "--transcripts needs --use text"),
        (["--out", "cues.jsonl", "--transcripts", "t.doc"], "t.doc is no file of transcripts"),
        (["--out", "cues.jsonl", "--transcripts", "none.csv"], "none.csv"),
        (["film.mp4", "--out", "cues.jsonl"], "is a store, beside 1 other paths"),
    ],
)
def test_wrong_options_end_before_the_work(
    made: SimpleNamespace,
    arguments: Sequence[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told(made.marked, *arguments) == 2
    assert words in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_a_terminated_run_leaves_nothing(made: SimpleNamespace, tmp_path: Path) -> None:
    films, out = tmp_path / "films", tmp_path / "out" / "cues.jsonl"
    films.mkdir()
    for k in range(200):
        shutil.copy(made.film, films / f"{k}.mp4")
    command = [sys.executable, "-m", "mmadfer", "textualise", films, "--out", out, "--use", "voice", "--jobs", "1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (out.parent.is_dir() and [*out.parent.glob(".cues.jsonl.*.tmp")]):
            sleep(0.05)
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    assert not [*out.parent.iterdir()]


# ---------------------------------------------------------------- transcripts

MEDIA = {"a": Path("x/film.mp4"), "b": Path("x/film.mp4"), "c": Path("x/other.mp4")}


def file(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_words_of_a_table(made: SimpleNamespace, tmp_path: Path) -> None:
    words = file(tmp_path / "t.csv", '\ufefftext,speaker,clip\n"What,\n now?",Ann,talks\n,Bob,wall\n')
    assert told(made.marked, "--out", tmp_path / "cues.jsonl", "--transcripts", words) == 0
    found = rows(tmp_path / "cues.jsonl")
    assert found["talks"].sentence.startswith("Words: What, now?; Movements of the face: ")
    assert found["wall"].sentence.startswith("Words: none; Face: no face found;")
    assert found["mute"].cues.transcript is None
    voice = found["talks"].cues.voice
    assert voice
    assert voice.words_per_second == pytest.approx(2 / 0.4, abs=0.6)


def test_rows_of_clips_that_were_left_out_are_passed_over(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words are of the whole set; preparation has left two of its clips out."""
    words = file(tmp_path / "t.csv", "clip,text\ngone,x\ntalks,What now?\nhidden,y\n")
    cues = file(tmp_path / "c.jsonl", '{"id": "gone", "cues": {"valence": 0.5}}\n')
    asked = [made.marked, "--out", tmp_path / "cues.jsonl", "--transcripts", words, "--cues", cues]
    assert told(*asked) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "t.csv: 2 rows are of clips that the store has left out (gone, hidden), and are passed over" in said
    assert "c.jsonl: 1 row is of a clip that the store has left out (gone), and is passed over" in said
    assert [*rows(tmp_path / "cues.jsonl")] == ["mute", "talks", "wall"]
    file(words, "clip,text\ngone,x\n" + "".join(f"film_{k},y\n" for k in range(7)))
    assert told(*asked) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "has words of 7 clips that are none of the 3 that are put into words (mute, talks, wall)" in said
    assert "'film_0' (line 3), 'film_1' (line 4), 'film_2' (line 5), 'film_3' (line 6), 'film_4' (line 7)" in said
    assert "and 2 more: is the file of another data set?" in said


def test_cues_of_other_programs_stand_beside_what_is_measured(made: SimpleNamespace, tmp_path: Path) -> None:
    given = {"units": {"6": 0.9, "12": 0.5}, "emotions": {"happiness": 0.9}, "prosody": {"Joy": 0.4}, "valence": 0.9}
    cues = file(tmp_path / "py-feat.jsonl", json.dumps({"id": "talks", "cues": given}) + "\n")
    assert told(made.marked, "--out", tmp_path / "cues.jsonl", "--cues", cues) == 0
    found = rows(tmp_path / "cues.jsonl")
    assert found["talks"].sentence.startswith(
        "Movements of the face: cheeks raised; Expressions of the face: happiness; Head: upright; Tone of voice: high "
        "Joy; Voice: high valence; Sound of the voice: high pitch"
    )
    assert found["mute"].cues.emotions is None
    assert told(made.marked, "--out", tmp_path / "cues.jsonl", "--cues", cues, "--use", "voice") == 0
    assert rows(tmp_path / "cues.jsonl")["talks"].sentence.startswith("Tone of voice: high Joy; Voice: high valence;")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"id": "film_7", "cues": {}}, "has cues of 1 clip that is none of the 3"),
        ({"id": "film_7", "cues": {}}, "'film_7' (line 3)"),
        ({"id": "talks", "cues": {"units": {"6": 1.2}}}, "cues.units.6"),
        ({"id": "talks", "cues": {"units": {"6": 1.2}}}, "odd.jsonl, line 3 is no row of cues"),
        ({"id": "talks", "cues": {"face": {}}}, "cues.face: unknown key"),
        ({"id": "talks"}, "cues"),
    ],
)
def test_odd_cues_of_other_programs_are_refused(
    row: dict[str, object],
    words: str,
    made: SimpleNamespace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cues = file(tmp_path / "odd.jsonl", "\n\n" + json.dumps(row) + "\n")
    assert told(made.marked, "--out", tmp_path / "out.jsonl", "--cues", cues) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["odd.jsonl"]


def test_a_table_of_a_spreadsheet_and_names_in_another_form(tmp_path: Path) -> None:
    words = read_transcripts(file(tmp_path / "t.csv", "clip;text\ne\u0301;yes, no\n"), {"\u00e9": Path("film.mp4")})
    assert words.of("\u00e9", (0, 1)) == "yes, no"


def test_a_video_that_is_too_long_is_refused(tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", grey(5), tone(0.2))
    with pytest.raises(ClipError, match=r"film.mp4 is longer than 0.1 s: cut it into clips, as"):
        measure_video(film, ("face", "voice"), settings=SETTINGS.model_copy(update={"max_seconds": 0.1}))


def test_pictures_are_not_looked_at_for_words_of_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Subtitles go by the time of the pictures, which nobody needs to read for other words and the sound."""
    film = write_video(tmp_path / "film.mp4", grey(5), tone(0.2))
    film.write_bytes(film.read_bytes().replace(b"avc1", b"none"))  # of a codec that nobody knows
    words, captions = file(tmp_path / "t.csv", f"clip,text\n{film},Oh no.\n"), file(tmp_path / "film.srt", CAPTIONS)
    asked = [film, "--out", tmp_path / "cues.jsonl", "--use", "text", "--use", "voice"]
    assert told(*asked, "--transcripts", captions) == 2
    assert "film.mp4 has a codec that FFmpeg does not know" in capsys.readouterr().err
    assert told(*asked, "--transcripts", words) == 0
    assert [row.cues.transcript for row in read_rows(tmp_path / "cues.jsonl")] == ["Oh no."]


def test_a_video_without_words_in_the_table_is_not_measured(tmp_path: Path) -> None:
    film, words = tmp_path / "gone.mp4", file(tmp_path / "t.csv", "clip,text\n")
    source = Source("gone", film, partial(measure_video, film, ("text", "face"), settings=SETTINGS))
    with pytest.raises(ClipError, match=r"gone\.mp4 has no transcript"):
        textualise([source], tmp_path / "cues.jsonl", Template(use=("text", "face")), words, needs_words=True)


CAPTIONS = "1\n00:00:00,000 --> 00:00:00,100\nOh no.\n\n2\n00:00:09,000 --> 00:00:10,000\nThe end.\n"


@pytest.mark.parametrize("use", [("text", "face"), ("text", "voice"), ("text",)])
def test_subtitles_are_cut_to_a_video_whose_face_is_not_seen(use: tuple[str, ...], tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", grey(5), tone(0.2))
    words = read_transcripts(file(tmp_path / "film.srt", CAPTIONS), {"film": film})
    measured = measure_video(film, use, settings=SETTINGS)
    assert measured.span == (0.0, 0.2)
    assert words.of("film", measured.span) == "Oh no."


def test_subtitles_are_cut_to_a_file_of_sound_alone(tmp_path: Path) -> None:
    sound = wav(tmp_path / "film.wav", 0.2)
    assert measure_video(sound, ("text", "voice"), settings=SETTINGS).span == pytest.approx((0.0, 0.2), abs=0.01)
    assert measure_video(sound, ("text",), settings=SETTINGS).span == pytest.approx((0.0, 0.2), abs=0.01)


SRT = (
    "1\n00:00:00,500 --> 00:00:01,000\n<i>Well</i>, {\\an8}what a\nday!\n\n"
    "2\n00:00:02,000 --> 00:00:03,000\nOh no.\n\n3\n00:59:00,000 --> 00:59:02,000\nThe end.\n"
)
VTT = (
    "WEBVTT\n\nNOTE not said\n\n1\n00:00.500 --> 00:01.000 align:start\n<v Ann>Well</v>, what a\nday!\n\n"
    "00:00:02.000 --> 00:00:03.000\nOh &amp; no.\n"
)


@pytest.mark.parametrize(("name", "text", "second"), [("film.srt", SRT, "Oh no."), ("film.vtt", VTT, "Oh & no.")])
def test_subtitles_are_cut_to_the_time_of_the_clip(name: str, text: str, second: str, tmp_path: Path) -> None:
    words = read_transcripts(file(tmp_path / name, text), MEDIA)
    assert words.of("a", (0.0, 2.0)) == "Well, what a day!"
    assert words.of("b", (0.9, 2.5)) == f"Well, what a day! {second}"
    assert words.of("b", (1.0, 2.0)) == ""
    assert words.of("c", (0.0, 9.0)) is None


def test_subtitles_of_a_single_film_may_have_any_name(tmp_path: Path) -> None:
    words = read_transcripts(file(tmp_path / "any.srt", SRT), {"a": Path("film.mp4")})
    assert words.of("a", (-np.inf, np.inf)) == "Well, what a day! Oh no. The end."


ROW = "00:00:00,500 --> 00:00:01,000\n"
REFUSED: list[tuple[str, str | bytes, type[MmadferError], str]] = [
    (
        "t.csv",
        "clip,text\na,x\nfilm_7,y\n",
        DataError,
        r"has words of 1 clip that is none of the 3 that are put into words \(a, b, c\): 'film_7' \(line 3\): is",
    ),
    ("t.csv", "clip,text\na,x\na,y\n", DataError, "clip 'a' is there twice"),
    ("t.csv", "path,text\na,x\n", DataError, "has the columns path, text: clip,text are meant"),
    ("t.csv", "", DataError, "has the columns none"),
    ("t.csv", "clip,text\na,x,y\n", DataError, "line 2 has not 2 cells"),
    ("t.csv", 'clip,text\na,"x\n', DataError, "quote a text"),
    ("t.csv", "clip,text\na," + "x" * 20_001 + "\n", DataError, "20001 characters are too many"),
    ("t.csv", "clip,text\na," + "x" * 140_000 + "\n", DataError, "field larger than"),
    ("t.csv", b"clip,text\na,\xff\n", FileError, "is not UTF-8"),
    ("third.srt", SRT, DataError, "third.srt is of one film, but it is named as none of 3 clips' films"),
    ("film.srt", "nothing\n", DataError, "has no subtitles"),
    ("film.vtt", SRT, DataError, "has no subtitles"),
    ("film.srt", "x\n" * 600_000, FileError, "larger than"),
    ("film.srt", ROW + "{" * 900_000, FileError, "line 2: more than 2000 characters without a time stamp"),
    ("film.srt", ROW + "{\n" * 400_000, FileError, "more than 2000 characters without a time stamp"),
    ("film.srt", ROW + "\n" * 900_000, FileError, "more than 2000 characters without a time stamp"),
    ("film.vtt", ROW.replace(",", ".") + "< b" * 300_000, FileError, "characters without a time stamp"),
]


@pytest.mark.parametrize(("name", "text", "kind", "words"), REFUSED)
def test_odd_transcripts_are_refused(
    name: str, text: str | bytes, kind: type[MmadferError], words: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=words):
        read_transcripts(file(tmp_path / name, text), MEDIA)


def test_subtitles_with_more_words_than_a_transcript_has(tmp_path: Path) -> None:
    words = read_transcripts(file(tmp_path / "film.srt", (ROW + "word " * 300 + "\n\n") * 20), MEDIA)
    with pytest.raises(DataError, match="clip 'a' has 29999 characters of subtitles"):
        words.of("a", (0, 1))


def test_rows_are_plain_json(made: SimpleNamespace, tmp_path: Path) -> None:
    out = tmp_path / "cues.jsonl"
    assert told(made.marked, "--out", out, "--use", "voice") == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [[*line] for line in lines] == [["id", "template", "calm_face", "cues", "sentence"]] * 3
