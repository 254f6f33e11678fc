"""The paper's variants of the model: what they compute, against plain words of the same; and their parameters."""

from typing import Any

import pytest
import torch
from model_setup import TINY, clips, open_gates
from torch import Tensor, nn
from torch.nn.functional import gelu

from mmadfer.config import sweep
from mmadfer.config.model import BottleneckConfig
from mmadfer.config.schema import ModelConfig
from mmadfer.model.adapter import Adapter
from mmadfer.model.fusion import Addition, Bottleneck, Cross, CrossAttention, Together
from mmadfer.model.mma_dfer import MMADFER, empty_model
from mmadfer.model.prompts import Prompts
from mmadfer.model.weights.build import build_model

MEAN = {"temporal": "none"}
ALONE = {
    **MEAN,
    "prompts": 0,
    "progressive": 0,
    "fusion": "none",
    "joint": "none",
    "positions": "frozen",
    "drop_path": 0,
}
LATENT = 16


def changed(**change: Any) -> ModelConfig:
    """TINY otherwise than usual."""
    return ModelConfig(**{**dict(TINY), **change})


def bottleneck(adapters: int) -> dict[str, Any]:
    """A bottleneck with adapters."""
    return {"fusion": {"latent": LATENT, "adapters": adapters}}


TABLE_2 = {
    "ita_64": (1_290_252, "1.3"),
    "ita_128": (791_052, "0.8"),
    "ita_256": (4_346_892, "4.3"),
    "mtm_ita_128": (2_901_516, "2.9"),
    "mtm": (2_110_464, "2.1"),  # the paper prints 2.2
    "mean": (0, "0.0"),
}
TABLE_6 = {
    "latent_64": (5_192_735, "5.19"),  # the paper prints 5.9
    "latent_128": (7_556_639, "7.56"),
    "latent_256": (12_284_447, "12.28"),
    "latent_512": (21_740_063, "21.74"),
}


def made(**change: Any) -> MMADFER:
    """The tiny model, otherwise than usual, with open gates."""
    return open_gates(build_model(changed(**change), classes=7))


def counted(table: str, row: str, *parts: str) -> int:
    """Parameters that learn in a row of a shipped table, for 7 classes; of all that have one of `parts` in the name."""
    config = sweep.read(sweep.find_table(table))[1][row]
    learns = empty_model(config.model, 7).trainable()
    return sum(p.numel() for name, p in learns.items() if not parts or any(part in f".{name}" for part in parts))


@pytest.mark.parametrize("row", TABLE_2)
def test_blocks_over_time_have_the_parameters_of_table_2(row: str) -> None:
    count, shown = TABLE_2[row]
    assert counted("table2", row, ".temporal.", ".adapter.") == count
    assert f"{count / 1e6:.1f}" == shown


@pytest.mark.parametrize("row", TABLE_6)
def test_trainable_parameters_are_those_of_table_6(row: str) -> None:
    count, shown = TABLE_6[row]
    assert counted("table6", row) == count
    assert f"{count / 1e6:.2f}" == shown


def test_a_width_of_64_differs_from_128_by_the_bottlenecks_alone() -> None:
    """So 5.9 M cannot be the method as published: 12 layers of 2 sides, each 2 * 768 + 3 parameters narrower by 64."""
    assert TABLE_6["latent_128"][0] - TABLE_6["latent_64"][0] == 12 * 2 * 64 * (2 * 768 + 3)


def tokens(frames: int = 3) -> tuple[Tensor, Tensor]:
    """Vision (2, frames, 5, 64) and audio (2, 7, 64)."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, frames, 5, 64, generator=generator), torch.randn(2, 7, 64, generator=generator)


def filled(module: nn.Module) -> Any:
    """With every parameter drawn anew, biases and gates too."""
    generator = torch.Generator().manual_seed(4)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return module


def test_addition_is_the_gated_mean_of_the_other() -> None:
    fusion, (vision, audio) = filled(Addition(TINY)), tokens()
    to_vision, to_audio = fusion(vision, audio)
    gates = torch.tanh(fusion.vision_gate), torch.tanh(fusion.audio_gate)
    for clip in range(2):
        heard, seen = audio[clip].mean(0), vision[clip].reshape(-1, 64).mean(0)
        for frame in range(3):
            for place in range(5):
                x = vision[clip, frame, place]
                torch.testing.assert_close(to_vision[clip, frame, place], x + gates[0] * (x + heard))
        for place in range(7):
            x = audio[clip, place]
            torch.testing.assert_close(to_audio[clip, place], x + gates[1] * (x + seen))


def attended(module: CrossAttention, x: Tensor, source: Tensor) -> Tensor:
    """What one of our attentions should give for normalised tokens, by torch's own."""
    width = module.q.out_features
    plain = nn.MultiheadAttention(width, 2, bias=False, batch_first=True)
    plain.in_proj_weight.data = torch.eye(width).repeat(3, 1)
    plain.out_proj.weight.data = torch.eye(width)
    k, v = module.kv(source)[..., :width], module.kv(source)[..., width:]
    return module.out(plain(module.q(x), k, v)[0])


