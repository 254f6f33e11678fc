"""The text encoder: BERT's and RoBERTa's numbers as transformers computes them, and files that do not fit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from model_setup import LABELS, contract
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForSequenceClassification, BertModel, RobertaConfig, RobertaModel

from mmadfer.config.model import ModelConfig
from mmadfer.config.text import TextConfig
from mmadfer.errors import ConfigError, WeightsError
from mmadfer.model.weights.build import build_model, load_weights, save_weights

SIZES = {"width": 32, "depth": 2, "heads": 4, "mlp_width": 48, "vocabulary": 100, "positions": 20, "tokens": 12}
THEIRS = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 100,
    "max_position_embeddings": 20,
    "attn_implementation": "eager",
}
ROBERTA = {"first_position": 2, "pad": 1, "eps": 1e-12, "types": 2}


def alone(**text: Any) -> ModelConfig:
    tree = {"branches": "text", "fusion": "none", "joint": "none", "temporal": "none", "text": {**SIZES, **text}}
    return ModelConfig.model_validate(tree)


def tokens(pad: int = 0) -> torch.Tensor:
    found = torch.randint(4, 100, (3, 12), generator=torch.Generator().manual_seed(2))
    found[1, 7:], found[2, 2:] = pad, pad
    return found


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT drawn at random, as transformers saves it."""
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    BertModel(BertConfig(**THEIRS)).save_pretrained(folder)
    return folder


def said_by_transformers(model: Any, given: torch.Tensor, pad: int) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(given, attention_mask=(given != pad).long()).last_hidden_state
    return found


