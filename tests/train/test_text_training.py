"""Training with sentences: alone and beside the features, resumed exactly; sentences that do not fit are refused."""

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from setting import StopAt, checkpoints, events, make_config, promises, train_on_two_ranks, weights
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers
from transformers import BertConfig, BertModel

from mmadfer.cli.main import app
from mmadfer.cli.main import run as command
from mmadfer.config.schema import Config, parse
from mmadfer.config.sweep import SweepTable
from mmadfer.data.loading.loader import Loader
from mmadfer.data.store.store import Store
from mmadfer.data.tokens import HashedWords
from mmadfer.data.training_files import check_files
from mmadfer.errors import ConfigError, DataError, RunError, WeightsError
from mmadfer.evaluation.evaluate import evaluate_path
from mmadfer.launch.sweep.launch import plan_sweep
from mmadfer.model.weights.build import build_model
from mmadfer.run import directory as runs
from mmadfer.run.launch_record import LaunchOptions
from mmadfer.train.loop import train

SAID = {"glad": "The lips are up", "sad": "The lips are down", "calm": "Nothing moves"}
TEXT = {"width": 16, "depth": 1, "heads": 2, "mlp_width": 32, "vocabulary": 256, "positions": 24, "tokens": 16}
ALONE = {"branches": "text", "fusion": "none", "joint": "none", "temporal": "none"}
UPDATES = {"rank": 2, "alpha": 8, "scale_by": "sqrt"}


def write_sentences(store: Path, **rows: str) -> Path:
    """A sentence for each clip that tells its class, and `rows` beside them."""
    with Store(store) as read:
        said = {clip.id: f"{SAID[clip.label]}; clip {k}" for k, clip in enumerate(read.clips.values())}
    lines = [json.dumps({"id": clip, "template": 1, "sentence": text}) for clip, text in (said | rows).items()]
    path = store.with_suffix(".cues.jsonl")
    path.write_text("\n".join(lines))
    return path


def reading(store: Path, text: dict[str, Any], model: dict[str, Any] | None = None, **train: Any) -> Config:
    tree = make_config(store, **train).model_dump()
    return parse({**tree, "model": {**tree["model"], **(model or {}), "text": {**TEXT, **text}}}, "the test")


@pytest.fixture
def told(store: Path, tmp_path: Path) -> Path:
    """The store with sentences beside it."""
    own = tmp_path / "clips.store"
    own.write_bytes(store.read_bytes())
    write_sentences(own)
    return own


def test_text_alone_learns_what_only_the_words_tell(told: Path, tmp_path: Path) -> None:
    config = reading(told, {"learns": "all", "pool": "mean"}, ALONE, epochs=12, lr=1e-2)
    result = train(config, 1, tmp_path / "fold")
    assert result.scores["uar"] == 1.0
    assert promises(checkpoints(tmp_path / "fold")[-1]).text.template == 1
    found = evaluate_path(tmp_path / "fold", told, 1, out=tmp_path / "again.csv")
    assert found.scores()["uar"] == 1.0
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "fold" / "predictions.csv").read_bytes()


@pytest.mark.parametrize(
    ("text", "model", "way"),
    [
        ({"lora": UPDATES}, ALONE, {"precision": "bf16"}),
        ({"learns": "all"}, ALONE, {"zero_stage": 2, "accumulate": 2}),
        ({"lora": UPDATES}, {}, {"precision": "reference"}),
    ],
    ids=["updates", "all", "beside"],
)
def test_resuming_is_exact(told: Path, tmp_path: Path, text: Any, model: Any, way: Any) -> None:
    config = reading(told, text, model, **way)
    assert train(config, 1, tmp_path / "straight").finished
    assert not train(config, 1, tmp_path / "stopped", stop=StopAt(1)).finished
    assert train(config, 1, tmp_path / "stopped", resume=True).finished
    assert weights(tmp_path / "stopped") == weights(tmp_path / "straight")


