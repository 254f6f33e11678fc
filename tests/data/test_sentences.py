"""Sentences of clips and their tokens: what is read, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers, processors

from mmadfer.config.text import TextConfig
from mmadfer.data.sentences import read_sentences
from mmadfer.data.tokens import FileTokenizer, HashedWords, cut_words, tokenizer_beside, tokenizer_of
from mmadfer.errors import ConfigError, DataError, WeightsError
from mmadfer.model.weights.text import SIZES, check_folder
from mmadfer.utils.files import sha256

SMALL = {"width": 8, "depth": 1, "heads": 1, "mlp_width": 8, "vocabulary": 512, "positions": 16, "tokens": 8}


def text(**keys: Any) -> TextConfig:
    return TextConfig.model_validate({**SMALL, **keys})


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_words_are_told_apart_and_cut() -> None:
    made = tokenizer_of(text())
    one, other = made("Brows up."), made("BROWS down.")
    assert one.dtype == np.int64
    assert one.tolist() == [2, one[1], one[2], one[3], 3, 0, 0, 0]
    assert (one[1], one[3]) == (other[1], other[3])
    assert one[2] != other[2]
    assert made("a b c d e f g h i j").tolist()[-1] == 3, "the end of the sentence is kept"
    assert made.hash == "hashed words, version 1"


def test_words_have_the_same_tokens_everywhere() -> None:
    assert HashedWords(text())("joy é").tolist() == [2, 118, 63, 3, 0, 0, 0, 0]


def test_padding_is_no_word() -> None:
    with pytest.raises(ConfigError, match="padding is token 0 or 1"):
        tokenizer_of(text(pad=5))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a tokenizer of four words."""
    words = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "joy": 4}
    made = Library(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.enable_padding(length=20)
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_a_file_of_the_folder(folder: Path) -> None:
    made = tokenizer_of(text(folder=folder))
    assert made("joy and joy").tolist() == [2, 4, 1, 4, 3, 0, 0, 0]
    assert made("joy " * 20).tolist() == [2, 4, 4, 4, 4, 4, 4, 3]
    assert len(made.hash) == 64


@pytest.mark.parametrize("hashed", [True, False])
def test_what_is_cut_is_known(folder: Path, hashed: bool) -> None:
    made = tokenizer_of(text(folder=None if hashed else folder))
    whole, said = "joy, é joy joy joy joy and joy!", "joy, é joy joy joy"
    found = made.read(whole)
    assert (found.tokens.tolist(), found.length) == (made(whole).tolist(), 12)
    assert (found.cut, whole[: found.end]) == (True, said)
    assert found.tokens.tolist() == made(said).tolist(), "the rest is not read"
    found = made.read(said)
    assert (found.length, found.cut, found.end) == (8, False, len(said))
    assert not hashed or made.read("İİ a b c d").end == 6, "a letter whose small form is two"
    short = made.read("joy ")
    assert (short.length, short.cut, short.end) == (3, False, 4)
    assert cut_words([made.read(one) for one in (said, whole, whole + " joy")]) == (
        "2 of 3 sentences are longer than the 8 tokens that the model reads (model.text.tokens), and what is behind is "
        "not seen; the longest has 13"
    )
    assert not cut_words([made.read(said)])


def test_a_tokenizer_that_does_not_fit(folder: Path) -> None:
    file = folder / "tokenizer.json"
    made = Library.from_file(str(file))
    made.add_tokens([f"word{k}" for k in range(600)])
    made.save(str(file))
    with pytest.raises(WeightsError, match=r"a token 604, but model\.text\.vocabulary is 512"):
        FileTokenizer(text(), file)
    Library(models.WordLevel({"[UNK]": 0, "joy": 9999}, unk_token="[UNK]")).save(str(file))  # few tokens, far away
    with pytest.raises(WeightsError, match=r"a token 9999, but model\.text\.vocabulary is 512"):
        FileTokenizer(text(), file)
    file.write_text(file.read_text()[:100])
    with pytest.raises(WeightsError, match="is no tokenizer"):
        FileTokenizer(text(), file)
    with pytest.raises(WeightsError, match="the text encoder needs"):
        FileTokenizer(text(), folder / "none.json")


@pytest.mark.parametrize(
    ("names", "pad", "told"),
    [
        (["<s>", "<pad>", "</s>"], 0, r"its padding is token 1, but model\.text\.pad is 0: set that to 1"),
        (["<s>", "<pad>", "</s>"], 1, ""),
        (["<s>", "joy", "</s>"], 0, r"model\.text\.pad is 0, and that is '<s>', with which all sentences begin or end"),
        (["[CLS]", "joy", "[PAD]"], 1, r"its padding is token 2, but model\.text\.pad is 1"),
        (["[CLS]", "joy", "[SEP]"], 1, ""),
    ],
)
def test_padding_is_that_of_the_tokenizer(tmp_path: Path, names: list[str], pad: int, told: str) -> None:
    made = Library(models.WordLevel({name: k for k, name in enumerate([*names, "[UNK]"])}, unk_token="[UNK]"))
    ends = [(name, k) for k, name in enumerate(names) if k != 1]
    made.post_processor = processors.TemplateProcessing(single=f"{ends[0][0]} $A {ends[1][0]}", special_tokens=ends)
    made.save(str(tmp_path / "tokenizer.json"))
    config = text(folder=tmp_path, pad=pad)
    if told:
        with pytest.raises(WeightsError, match=told):
            tokenizer_of(config)
    else:
        assert tokenizer_of(config)("ho").tolist() == [0, 3, 2, *[pad] * 5]


def padding_beside_bert(folder: Path, own: int, **told: Any) -> None:
    """A folder of a BERT whose tokenizer's padding is token `own`."""
    names = {f"[{name}]": k for k, name in enumerate(("CLS", "UNK", "SEP", "MASK"))} | {"[PAD]": own}
    Library(models.WordLevel(names, unk_token="[UNK]")).save(str(folder / "tokenizer.json"))
    sizes = {theirs: SMALL[ours] for theirs, ours in SIZES.items() if ours in SMALL}
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **sizes, **told}))