def read(folder: Path, given: torch.Tensor, **text: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = build_model(alone(folder=folder, **text), 3).text(given)
    return found


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_bert_is_that_of_transformers(bert: Path, pool: str) -> None:
    given = tokens()
    hidden = said_by_transformers(BertModel.from_pretrained(bert), given, 0)
    seen = (given != 0)[..., None]
    wanted = hidden[:, 0] if pool == "cls" else (hidden * seen).sum(1) / seen.sum(1)
    torch.testing.assert_close(read(bert, given, pool=pool), wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("pad", [0, 1, 3])
def test_roberta_is_that_of_transformers(tmp_path: Path, pad: int) -> None:
    """Its positions begin behind padding's number; which is 1 where a folder does not say it."""
    model = roberta(tmp_path, pad)
    given = tokens(pad)
    wanted, way = said_by_transformers(model, given, pad)[:, 0], {**ROBERTA, "pad": pad, "first_position": pad + 1}
    torch.testing.assert_close(read(tmp_path, given, **way), wanted, rtol=0, atol=2e-6)
    if pad == 1:
        told = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({key: told[key] for key in told if key != "pad_token_id"}))
        torch.testing.assert_close(read(tmp_path, given, **way), wanted, rtol=0, atol=2e-6)


def roberta(folder: Path, pad: int | None) -> RobertaModel:
    torch.manual_seed(1)
    model = RobertaModel(RobertaConfig(**THEIRS, type_vocab_size=2, pad_token_id=pad))
    model.save_pretrained(folder)
    return model


def test_encoders_without_padding(tmp_path: Path) -> None:
    """BERT does without; RoBERTa does not, also in transformers."""
    with pytest.raises(TypeError):
        said_by_transformers(roberta(tmp_path, None), tokens(1), 1)
    for pad in (0, 1):
        with pytest.raises(
            ConfigError, match=r"config\.json has pad_token_id None, and positions of a roberta begin behind"
        ):
            read(tmp_path, tokens(pad), **{**ROBERTA, "pad": pad, "first_position": pad + 1})
    model = BertModel(BertConfig(**THEIRS, pad_token_id=None))
    model.save_pretrained(tmp_path)
    for pad in (0, 3):
        wanted = said_by_transformers(model, tokens(pad), pad)[:, 0]
        torch.testing.assert_close(read(tmp_path, tokens(pad), pad=pad), wanted, rtol=0, atol=2e-6)


def test_a_file_with_a_head_and_old_names(bert: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = BertForSequenceClassification(BertConfig(**THEIRS))
    model.save_pretrained(tmp_path)
    wanted = said_by_transformers(model.bert, tokens(), 0)[:, 0]
    torch.testing.assert_close(read(tmp_path, tokens()), wanted, rtol=0, atol=2e-6)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    values = load_file(tmp_path / "model.safetensors")
    for new, name in old.items():
        values = {key.replace(new, name): value for key, value in values.items()}
    save_file(values, tmp_path / "model.safetensors")
    torch.testing.assert_close(read(tmp_path, tokens()), wanted, rtol=0, atol=2e-6)


def test_padding_changes_nothing() -> None:
    longer = alone(tokens=20)
    given = torch.nn.functional.pad(tokens(), (0, 8))
    with torch.no_grad():
        one, other = build_model(alone(), 3).text(tokens()), build_model(longer, 3).text(given)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_updates_begin_at_nothing_and_are_scaled() -> None:
    plain, updated = build_model(alone(), 3), build_model(alone(lora={"rank": 4, "scale_by": "sqrt"}), 3)
    given = tokens()
    with torch.no_grad():
        torch.testing.assert_close(updated(tokens=given), plain(tokens=given), rtol=0, atol=0)
    layer = updated.text.blocks[0].q
    assert (layer.scale, {name.split(".")[-1] for name in updated.text.state_dict() if "lora" in name}) == (
        8 / 4**0.5,
        {"lora_a", "lora_b"},
    )
    assert not any(p.requires_grad for name, p in updated.text.named_parameters() if "lora" not in name)


def test_all_learns_from_the_file(bert: Path) -> None:
    model, frozen = build_model(alone(folder=bert, learns="all"), 3), build_model(alone(folder=bert), 3)
    assert not model.frozen()
    for name, value in frozen.text.state_dict().items():
        torch.testing.assert_close(model.text.state_dict()[name], value, rtol=0, atol=0)


def test_a_sentence_is_added_to_every_step() -> None:
    encoder = {"width": 16, "depth": 2, "heads": 2}
    tree = {"image_size": 32, "frames": 4, "vision": encoder, "audio": encoder, "prompts": 4, "text": SIZES}
    model = build_model(ModelConfig.model_validate({**tree, "fusion": {"latent": 8}, "joint": {"width": 8}}), 3)
    frames, sound = torch.zeros(3, 4, 3, 32, 32), torch.zeros(3, 1, 512, 128)
    with torch.no_grad():
        both, one = (model.encode(frames, sound, tokens=given) for given in (tokens(), tokens().roll(1, 0)))
        step = (both - one)[:, :1]
    torch.testing.assert_close(both - one, step.expand(-1, 4, -1), rtol=0, atol=1e-6)
    assert step.abs().max() > 1e-2
    with pytest.raises(ValueError, match=r"tokens must be int64 \(B, 12\), not given"):
        model(frames, sound)


def test_weights_are_read_back(bert: Path, tmp_path: Path) -> None:
    config = alone(folder=bert, lora={"rank": 2})
    model = build_model(config, len(LABELS))
    for frozen in (True, False):
        save_weights(tmp_path / "w.safetensors", model, contract(config), frozen)
        again, _ = load_weights(tmp_path / "w.safetensors")
        with torch.no_grad():
            torch.testing.assert_close(again(tokens=tokens()), model(tokens=tokens()), rtol=0, atol=0)
    moved = contract(alone(folder=tmp_path / "gone", lora={"rank": 2}))
    save_weights(tmp_path / "w.safetensors", model, moved, frozen=False)
    with pytest.raises(WeightsError, match=r"no weights file at .*gone"):
        load_weights(tmp_path / "w.safetensors")


def test_weights_of_another_padding_are_read_back(tmp_path: Path) -> None:
    """As of a RoBERTa whose folder does not say its padding, trained when that was taken for 0."""
    roberta(tmp_path, 0)
    config = alone(folder=tmp_path, **{**ROBERTA, "pad": 0, "first_position": 1})
    model = build_model(config, len(LABELS))
    save_weights(tmp_path / "w.safetensors", model, contract(config), frozen=False)
    told = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({key: told[key] for key in told if key != "pad_token_id"}))
    with pytest.raises(ConfigError, match="other sizes than"):
        build_model(config, len(LABELS))
    again, _ = load_weights(tmp_path / "w.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(again(tokens=tokens()), model(tokens=tokens()), rtol=0, atol=0)


def changed(bert: Path, folder: Path, **keys: Any) -> Path:
    told = json.loads((bert / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**told, **keys}))
    (folder / "model.safetensors").write_bytes((bert / "model.safetensors").read_bytes())
    return folder


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"model_type": "gpt2"}, "holds a model 'gpt2': take one of bert, roberta"),
        ({"hidden_act": "relu"}, "has hidden_act 'relu', and only 'gelu' is known"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"hidden_size": 64}, "other sizes than .*: set model.text to {width: 64, depth: 2, heads: 4"),
    ],
)
def test_another_encoder_is_refused(bert: Path, tmp_path: Path, keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build_model(alone(folder=changed(bert, tmp_path, **keys)), 3)


def test_damaged_folders_are_refused(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"needs .*config.json"):
        build_model(alone(folder=tmp_path / "none"), 3)
    folder = changed(bert, tmp_path)
    (folder / "model.safetensors").write_bytes((bert / "model.safetensors").read_bytes()[:-8])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        build_model(alone(folder=folder), 3)
    values = load_file(bert / "model.safetensors")
    values["encoder.layer.1.output.dense.bias"] = torch.full((32,), torch.nan)
    save_file(values, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"output\.dense\.bias holds 32 number\(s\) that are not finite"):
        build_model(alone(folder=folder), 3)
    del values["encoder.layer.1.output.dense.bias"]
    save_file(values, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"blocks\.1\.fc2\.bias is missing"):
        build_model(alone(folder=folder), 3)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"heads": 5}, "width 32 is not a multiple of heads 5"),
        ({"tokens": 21}, "tokens 21 from position 0 on are more than 20 positions"),
        ({"pad": 100}, "pad 100 is none of 100 tokens"),
        ({"learns": "all", "lora": {"rank": 2}}, "learns is all"),
    ],
)
def test_sizes_that_cannot_be(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        TextConfig.model_validate({**SIZES, **keys})


def test_text_alone_has_no_joint() -> None:
    with pytest.raises(ValueError, match="it needs a section text, and joint none"):
        ModelConfig.model_validate({"branches": "text", "fusion": "none", "text": SIZES})
    with pytest.raises(ValueError, match="it needs a section text"):
        ModelConfig.model_validate({"branches": "text", "fusion": "none", "joint": "none"})
