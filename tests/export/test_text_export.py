"""Models that read sentences: exported with their tokenizer, and predicted with the words that were read."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from export_setup import CONTRACT, MODEL, SETTINGS
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel
from typer.testing import CliRunner

from mmadfer.cli.main import app, run
from mmadfer.config.schema import ModelConfig
from mmadfer.config.text import TextConfig
from mmadfer.contract import Contract
from mmadfer.data.cues.cues import PARTS, Cues, Part, Row, read_rows
from mmadfer.data.cues.template import Template, sentence
from mmadfer.data.cues.textualise import of_store, textualise
from mmadfer.data.cues.videos import measure_video
from mmadfer.data.sentences import check_same_sentences, facts_of, read_sentences
from mmadfer.data.store.store import Store
from mmadfer.data.tokens import HashedWords, tokenizer_of
from mmadfer.data.tokens import Tokenizer as Words
from mmadfer.errors import ConfigError, DataError, WeightsError
from mmadfer.evaluation.evaluate import evaluate_path
from mmadfer.explain.explainer import Asked, Explainer
from mmadfer.export.engine.to_trt import _built
from mmadfer.export.graph.to_onnx import to_onnx
from mmadfer.export.parity.parity import export_onnx
from mmadfer.export.server.to_triton import to_triton
from mmadfer.export.to_weights import to_weights
from mmadfer.model.weights.build import build_model, save_weights
from mmadfer.runtime import Recogniser
from mmadfer.runtime.backends.ort import OrtBackend
from mmadfer.runtime.prediction import Failure
from mmadfer.runtime.sentences import GivenText

SIZES = {"width": 16, "depth": 1, "heads": 2, "mlp_width": 32, "vocabulary": 256, "positions": 64, "tokens": 64}
ALONE = {"branches": "text", "fusion": "none", "joint": "none", "temporal": "none", "prompts": 0, "progressive": 0}
UPDATED = {**SIZES, "lora": {"rank": 2, "scale_by": "sqrt"}}


def stored(path: Path, facts: Path, text: dict[str, Any], change: dict[str, Any], **contract: Any) -> Path:
    """A model with all parts awake, whose contract says that it was trained on the sentences in `facts`."""
    config = ModelConfig.model_validate({**MODEL.model_dump(), **change, "text": text})
    model, generator = build_model(config, len(CONTRACT.labels)), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.trainable().values():
            value.add_(0.2 * torch.randn(value.shape, generator=generator))
    assert config.text is not None
    told = facts_of(read_sentences(facts), tokenizer_of(config.text))
    save_weights(path, model, CONTRACT.model_copy(update={"model": config, "text": told, **contract}), frozen=True)
    return path


@pytest.fixture(scope="module")
def told(store: Path) -> Path:
    """The store with sentences beside it, of what is seen and heard."""
    out, template = store.with_suffix(".cues.jsonl"), Template(use=PARTS[1:])
    with Store(store) as read:
        textualise(of_store(read, template.use), out, template)
    return store


@pytest.fixture(scope="module")
def alone(told: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    return stored(folder / "model.safetensors", told.with_suffix(".cues.jsonl"), UPDATED, ALONE)


@pytest.mark.slow
def test_file_to_label_is_the_same_exported(told: Path, video: Path, tmp_path: Path) -> None:
    file = stored(tmp_path / "m.safetensors", told.with_suffix(".cues.jsonl"), UPDATED, {})
    out = export_onnx(file, tmp_path / "m.onnx", told, clips=1)
    assert json.loads((tmp_path / "m.parity.json").read_text())["passed"] is True
    graph = OrtBackend(out)
    assert [port.name for port in graph.session.get_inputs()][-1] == "tokens"
    assert graph.contract.model.text is not None
    assert graph.contract.model.text.lora.rank == 0, "updates are merged"
    own, exported = (Recogniser(one).warm()(video) for one in (file, out))
    assert own.sentence == exported.sentence == read_sentences(told.with_suffix(".cues.jsonl")).texts["sad-000"]
    assert own.probabilities == pytest.approx(exported.probabilities, abs=1e-5)


def test_a_person_reads_why(alone: Path, video: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.json"
    asked = CliRunner().invoke(app, ["predict", str(video), "--model", str(alone), "--out", str(out)])
    assert asked.exit_code == 0, asked.output
    (found,) = json.loads(out.read_text())
    assert found["sentence"].startswith("Movements of the face: ")
    assert f"was read as: {found['sentence']}" in asked.output


def test_a_person_reads_where_a_sentence_was_cut(told: Path, video: Path, tmp_path: Path) -> None:
    facts = told.with_suffix(".cues.jsonl")
    model = stored(tmp_path / "m.safetensors", facts, {**SIZES, "tokens": 12}, ALONE)
    (whole,) = (row.sentence for row in read_rows(facts) if row.id == "sad-000")
    found = Recogniser(model)(video)
    kept, mark, rest = found.sentence.partition(" […]")
    assert (mark, rest) == (" […]", "")
    assert whole.startswith(kept)
    reading = HashedWords(TextConfig.model_validate({**SIZES, "tokens": 12})).read(whole)
    assert kept == whole[: reading.end]
    assert found.notes[-1] == f"the model reads the first 12 of the sentence's {reading.length} tokens"


def own_words(path: Path, use: tuple[Part, ...] = ("text",), **said: str) -> Path:
    """Rows with a transcript each."""
    rows = [(clip, Cues(transcript=text)) for clip, text in said.items()]
    made = [Row(id=k, template=1, cues=cues, sentence=sentence(cues, Template(use=use))) for k, cues in rows]
    path.write_text("".join(row.to_line() for row in made))
    return path


def test_what_is_said_is_given(video: Path, tmp_path: Path) -> None:
    model = stored(tmp_path / "m.safetensors", own_words(tmp_path / "c.jsonl", a="No!", b="Yes."), SIZES, ALONE)
    (lacking,) = Recogniser(model).predict([video])
    assert isinstance(lacking, Failure)
    assert "has no transcript, and the model has learnt from what is said" in str(lacking.error)
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("clip", "text"), (str(video), "No!")])
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    given = GivenText(transcripts=tmp_path / "t.csv", videos=(video, broken))
    (lacking,) = Recogniser(model, text=given).predict([broken])
    assert isinstance(lacking, Failure)
    assert "broken.mp4 has no transcript" in str(lacking.error), "what is in a table is known before a video is read"
    said = Recogniser(model, text=GivenText(transcripts=tmp_path / "t.csv", videos=(video,)))(video)
    assert said.sentence == "Words: No!;"
    given = own_words(tmp_path / "v.jsonl", **{str(video): "No!"})
    assert Recogniser(model, text=GivenText(sentences=given))(video).probabilities == said.probabilities
    with pytest.raises(DataError, match="has words of 1 clip that is none of the 1 that are put into words"):
        Recogniser(model, text=GivenText(transcripts=tmp_path / "t.csv", videos=(tmp_path / "other.mp4",)))
    with pytest.raises(ConfigError, match="leave --window out, or cut the video into clips"):
        Recogniser(model)(video, window=1)
    with pytest.raises(ConfigError, match="one sentence about a whole clip"):
        Recogniser(model).windows(1.0, None)


@pytest.fixture(scope="module")
def heard(told: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learnt from all parts of a sentence, of folders with 5 images a second."""
    folder = tmp_path_factory.mktemp("heard")
    (folder / "t.csv").write_text("clip,text\nsad-000,Oh no.\n")
    with Store(told) as store:
        textualise(of_store(store, PARTS), folder / "c.jsonl", Template(), folder / "t.csv")
    slow = CONTRACT.prepare.model_copy(update={"fps": 5.0})
    return stored(folder / "m.safetensors", folder / "c.jsonl", SIZES, ALONE, prepare=slow)