def test_mult_is_attention_to_the_other_modality() -> None:
    fusion, (vision, audio) = filled(Cross(TINY)), tokens()
    frames = vision.reshape(2, 15, 64)
    to_vision, to_audio = fusion(vision, audio)
    side = fusion.vision
    wanted = frames + attended(side, side.norm(frames), side.source_norm(audio))
    torch.testing.assert_close(to_vision, wanted.reshape(vision.shape))
    side = fusion.audio
    torch.testing.assert_close(to_audio, audio + attended(side, side.norm(audio), side.source_norm(frames)))


def test_mult_concat_adds_the_mean_of_one_attention_to_all() -> None:
    fusion, (vision, audio) = filled(Together(TINY)), tokens()
    to_vision, to_audio = fusion(vision, audio)
    both = fusion.attention.norm(torch.cat([vision.reshape(2, 15, 64), audio], dim=1))
    pooled = attended(fusion.attention, both, both).mean(1)
    torch.testing.assert_close(to_vision, vision + pooled.reshape(2, 1, 1, 64))
    torch.testing.assert_close(to_audio, audio + pooled.reshape(2, 1, 64))


def test_the_bottleneck_as_the_equations_have_it() -> None:
    fusion, (vision, audio) = filled(Bottleneck(TINY)), tokens()
    to_vision, to_audio = fusion(vision, audio)
    v, a = fusion.vision.norm(fusion.vision.down(vision)), fusion.audio.norm(fusion.audio.down(audio))
    for clip in range(2):
        u = gelu(fusion.vision.up(v[clip] + a[clip].mean(0)))
        torch.testing.assert_close(to_vision[clip], vision[clip] + torch.tanh(fusion.vision.gate) * u)
        u = gelu(fusion.audio.up(a[clip] + v[clip].reshape(-1, LATENT).mean(0)))
        torch.testing.assert_close(to_audio[clip], audio[clip] + torch.tanh(fusion.audio.gate) * u)


@pytest.mark.parametrize("fusion", ["bottleneck", "add"])
def test_a_closed_gate_is_no_fusion(fusion: str) -> None:
    with torch.no_grad():
        none = made(fusion="none")
        some = build_model(changed(fusion=fusion), classes=7)  # gates at 0
        some.load_state_dict(none.state_dict(), strict=False)
        assert torch.equal(some(*clips()), none(*clips()))
        assert not torch.equal(open_gates(some)(*clips()), none(*clips()))


@pytest.mark.parametrize("fusion", ["bottleneck", "add", "mult", "mult_concat"])
def test_every_fusion_lets_each_modality_hear_the_other(fusion: str) -> None:
    module = filled({"bottleneck": Bottleneck, "add": Addition, "mult": Cross, "mult_concat": Together}[fusion](TINY))
    vision, audio = tokens()
    seen, heard = module(vision, audio)
    assert not torch.allclose(module(vision, audio + torch.randn(64))[0], seen)
    assert not torch.allclose(module(vision + torch.randn(64), audio)[1], heard)


def frame_changed(model: MMADFER, frames: Tensor, fbank: Tensor) -> Tensor:
    """By how much the other frames of the fused sequence move where the last frame is another."""
    other = frames.clone()
    other[:, -1] = 255 - other[:, -1]
    return (model.encode(other, fbank) - model.encode(frames, fbank))[:, :-1].abs().max()


@pytest.mark.parametrize("width", [8, 16, 32])
def test_adapters_let_frames_hear_each_other(width: int) -> None:
    """Below, at and above the bottleneck's width."""
    with torch.no_grad():
        model = build_model(changed(**MEAN, **bottleneck(width)), classes=7)
        assert frame_changed(model, *clips()) < 1e-6, "closed gates"
        for fusion in model.fusion:
            fusion.adapter.gate.fill_(1.0)
            fusion.vision.gate.fill_(0.5)  # through which an adapter inside the bottleneck works
        assert frame_changed(model, *clips()) > 1e-4
        for fusion in model.fusion:
            fusion.adapter.gate.fill_(0.0)
        alone = frame_changed(model, *clips())
        assert alone < 1e-6, "the bottleneck takes no frame to another, but by way of the sound"