def test_a_run_goes_on_with_its_own_sentences(told: Path, tmp_path: Path) -> None:
    config = reading(told, {}, ALONE)
    train(config, 1, tmp_path / "fold", stop=StopAt(1))
    moved = write_sentences(told).rename(tmp_path / "moved.jsonl")
    elsewhere = config.model_copy(update={"data": config.data.model_copy(update={"text": moved})})
    write_sentences(told, c00="Something else")
    with pytest.raises(RunError, match=r"belongs to another run: the store's fingerprint was .*sentences"):
        train(config, 1, tmp_path / "fold", resume=True)
    assert train(elsewhere, 1, tmp_path / "fold", resume=True).finished, "the same sentences in another place"
    with pytest.raises(DataError, match=r"was trained on other sentences of .* give those of training"):
        evaluate_path(tmp_path / "fold", told)
    tested = evaluate_path(tmp_path / "fold", told, sentences=moved)
    assert tested.scores()["uar"] == json.loads((tmp_path / "fold" / "result.json").read_text())["uar"]


def train_fold(run: Path, config: Config, fold: int, resume: bool = False, stop: StopAt | None = None) -> Path:
    folder = runs.open_fold(run, config, fold, resume)
    assert train(config, fold, folder, resume=resume, stop=stop).finished == (stop is None)
    return folder