@pytest.fixture
def frames(video: Path, tmp_path: Path) -> Path:
    """A folder with the first five frames of a video, and captions for a while."""
    with av.open(str(video)) as film:
        for k, frame in zip(range(5), film.decode(video=0), strict=False):
            (tmp_path / "film").mkdir(exist_ok=True)
            frame.to_image().save(tmp_path / "film" / f"{k}.png")
    lines = [f"{k}\n00:00:00,{k}00 --> 00:00:00,{k + 1}00\nWord {k}.\n" for k in (0, 8)]
    (tmp_path / "film.srt").write_text("\n".join(lines))
    return tmp_path / "film"


@pytest.mark.parametrize("options", [["--cropped"], ["--fps", "25"], []], ids=["cropped", "fps", "plain"])
def test_a_sentence_is_that_of_predict(
    heard: Path, frames: Path, video: Path, tmp_path: Path, options: list[str]
) -> None:
    asked = [str(frames), "--model", heard, "--transcripts", frames.with_suffix(".srt"), "--sound", video, *options]
    rows, said = tmp_path / "rows.jsonl", tmp_path / "said.json"
    assert run(app, ["textualise", *map(str, asked), "--out", str(rows)]) == 0
    assert run(app, ["predict", *map(str, asked), "--out", str(said)]) == 0
    ((found,), (row,)) = json.loads(said.read_text()), read_rows(rows)
    assert row.sentence == found["sentence"]
    assert row.sentence.startswith("Words: Word 0.; " if "--fps" in options else "Words: Word 0. Word 8.; ")
    plain = measure_video(frames, ("face",), settings=SETTINGS).cues(None).face
    assert (row.cues.face == plain) == (options != ["--cropped"])
    assert "medium loudness" in row.sentence
    given = GivenText(sentences=rows, videos=(frames,))
    assert Recogniser(heard, text=given)(frames).sentence == row.sentence