@pytest.mark.parametrize("adapters", [0, 16])
def test_the_mean_does_not_tell_the_order_of_frames(adapters: int) -> None:
    """Nor do adapters: attention without positions treats frames as a set. The temporal transformer does."""
    frames, fbank = clips()
    order = [2, 0, 3, 1]
    with torch.no_grad():
        model = made(**MEAN, **bottleneck(adapters))
        torch.testing.assert_close(model(frames[:, order], fbank), model(frames, fbank), rtol=0, atol=1e-5)
        model = made(**bottleneck(adapters))
        assert (model(frames[:, order], fbank) - model(frames, fbank)).abs().max() > 1e-4


def test_an_adapter_changes_cls_alone() -> None:
    vision, _ = tokens()
    for width in (8, 16, 32):
        adapter = filled(Adapter(TINY.vision.width, BottleneckConfig(latent=LATENT, adapters=width)))
        latent = torch.randn(2, 3, 5, LATENT)
        inside, outside = adapter.inside(latent), adapter.outside(vision, latent)
        changed = (inside, latent) if width == LATENT else (outside, vision)
        kept = (outside, vision) if width == LATENT else (inside, latent)
        assert torch.equal(*kept)
        assert torch.equal(changed[0][:, :, 1:], changed[1][:, :, 1:])
        assert not torch.equal(changed[0][:, :, 0], changed[1][:, :, 0])


def test_progressive_prompts_go_round() -> None:
    prompts = Prompts(count=6, updates=4, share=3, width=2, layers=12)
    for step, part in enumerate(prompts.progressive):
        part.data.fill_(10.0**step)
    x = torch.zeros(1, 8, 2)
    seen = []
    for layer in range(12):
        x = prompts.progress(x, layer)
        seen.append(x[0, :, 0].tolist())
    assert seen[0] == seen[2] == [0, 0, 1, 1, 1, 0, 0, 0]
    assert seen[3] == [0, 0, 1, 1, 1, 10, 10, 10]
    assert seen[6] == [0, 0, 101, 101, 101, 10, 10, 10]
    assert seen[9] == seen[11] == [0, 0, 101, 101, 101, 1010, 1010, 1010]


@pytest.mark.parametrize("branch", ["vision", "audio"])
def test_one_branch_is_its_encoder_a_mean_and_a_classifier(branch: str) -> None:
    frames, fbank = clips()
    with torch.no_grad():
        model, whole = build_model(changed(**ALONE, branches=branch), 7), build_model(TINY, 7)
        assert set(model.trainable()) == {"classifier.weight", "classifier.bias"}
        encoder, same = model.encoders[branch], whole.encoders[branch]
        assert list(model.encoders) == [branch]
        weights = dict(same.named_parameters())
        assert all(torch.equal(p, weights[name]) for name, p in encoder.blocks.named_parameters("blocks"))
        rows = []
        for clip in range(2):
            x = encoder.embed(frames[clip] / 255 if branch == "vision" else fbank[clip : clip + 1])
            for block in encoder.blocks:
                x = block(x)
            rows.append(nn.functional.linear(encoder.norm(x)[:, 0].mean(0), *model.classifier.parameters()))
        torch.testing.assert_close(model(frames, fbank), torch.stack(rows))
        unused = (frames, torch.randn_like(fbank)) if branch == "vision" else (255 - frames, fbank)
        assert torch.equal(model(*unused), model(frames, fbank))


@pytest.mark.parametrize(("vision", "audio"), [(4, 2), (2, 4)])
def test_encoders_of_two_depths_run_all_their_blocks(vision: int, audio: int) -> None:
    depths = {"vision": vision, "audio": audio}
    sizes = {name: TINY.vision.model_copy(update={"depth": depth}) for name, depth in depths.items()}
    model = made(**sizes, progressive=2)
    assert len(model.fusion) == 2
    ran: list[str] = []
    for name, module in model.named_modules():
        if (name.endswith(".mlp") and ".blocks." in name) or name in ("fusion.0", "fusion.1"):
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    with torch.no_grad():
        model(*clips())
    for kind, depth in depths.items():
        blocks = [f"{kind}.blocks.{index}.mlp" for index in range(depth)]
        half = depth // 2
        wanted = [*blocks[:half], "fusion.0", *blocks[half:], "fusion.1"]
        assert [name for name in ran if name.startswith((kind, "fusion"))] == wanted