@pytest.mark.parametrize("told", [{}, {"pad_token_id": 0}, {"pad_token_id": None}], ids=["silent", "other", "null"])
def test_padding_of_a_bert_is_the_tokenizers_alone(tmp_path: Path, told: dict[str, Any]) -> None:
    """Whatever config.json says: a setting that one of both checks asks for is none that the other refuses."""
    padding_beside_bert(tmp_path, 4, **told)
    with pytest.raises(WeightsError, match=r"its padding is token 4, but model\.text\.pad is 0: set that to 4"):
        tokenizer_of(text(folder=tmp_path))
    config = text(folder=tmp_path, pad=4)
    tokenizer_of(config)
    check_folder(config, tmp_path)


def test_a_trained_model_keeps_its_padding(tmp_path: Path) -> None:
    """One that was trained when the tokenizer's was not asked for reads its sentences as in training."""
    padding_beside_bert(tmp_path, 4)
    config = text(folder=tmp_path)
    own = FileTokenizer(config, tmp_path / "tokenizer.json")
    assert tokenizer_beside(tmp_path / "m.safetensors", config, own.hash)("[MASK]").tolist() == [3, *[0] * 7]


def test_a_sentence_of_padding_alone(tmp_path: Path) -> None:
    Library(models.WordLevel({"[PAD]": 0, "[UNK]": 1}, unk_token="[UNK]")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match=r"makes no token of the sentence '\[PAD\]'"):
        tokenizer_of(text(folder=tmp_path))("[PAD]")


def row(clip: str = "a", said: str = "Words: ho;", template: int = 1, **cues: Any) -> dict[str, Any]:
    return {"id": clip, "template": template, "cues": cues, "sentence": said}


def test_sentences_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "cues.jsonl", row(transcript="ho"), row("b", "Words: hi;", transcript="hi"))
    path.write_text("\n" + path.read_text() + " \n")
    found = read_sentences(path)
    assert (found.texts, found.template, found.hash) == ({"a": "Words: ho;", "b": "Words: hi;"}, 1, sha256(path))
    assert found.of(["b"]) == ["Words: hi;"]
    with pytest.raises(DataError, match="no sentence of clip 'c'"):
        found.of(["c"])


@pytest.mark.parametrize(
    ("rows", "use"),
    [
        ([row(transcript="ho")], ("text",)),
        ([row(transcript="ho"), row("b", "Words: other;", transcript="hi")], ()),
        ([row(said="Voice: high joy;", arousal=0.7)], ()),
        ([row(said="Face: no face found;", face={"frames": 3, "found": 0})], ("face",)),
        ([row(said="My own.")], ()),
    ],
    ids=["words", "other words", "own cues", "face", "none"],
)
def test_what_a_video_gives_is_known(tmp_path: Path, rows: list[Any], use: tuple[str, ...]) -> None:
    assert read_sentences(write(tmp_path / "cues.jsonl", *rows)).use == use


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([row(), ["a", "x"]], "line 2 is no row of cues"),
        ([row(), row()], "clip 'a' has a row before"),
        ([row(), row("b", template=2)], r"of template 1 \(calm_face own\) and 2"),
        ([], "of template none"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, rows: list[Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_sentences(write(tmp_path / "cues.jsonl", *rows))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_sentences(tmp_path / "none.jsonl")
    (tmp_path / "cut.jsonl").write_text('{"clip": "a", "te')
    with pytest.raises(DataError, match=r"cut\.jsonl, line 1 holds no valid JSON"):
        read_sentences(tmp_path / "cut.jsonl")