def test_what_textualise_needs_for_a_model(
    heard: Path,
    alone: Path,
    checkpoint: Path,
    told: Path,
    video: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, out = tmp_path / "t.csv", tmp_path / "rows.jsonl"
    words.write_text("clip,text\n")
    own = stored(tmp_path / "own.safetensors", own_words(tmp_path / "v.jsonl", ("face",), a="No!"), SIZES, ALONE)
    for arguments, cure in (
        ([video, "--model", heard], "has learnt from what is said: give it in --transcripts FILE"),
        ([video, "--model", heard, "--transcripts", words], "has no transcript, and the model has learnt from what"),
        (
            [video, "--model", alone, "--transcripts", words],
            "has not learnt from what is said: leave --transcripts out",
        ),
        ([video, "--model", checkpoint], "reads no sentences: leave --model out"),
        ([video, "--model", own], "has learnt sentences that are made of other cues than a video gives"),
        ([video, "--model", alone, "--use", "face"], "says how its sentences are made: leave --use out"),
        ([video, "--model", alone, "--calm-face", "own"], "says how its sentences are made: leave --calm-face out"),
        ([video, "--model", alone, "--cues", words], "says how its sentences are made: leave --cues out"),
        ([video, "--fold", "1"], "--fold is of a run directory: give it in --model"),
        ([told, "--fps", "0"], "is a store, which says itself what its clips are: leave --fps out"),
        ([told, "--cropped"], "is a store, which says itself what its clips are: leave --cropped out"),
        ([told, "--model", alone], "is a store, which says itself what its clips are: leave --model out"),
    ):
        assert run(app, ["textualise", *map(str, arguments), "--out", str(out)]) == 2
        assert cure in " ".join(capsys.readouterr().err.split())
        assert not out.exists()


def test_textualise_says_what_the_model_cuts(
    told: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = stored(tmp_path / "m.safetensors", told.with_suffix(".cues.jsonl"), {**SIZES, "tokens": 12}, ALONE)
    assert run(app, ["textualise", str(video), "--model", str(model), "--out", str(tmp_path / "r.jsonl")]) == 0
    assert "1 of 1 sentences is longer than the 12 tokens that the model reads" in capsys.readouterr().out


def test_sentences_made_otherwise_are_refused(alone: Path, checkpoint: Path, video: Path, tmp_path: Path) -> None:
    given = own_words(tmp_path / "v.jsonl", **{str(video): "No!"})
    with pytest.raises(DataError, match="trained on sentences of template 1, calm_face own, of face, voice, and these"):
        Recogniser(alone, text=GivenText(sentences=given))
    with pytest.raises(ConfigError, match="has not learnt from what is said"):
        Recogniser(alone, text=GivenText(transcripts=tmp_path / "none.csv"))
    asked = CliRunner().invoke(app, ["predict", str(video), "--model", str(checkpoint), "--sentences", str(given)])
    assert isinstance(asked.exception, ConfigError)
    assert "reads no sentences" in str(asked.exception)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with a tokenizer, as transformers saves them."""
    path = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(**sizes, vocab_size=256, max_position_embeddings=64)).save_pretrained(path)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "No", "Yes", "Words", ":", ";", "!", "."]
    made = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    made.save(str(path / "tokenizer.json"))
    return path


def test_the_tokenizer_goes_with_the_model(folder: Path, video: Path, tmp_path: Path) -> None:
    rows = own_words(tmp_path / "c.jsonl", a="No!", b="Yes.")
    run = stored(tmp_path / "m.safetensors", rows, {**SIZES, "folder": folder}, ALONE)
    given = GivenText(sentences=own_words(tmp_path / "v.jsonl", **{str(video): "No!"}))
    wanted = Recogniser(run, text=given)(video).probabilities
    (tmp_path / "out").mkdir()
    weights = to_weights(run, tmp_path / "out" / "w.safetensors")
    for out in (to_onnx(run, tmp_path / "out" / "m.onnx"), weights, to_onnx(weights, tmp_path / "out" / "again.onnx")):
        beside = out.with_suffix(".tokenizer.json")
        assert beside.read_bytes() == (folder / "tokenizer.json").read_bytes()
        assert Recogniser(out, text=given)(video).probabilities == pytest.approx(wanted, abs=1e-5)
    beside.write_text(beside.read_text().replace('"No"', '"Nay"'))
    with pytest.raises(WeightsError, match=r"again\.tokenizer\.json \(hash .*\) is not the tokenizer that"):
        Recogniser(out, text=given)
    beside.unlink()
    with pytest.raises(WeightsError, match=r"its tokenizer is neither at .*again\.tokenizer\.json nor at"):
        Recogniser(out, text=given)


def test_a_file_of_weights_is_tested_with_the_tokenizer_beside_it(folder: Path, told: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(folder, tmp_path / "bert"))
    run = stored(tmp_path / "m.safetensors", told.with_suffix(".cues.jsonl"), {**SIZES, "folder": own}, ALONE)
    wanted = evaluate_path(run, told)
    weights = to_weights(run, tmp_path / "out" / "w.safetensors")
    own.rename(tmp_path / "elsewhere")
    assert np.array_equal(evaluate_path(weights, told).logits, wanted.logits)
    (beside := weights.with_suffix(".tokenizer.json")).unlink()
    with pytest.raises(WeightsError, match=r"its tokenizer is neither at .*w\.tokenizer\.json nor at .*bert"):
        evaluate_path(weights, told)
    beside.write_bytes((folder / "tokenizer.json").read_bytes().replace(b'"No"', b'"Nay"'))
    with pytest.raises(WeightsError, match=r"w\.tokenizer\.json \(hash .*\) is not the tokenizer that"):
        evaluate_path(weights, told)


def test_another_tokenizer_is_not_delivered(folder: Path, tmp_path: Path) -> None:
    run = stored(
        tmp_path / "m.safetensors", own_words(tmp_path / "c.jsonl", a="No!"), {**SIZES, "folder": folder}, ALONE
    )
    other = Tokenizer(models.WordLevel({"[UNK]": 0, "No": 1}, unk_token="[UNK]"))
    other.save(str(run.with_suffix(".tokenizer.json")))
    for export, name in ((to_onnx, "m.onnx"), (to_weights, "w.safetensors")):
        with pytest.raises(WeightsError, match=r"m\.tokenizer\.json .* is not the tokenizer that .* was trained with"):
            export(run, tmp_path / "out" / name)
    assert not [*(tmp_path / "out").glob("*")]


def test_other_sentences_of_the_same_store_are_refused(told: Path) -> None:
    found = read_sentences(told.with_suffix(".cues.jsonl"))
    with Store(told) as store:
        facts = facts_of(found, HashedWords(TextConfig.model_validate(SIZES)))
        trained = CONTRACT.model_copy(update={"store": store.header.fingerprint, "text": facts})
        check_same_sentences(trained, store, facts)
        other = facts.model_copy(update={"sentences": "0" * 64})
        with pytest.raises(DataError, match="was trained on other sentences of"):
            check_same_sentences(trained, store, other)
        check_same_sentences(trained.model_copy(update={"store": "another"}), store, other)


def test_what_is_not_there_for_sentences(alone: Path, told: Path, tmp_path: Path) -> None:
    for options in ({"precision": "int8", "data": told}, {"input": "waveform"}):
        with pytest.raises(ConfigError, match="not there for models that read sentences"):
            to_onnx(alone, tmp_path / "m.onnx", **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="mmadfer explain is not there"):
        Explainer(alone, Asked("attention"))
    out = to_onnx(alone, tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match="Triton is not there"):
        to_triton(out, tmp_path / "served")
    with pytest.raises(ConfigError, match="TensorRT is not there"):
        _built("rtx", None, out, None, None)  # type: ignore[arg-type]


def test_the_contract_tells_of_the_sentences(alone: Path) -> None:
    contract: Contract = Recogniser(alone).contract
    assert contract.text is not None
    assert (contract.text.use, contract.text.template) == (("face", "voice"), 1)
    made: Words = tokenizer_of(contract.model.text)  # type: ignore[arg-type]
    assert made.hash == contract.text.tokenizer