def test_all_folds_of_a_run_read_the_same_sentences(
    told: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, run = reading(told, {}, ALONE, epochs=1), tmp_path / "run"
    train_fold(run, config, 2, stop=StopAt(0))
    kept = write_sentences(told, c00="Something else").read_bytes()
    with pytest.raises(RunError, match=r"fold 1 reads other sentences than .*run was begun with \(hash .*, now .*\)"):
        train_fold(run, config, 1)
    shutil.rmtree(run / "fold-2")
    train_fold(run, config, 1, resume=True)
    write_sentences(told)
    refused = "fold 2 reads other sentences than run was begun with"
    assert command(app, ["train", str(run / "config.yaml"), "--fold", "2", "--run", str(run)]) == 2
    assert refused in " ".join(capsys.readouterr().err.split())
    table = SweepTable(name="rows", base="tiny", rows={"run": {}})
    with pytest.raises(RunError, match=f"row run: {refused}"):
        plan_sweep(tmp_path, table, {"run": config}, LaunchOptions(cluster="local"))
    assert not (run / "fold-2").exists(), "it is refused before anything is made"
    with pytest.raises(RunError, match=r"fold 2 reads other sentences than .* put those back, or begin a new run"):
        train_fold(run, config, 2)
    with pytest.raises(RunError, match="fold 2 reads other sentences than run was begun with"):
        check_files(config, [2], run=run)
    check_files(config, [2], run=tmp_path / "another")
    told.with_suffix(".cues.jsonl").write_bytes(kept)
    train_fold(run, config, 2, resume=True)


def test_folds_of_an_earlier_version_have_read_what_their_checkpoints_say(told: Path, tmp_path: Path) -> None:
    """Whose run.json says nothing of sentences."""
    config, run = reading(told, {}, ALONE, epochs=1), tmp_path / "run"
    train_fold(run, config, 1)
    about = json.loads((run / "run.json").read_text())
    text = about.pop("text")
    (run / "run.json").write_text(json.dumps(about))
    write_sentences(told, c00="Something else")
    with pytest.raises(RunError, match="fold 2 reads other sentences than run was begun with"):
        check_files(config, [2], run=run)
    with pytest.raises(RunError, match=r"fold 2 reads other sentences than .*run was begun with"):
        train_fold(run, config, 2)
    write_sentences(told)
    train_fold(run, config, 2, resume=True)
    assert json.loads((run / "run.json").read_text())["text"] == text


def bert(folder: Path, seed: int) -> Path:
    """A BERT of the sizes of `TEXT`, with a tokenizer, as transformers saves them."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(**sizes, vocab_size=256, max_position_embeddings=24)).save_pretrained(folder)
    words = Library(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "lips": 2, "Nothing": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("text", [{"learns": "all"}, {"lora": UPDATES}], ids=["all", "updates"])
def test_all_folds_of_a_run_begin_with_the_same_encoder(told: Path, tmp_path: Path, text: Any) -> None:
    run, (one, other) = tmp_path / "run", (bert(tmp_path / f"bert-{seed}", seed) for seed in (0, 1))
    own, another = (reading(told, {**text, "folder": folder}, ALONE, epochs=1) for folder in (one, other))
    train_fold(run, own, 1)
    with pytest.raises(RunError, match=r"fold 2 reads another text encoder than .*run was begun with"):
        train_fold(run, another, 2)
    moved = reading(told, {**text, "folder": one.rename(tmp_path / "moved")}, ALONE, epochs=1)
    train_fold(run, moved, 2, resume=True)


@pytest.mark.slow
def test_two_ranks_learn_as_one_does(told: Path, tmp_path: Path) -> None:
    """By plain gradient descent, whose steps are as long as the gradient: one of a rank alone would be half of it."""
    descent = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "lr": 1e-2, "schedule": "constant"}
    config = reading(told, {"learns": "all"}, ALONE, epochs=1, **descent)
    one, two, before = (
        train_fold(tmp_path / "one", config, 1),
        tmp_path / "two" / "fold-1",
        build_model(config.model, 3),
    )
    train_on_two_ranks(config, tmp_path / "two")
    alone, together = (load_file(checkpoints(fold)[-1] / "weights.safetensors") for fold in (one, two))
    moved = {name: alone[name] - value for name, value in before.state_dict().items() if name in alone}
    assert moved["text.words.weight"].abs().max() > 1e-5
    for name, change in moved.items():
        other = together[name] - before.state_dict()[name]
        torch.testing.assert_close(other, change, rtol=0, atol=1e-3 * float(change.abs().max()) + 1e-7, msg=name)
    assert [row["loss"] for row in events(two, "step")] == pytest.approx([row["loss"] for row in events(one, "step")])
    text = json.loads((two.parent / "run.json").read_text())["text"]
    assert text == json.loads((one.parent / "run.json").read_text())["text"]


def test_sentences_that_are_cut_are_told_of(told: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sentences(told, c00="Of a clip that has much more to be said of it than a model of sixteen tokens has read")
    train(reading(told, {}, ALONE, epochs=1), 1, tmp_path / "fold")
    long = "sentences is longer than the 16 tokens that the model reads (model.text.tokens)"
    assert f"WARNING: 1 of 24 {long}" in capsys.readouterr().out
    evaluate_path(tmp_path / "fold", told)
    assert f"WARNING: 1 of 12 {long}" in capsys.readouterr().err
    train(reading(told, {"tokens": 24}, ALONE, epochs=1), 1, tmp_path / "longer")
    assert "longer than" not in capsys.readouterr().out


def test_sentences_are_read_once(told: Path, tmp_path: Path) -> None:
    """What was checked is what is learnt, whatever becomes of the file."""
    config = reading(told, {}, ALONE)
    with Store(told) as store, closing(Loader(store, config, store.labels)) as loader:
        write_sentences(told, c00="Something else")
        (batch,) = loader.test(["c00"], 1)
        assert batch.tokens is not None
        assert batch.tokens[0].tolist() == HashedWords(config.model.text)("The lips are up; clip 0").tolist()


def test_sentences_of_other_clips_are_refused(told: Path) -> None:
    config, path = reading(told, {}, ALONE), told.with_suffix(".cues.jsonl")
    check_files(config, [1])
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[2:]))
    with pytest.raises(DataError, match=r"has no sentence of 2 clip\(s\), c00, c01: make it again"):
        check_files(config, [1])
    write_sentences(told, stranger="Of nobody")
    with pytest.raises(DataError, match=r"has sentences of 1 clip\(s\), stranger: which"):
        check_files(config, [1])
    path.unlink()
    with pytest.raises(ConfigError, match=r"there are none at .*clips\.cues\.jsonl: make them with `mmadfer textual"):
        check_files(config, [1])


def test_a_model_is_tested_on_sentences_as_its_own(told: Path, tmp_path: Path) -> None:
    train(reading(told, {}, ALONE, epochs=1), 1, tmp_path / "fold")
    path = told.with_suffix(".cues.jsonl")
    path.write_text(path.read_text().replace('"template": 1', '"template": 2'))
    with pytest.raises(DataError, match=r"trained on sentences of template 1, .*and these are of 2"):
        evaluate_path(tmp_path / "fold", told, 1)


def test_settings_that_do_not_go_with_sentences(told: Path) -> None:
    tree = reading(told, {}).model_dump()
    with pytest.raises(ConfigError, match=r"mixup 0\.2 blends clips, and sentences cannot be"):
        parse({**tree, "data": {**tree["data"], "augment": {"mixup": 0.2}}}, "the test")
    with pytest.raises(ConfigError, match=r"data\.text names sentences, but the model reads none"):
        parse({**tree, "data": {**tree["data"], "text": "x.jsonl"}, "model": {**tree["model"], "text": None}}, "x")
    with pytest.raises(WeightsError, match=r"needs .*tokenizer\.json"):
        check_files(reading(told, {"folder": told.parent}), [1])
