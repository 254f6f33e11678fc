"""Additional losses that learn from a teacher: what each compares, what they refuse, and keys that are wrong."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from model_setup import TINY
from torch import Tensor, nn

from mmadfer.config.distillation import DISTILLATIONS, TNetConfig
from mmadfer.config.model import NoFusionConfig
from mmadfer.config.schema import Config, parse
from mmadfer.errors import ConfigError
from mmadfer.model.weights.build import build_model
from mmadfer.tasks.distillation import Distillation, Features, Logits, Pkdot, Similarity
from mmadfer.tasks.imitation import Imitation
from mmadfer.tasks.optimal_transport import anchor_rows, divergence, similarity
from mmadfer.tasks.output import Features as Tokens
from mmadfer.tasks.output import Output

CLIPS, STEPS, WIDTH = 6, 4, 8


def output(seed: int, per: str = "clip", width: int = WIDTH, outputs: int = 3) -> Output:
    generator = torch.Generator().manual_seed(seed)
    shape = (CLIPS,) if per == "clip" else (CLIPS, STEPS)
    sequence = torch.randn(CLIPS, STEPS, width, generator=generator)
    pooled = sequence[:, 0] if per == "clip" else sequence
    return Output(torch.randn(*shape, outputs, generator=generator), sequence, pooled, {})


def made(name: str, own: Any = TINY, theirs: Any = TINY, **keys: object) -> Distillation:
    settings = DISTILLATIONS.section(name).model_validate({"name": name, **keys})
    models = (SimpleNamespace(config=one, encoders=dict.fromkeys(one.modalities)) for one in (own, theirs))
    torch.manual_seed(3)
    term: Distillation = DISTILLATIONS.made(settings)(settings, *models)
    return term


def said(term: Distillation, own: Output, theirs: Output) -> Tensor:
    batch: Any = SimpleNamespace(ids=[f"clip{k}" for k in range(CLIPS)], targets={})
    found: Tensor = term(own, batch, theirs)["loss"]
    return found


def test_each_compares_what_its_name_says() -> None:
    own, theirs = output(1), output(2)
    pairs = {name: (getattr(own, name), getattr(theirs, name)) for name in ("pooled", "logits")}
    wanted = {
        Pkdot: divergence(*anchor_rows(theirs.pooled, own.pooled, 3, "lowest"), 0.1),
        Features: (pairs["pooled"][0] - pairs["pooled"][1]).square().mean(),
        Similarity: (similarity(own.pooled) - similarity(theirs.pooled)).square().sum() / CLIPS**2,
        Logits: 4 * (p := (theirs.logits / 2).softmax(1)).mul(p.log() - (own.logits / 2).log_softmax(1)).sum() / CLIPS,
    }
    for term in (made("pkdot", k=3), made("features"), made("similarity"), made("logits", temperature=2)):
        torch.testing.assert_close(said(term, own, theirs), wanted[type(term)], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(said(term, own, own), torch.zeros(()), rtol=0, atol=1e-6)
        assert not list(term.parameters())


def test_values_and_steps() -> None:
    own, theirs = output(1, "step", outputs=2), output(2, "step", outputs=2)
    logits = made("logits")
    logits.kind = "values"
    torch.testing.assert_close(said(logits, own, theirs), (own.logits - theirs.logits).square().mean())
    torch.testing.assert_close(said(made("features"), own, theirs), (own.pooled - theirs.pooled).square().mean())
    clips = [one.pooled.mean(1) for one in (theirs, own)]
    torch.testing.assert_close(
        said(made("pkdot", k=3), own, theirs), divergence(*anchor_rows(*clips, 3, "lowest"), 0.1)
    )


@pytest.mark.parametrize("name", ["pkdot", "logits", "features", "similarity"])
def test_gradients_reach_the_model(name: str) -> None:
    term = made(name, **({"k": 3} if name == "pkdot" else {}))
    own, theirs = output(1), output(2)
    for one in (own.logits, own.pooled):
        one.requires_grad_().retain_grad()
    said(term, own, theirs).backward()
    reached = own.logits if name == "logits" else own.pooled
    assert reached.grad is not None
    assert reached.grad.any()


def test_widths_that_differ_meet_in_a_layer_that_learns() -> None:
    narrow = TINY.model_copy(update={"joint": TINY.joint.model_copy(update={"width": WIDTH})})
    wide = TINY.model_copy(update={"joint": TINY.joint.model_copy(update={"width": 12})})
    term = made("features", narrow, wide)
    said(term, output(1), output(2, width=12)).backward()
    assert {name for name, one in term.named_parameters() if one.grad is not None} == {
        f"to_teacher.{name}" for name in ("weight", "bias")
    }
    for other in (made("pkdot", narrow, wide, k=3), made("similarity", narrow, wide)):
        assert said(other, output(1), output(2, width=12)) > 0, "similarities have no width"


@pytest.mark.parametrize("name", ["pkdot", "logits", "features", "similarity"])
def test_the_control_has_each_clip_taught_by_another(name: str) -> None:
    keys: dict[str, Any] = {"k": 3} if name == "pkdot" else {}
    plain, control = made(name, **keys), made(name, shuffle=True, **keys)
    own, theirs = output(1), output(2)
    ids = [f"clip{k}" for k in range(CLIPS)]
    given = control._of_others(theirs, ids)
    places = [int((theirs.pooled == row).all(1).nonzero()) for row in given.pooled]
    assert sorted(places) == list(range(CLIPS))
    assert not any(k == place for k, place in enumerate(places))
    torch.testing.assert_close(given.logits, theirs.logits[places], rtol=0, atol=0)
    torch.testing.assert_close(said(control, own, theirs), said(plain, own, given))
    assert said(control, own, theirs) != said(plain, own, theirs)
    order = [3, 0, 5, 1, 4, 2]
    moved = Output(theirs.logits[order], theirs.sequence[order], theirs.pooled[order], {})
    again = control._of_others(moved, [ids[k] for k in order])
    torch.testing.assert_close(again.pooled, given.pooled[order], rtol=0, atol=0, msg="it depends on the ids alone")
    twice = control._of_others(theirs, ["a", "b", "a", "c", "b", "a"])
    twin = [int((theirs.pooled == row).all(1).nonzero()) for row in twice.pooled]
    assert not any("abacba"[k] == "abacba"[place] for k, place in enumerate(twin))


def test_the_t_net_imitates_the_teachers_other_encoder() -> None:
    teacher = build_model(TINY, 3, seed=2).requires_grad_(False)
    update: dict[str, Any] = {"branches": "vision", "fusion": NoFusionConfig()}
    seeing = SimpleNamespace(config=TINY.model_copy(update=update), encoders={"vision": None})
    term = Imitation(TNetConfig(hidden=(5, 3)), seeing, teacher)
    assert [tuple(one.shape) for one in term.parameters()] == [(5, 64), (5,), (3, 5), (3,), (64, 3), (64,)]
    tokens = torch.randn(CLIPS, 256 + 7, 64, generator=torch.Generator().manual_seed(1))
    taught = output(2)._replace(features={3: Tokens(None, tokens.bfloat16())})
    assert term.teacher_layers == {3}
    batch: Any = None
    own = output(1, width=64)
    own.sequence.requires_grad_()
    own = own._replace(pooled=own.sequence[:, 0])
    found = term(own, batch, taught)["loss"]
    wanted = (term.net(own.pooled) - teacher.audio.norm(tokens.bfloat16().float()[:, 0])).square().mean()
    torch.testing.assert_close(found, wanted)
    found.backward()
    assert own.sequence.grad is not None
    assert own.sequence.grad.any()
    assert all(one.grad is not None for one in term.parameters())
    assert not any("teacher" in name or "norm" in name for name in term.state_dict())
    for modality, own_model, words in (
        ("vision", seeing, "which the model takes itself"),
        ("audio", SimpleNamespace(config=TINY, encoders=nn.ModuleDict()), r"takes vision: name one of these"),
    ):
        of = teacher if modality == "vision" else SimpleNamespace(config=TINY, encoders={"vision": None})
        with pytest.raises(ConfigError, match=words):
            Imitation(TNetConfig(modality=modality), own_model, of)


def test_a_teacher_that_sees_less_or_has_another_output_is_refused() -> None:
    alone = TINY.model_copy(update={"branches": "vision", "fusion": NoFusionConfig()})
    made("features", alone, TINY)
    with pytest.raises(
        ConfigError, match=r"stages\.teacher: its model takes vision alone, but this one also takes aud"
    ):
        made("features", TINY, alone)
    steps = TINY.model_copy(update={"head": TINY.head.model_copy(update={"per": "step"})})
    with pytest.raises(ConfigError, match="has an output per clip, and this one per step"):
        made("features", steps, TINY)


def configured(distill: object, teacher: str | None = "t", **train: object) -> Config:
    tree = {"name": "x", "task": {"distill": distill}, "stages": {"teacher": teacher}, "train": train}
    return parse(tree, "the test")


@pytest.mark.parametrize(
    ("distill", "train", "words"),
    [
        ("pkdot", {}, r"task\.distill\.k is 30, but it must be less than the 8 clips of a micro-batch over all ranks"),
        ({"k": 4}, {"accumulate": 2}, r"less than the 4 clips .* \(train\.batch_size 8 / train\.accumulate 2\)"),
        ({"k": 8}, {}, r"task\.distill\.k is 8, "),
        ({"name": "pkdt"}, {}, r"there is no distillation 'pkdt': did you mean pkdot\?"),
        ({"name": "logits", "k": 3}, {}, r"task\.distill: k: unknown key; known here: name, shuffle, temperature"),
        ({"anchor": "lowest"}, {}, r"anchor: unknown key: did you mean anchors\?"),
        ({"anchors": "middle", "k": 3}, {}, r"anchors: Input should be 'lowest' or 'highest'"),
        ({"k": 0}, {}, r"k: Input should be greater than 0"),
        ({"k": 3, "blur": 0}, {}, "blur: Input should be greater"),
        ({"name": "features", "shuffle": True}, {"accumulate": 4}, "shuffle needs 3 clips or .* and there are 2 "),
        ({"name": "features", "weight": -1}, {}, "weight: Input should be greater"),
    ],
)
def test_what_does_not_fit_is_refused(distill: object, train: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        configured(distill, **train)


def test_what_fits() -> None:
    assert configured({"k": 7}).task.distill == configured({"name": "pkdot", "k": 7}).task.distill
    assert configured("logits").taught
    assert not configured(None).taught
    assert not configured(None, None).task.terms
    control = configured({"name": "features", "shuffle": True}).model_dump(mode="json")
    for key, also in (("task", {"t_net": {}}), ("data", {"augment": {"mixup": 0.2}})):
        with pytest.raises(
            ConfigError, match=rf"task\.distill\.shuffle is a control, .* leave {key}\..* out, in the rows"
        ):
            parse({**control, key: {**control[key], **also}}, "the test")
    with pytest.raises(ConfigError, match=r"task\.distill compares the model with a teacher: set stages\.teacher"):
        configured("logits", None)
