"""MELD in the layout of its owners: parts, speakers, words, and rows that cannot be understood."""

from pathlib import Path

import pytest
from layouts import text, touch
from make_media import video

from mmadfer.cli.main import app, run
from mmadfer.config.schema import PrepareConfig
from mmadfer.data.cues.cues import read_rows
from mmadfer.data.preparation.prepare import prepare
from mmadfer.data.sets import meld, table
from mmadfer.errors import DataError

HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
ROWS = {
    "train": [
        '1,"Oh my God, he is lost it.",Phoebe,sadness,negative,0,0,4,7,"a","b"',
        "2,What?,Monica,surprise,x,0,1,4,7,a,b",
    ],
    "dev": ["1,Hey!,All,joy,positive,0,0,4,7,a,b"],
    "test": ["1,Fine.,Ross,anger,negative,3,10,4,7,a,b"],
}
FILMS = ("train_splits/dia0_utt0.mp4", "train_splits/dia0_utt1.mp4", "train_splits/dia9_utt9.mp4")


def made(root: Path, **rows: list[str]) -> Path:
    for part, lines in (ROWS | rows).items():
        text(root / f"{part}_sent_emo.csv", HEADER + "\n".join(lines) + "\n")
    return touch(root, *FILMS, "output_repeated_splits_test/dia3_utt10.mp4", "dev_splits_complete/dia1_utt0.mp4")


def test_the_owners_parts(tmp_path: Path) -> None:
    found = table("meld", made(tmp_path), 2)
    told = {clip.id: (clip.label, clip.subject, clip.splits["official"], clip.media.name) for clip in found.clips}
    assert told == {
        "train-dia0_utt0": ("sadness", "Phoebe", "train", "dia0_utt0.mp4"),
        "train-dia0_utt1": ("surprise", "Monica", "train", "dia0_utt1.mp4"),
        "dev-dia0_utt0": ("joy", "All", "validation", "dia0_utt0.mp4"),
        "test-dia3_utt10": ("anger", "Ross", "test", "dia3_utt10.mp4"),
    }
    folds = {clip.id: clip.fold for clip in found.clips}
    assert folds["train-dia0_utt0"] == folds["train-dia0_utt1"], "a dialogue is whole"
    assert any("1 of 4 listed clips are not there" in note for note in found.notes)
    assert any("MELD has 13,708" in note for note in found.notes)


def test_the_words_are_for_textualise(tmp_path: Path) -> None:
    meld.write_transcripts(made(tmp_path / "set"), tmp_path / "said.csv")
    lines = (tmp_path / "said.csv").read_text(encoding="utf-8").splitlines()
    assert lines[:3] == ["clip,text", 'train-dia0_utt0,"Oh my God, he is lost it."', "train-dia0_utt1,What?"]


def test_words_of_films_that_are_not_there_are_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, store, said = made(tmp_path / "set"), tmp_path / "meld.store", tmp_path / "said.csv"
    video(root / "train_splits" / "dia0_utt1.mp4", 0.4)
    (root / "output_repeated_splits_test" / "dia3_utt10.mp4").unlink()
    prepare(table("meld", root, 2), store, PrepareConfig(face_size=32))
    meld.write_transcripts(root, said)
    asked = ["textualise", store, "--out", tmp_path / "cues.jsonl", "--transcripts", said, "--use", "text"]
    assert run(app, [*map(str, asked)]) == 0
    assert "3 rows are of clips that the store has left out (train-dia0_utt0" in " ".join(
        capsys.readouterr().out.split()
    )
    (row,) = read_rows(tmp_path / "cues.jsonl")
    assert (row.id, row.sentence) == ("train-dia0_utt1", "Words: What?;")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("1,Hey!,All,happy,positive,0,0,4,7,a,b", "line 2: emotion 'happy' of 'All'"),
        ("1,Hey!,All,joy,positive,x,0,4,7,a,b", "dialogue 'x', utterance '0'"),
        ("1,Hey!,,joy,positive,0,0,4,7,a,b", "of '' in dialogue '0'"),
    ],
)
def test_rows_that_cannot_be_understood(tmp_path: Path, row: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        meld.table(made(tmp_path, dev=[row]), 2)


def test_lists_that_are_not_these(tmp_path: Path) -> None:
    root = made(tmp_path, dev=[*ROWS["dev"], *ROWS["dev"]])
    with pytest.raises(DataError, match="lists dev-dia0_utt0 twice"):
        meld.table(root, 2)
    (root / "dev_sent_emo.csv").write_text("Utterance,Speaker\n")
    with pytest.raises(DataError, match="has no column Emotion"):
        meld.table(root, 2)
    (root / "dev_sent_emo.csv").unlink()
    with pytest.raises(DataError, match=r"has no dev_sent_emo\.csv"):
        meld.table(root, 2)
