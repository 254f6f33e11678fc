"""What a model gives on request, and its heads: the sequence, features of layers, values, one output for each step."""

import gc
import weakref
from typing import Any

import pytest
import torch
from model_setup import TINY, clips, open_gates
from torch import Tensor, nn

from mmadfer.config.model import ModelConfig
from mmadfer.model import precision
from mmadfer.model.layer import layer
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights.build import build_model

STUDENT = {"branches": "vision", "fusion": "none"}
LISTENER = {"branches": "audio", "fusion": "none"}


def made(**change: Any) -> MMADFER:
    """The tiny model, otherwise than usual, with open gates."""
    return open_gates(build_model(ModelConfig(**{**dict(TINY), **change}), classes=7))


@pytest.mark.parametrize("change", [{}, STUDENT, LISTENER], ids=["both", "vision", "audio"])
def test_details_beside_the_same_logits(change: dict[str, Any]) -> None:
    model, given = made(**change), clips()
    drops = torch.rand(2, 5, 4, 2, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        found = model.detailed(*given, drops)
        assert torch.equal(found.logits, model(*given, drops))
        steps = 1 if change is LISTENER else 4
        assert found.sequence.shape == (2, steps, 64)
        assert len(found.features) == 4
        shapes = {"vision": (2, 4, 1 + 4 + 6, 64), "audio": (2, 1 + 256 + 6, 64)}
        for features in found.features.values():
            for name, value in features._asdict().items():
                assert (value.shape if value is not None else None) == (
                    shapes[name] if name in model.encoders else None
                )
        joint = model.encode(*given, drops)
        assert torch.equal(model.temporal(joint)[1], found.sequence)
        last = found.features[3][1 if change is LISTENER else 0]
        assert last is not None
        encoder = model.encoders["audio" if change is LISTENER else "vision"]
        assert torch.isfinite(encoder.summary(last)).all()


def test_nothing_is_kept_that_nobody_asks_for() -> None:
    model, given, made_in_layers = made(), clips(), list[weakref.ref[Tensor]]()

    def watched(*arguments: Any) -> Any:
        found = layer(*arguments)
        made_in_layers.extend(weakref.ref(one) for one in found)
        return found

    model.layer = watched
    with torch.no_grad():
        model(*given)
        gc.collect()
        assert len(made_in_layers) == 8
        assert not [one for one in made_in_layers if one() is not None]
        made_in_layers.clear()
        details = model.detailed(*given)
        gc.collect()
        assert all(one() is not None for one in made_in_layers)
        assert details.features[0].vision is made_in_layers[0]()
        made_in_layers.clear()
        details = model.detailed(*given, layers={2})
        gc.collect()
        assert [one() is not None for one in made_in_layers] == [False] * 4 + [True] * 2 + [False] * 2
        assert list(details.features) == [2]
        assert not model.detailed(*given, layers=()).features


def test_details_have_gradients_and_go_through_what_runs_layers() -> None:
    """`model.layer` is where a compiled program or one that computes again stands; asking does not go round it."""
    plain, again = made(), made()
    precision.apply(again, "fp32", torch.device("cpu"), recomputed=True)
    found = []
    for model in (plain, again):
        details = model.detailed(*clips())
        loss = details.sequence.square().mean() + sum(one.vision.square().mean() for one in details.features.values())
        loss.backward()
        found.append({name: p.grad for name, p in model.trainable().items() if p.grad is not None})
    assert set(found[0]) == set(found[1]) >= {"vision.prompts.initial", "fusion.0.vision.down.weight", "joint.weight"}
    for name, gradient in found[0].items():
        assert torch.equal(gradient, found[1][name]), name


@pytest.mark.parametrize("branch", [STUDENT, LISTENER], ids=["vision", "audio"])
def test_one_branch_has_prompts_updates_and_the_temporal_transformer(branch: dict[str, Any]) -> None:
    model = made(**branch, lora={"rank": 2})
    name = branch["branches"]
    model(*clips()).square().sum().backward()
    learns = model.trainable()
    assert {key.split(".")[0] for key in learns} == {name, "joint", "temporal", "classifier"}
    still = [key for key, p in learns.items() if p.grad is None or not p.grad.any()]
    assert all(key.endswith("lora_a") for key in still), "whose B is 0 at first"
    whole = build_model(TINY, 7)
    same = whole.state_dict()
    for key, value in model.state_dict().items():
        assert ".lora_" in key or value.shape != same[key].shape or torch.equal(value, same[key]), key


def test_one_branch_asks_for_its_own_input_alone() -> None:
    frames, fbank = clips()
    sees, hears = made(**STUDENT), made(**LISTENER)
    with torch.no_grad():
        assert torch.equal(sees(frames), sees(frames=frames, fbank=fbank))
        assert torch.equal(hears(fbank=fbank), hears(frames, fbank))
        with pytest.raises(ValueError, match=r"frames must be \(B, 4, 3, 32, 32\), not given"):
            sees(fbank=fbank)
        with pytest.raises(ValueError, match=r"fbank must be \(B, 1, 512, 128\), not given"):
            hears(frames)


def test_a_head_gives_one_output_for_each_step() -> None:
    model, clip = made(head={"per": "step"}), made()
    with torch.no_grad():
        found = model.detailed(*clips())
        assert found.logits.shape == (2, 4, 7)
        each = nn.functional.linear(found.pooled, *model.classifier.parameters())
        assert torch.equal(found.pooled, found.sequence)
        torch.testing.assert_close(found.logits, each, rtol=0, atol=0)
        assert torch.equal(clip.detailed(*clips()).sequence, found.sequence), "the same weights for either"


def test_pooling() -> None:
    with torch.no_grad():
        cls, mean, explicit = made(), made(head={"pool": "mean"}), made(head={"pool": "cls"})
        assert torch.equal(cls(*clips()), explicit(*clips()))
        found = mean.detailed(*clips())
        wanted = nn.functional.linear(found.sequence.mean(1), *mean.classifier.parameters())
        torch.testing.assert_close(found.logits, wanted)
        assert not torch.allclose(found.logits, cls(*clips()))


def test_values_stay_in_their_range() -> None:
    model = made(head={"name": "values", "range": [-1, 3]})
    with torch.no_grad():
        model.classifier.weight.mul_(100)
        found = model(*clips(8))
        assert found.shape == (8, 7)
        assert float(found.min()) >= -1
        assert float(found.max()) <= 3
        assert float(found.max() - found.min()) > 2
        model.classifier.weight.zero_()
        model.classifier.bias.zero_()
        assert torch.equal(model(*clips()), torch.ones(2, 7)), "the middle"


@pytest.mark.parametrize("per", ["clip", "step"])
def test_each_value_has_layers_of_its_own(per: str) -> None:
    model = made(head={"name": "values_mlp", "range": [-2, 1], "hidden": 8, "per": per})
    with torch.no_grad():
        found = model.detailed(*clips())
        sequence = found.sequence if per == "step" else model.temporal(model.encode(*clips()))[0]
        assert found.logits.shape == ((2, 4, 7) if per == "step" else (2, 7))
        assert found.logits.dtype == torch.float32
        for k, value in enumerate(model.classifier.values):
            inner = torch.relu(nn.functional.linear(sequence, value.fc1.weight, value.fc1.bias))
            wanted = 3 * torch.sigmoid(nn.functional.linear(inner, value.fc2.weight, value.fc2.bias)) - 2
            torch.testing.assert_close(found.logits[..., k], wanted[..., 0])
