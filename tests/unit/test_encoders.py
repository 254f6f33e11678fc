"""Encoders beyond MAE-Face and AudioMAE: timm's ViTs, other sizes, longer sound, and scaled pixels."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from model_setup import ENCODER, LABELS, TINY, clips, open_gates
from safetensors.torch import load_file, save_file
from timm.data import constants
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn

import mmadfer
from mmadfer.config.schema import EncoderConfig, ModelConfig, SoundConfig
from mmadfer.contract import Contract, licences
from mmadfer.errors import ConfigError, WeightsError
from mmadfer.model.block import EPSILON, Block
from mmadfer.model.layer import layer, through
from mmadfer.model.mma_dfer import MMADFER, empty_model
from mmadfer.model.pixels import NUMBERS, scaled
from mmadfer.model.precision import apply, autocast
from mmadfer.model.weights.build import build_model, encoder_hash, save_weights
from mmadfer.model.weights.encoders import load_encoder, resize_positions

SMALL = EncoderConfig(timm="test_vit", width=64, depth=6, heads=2, mlp_ratio=3)
"""Class token."""
REGISTERS = EncoderConfig(timm="test_vit2", width=64, depth=8, heads=2, mlp_ratio=3)
"""A register, no class token, LayerScale, and the mean of its patches before the norm."""
CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("fused", [True, False])
def test_a_block_computes_what_timms_does_to_the_bit(fused: bool, kind: torch.dtype) -> None:
    norm = partial(nn.LayerNorm, eps=EPSILON)
    theirs, ours = TimmBlock(32, 2, 3.5, qkv_bias=True, norm_layer=norm).to(kind), Block(32, 2, 3.5).to(kind)
    ours.load_state_dict(theirs.state_dict())
    found = []
    for block, run in ((theirs, theirs), (ours, ours), (ours, lambda tokens: through([ours], tokens, None))):
        block.zero_grad()
        block.attn.fused_attn = fused
        tokens = torch.randn(3, 9, 32, generator=torch.Generator().manual_seed(1)).to(kind).requires_grad_()
        outputs = run(tokens)
        outputs.square().sum().backward()
        found.append([outputs, tokens.grad, *(weight.grad for weight in block.parameters())])
    assert [len(one) for one in found] == [14, 14, 14]
    for own in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], own, strict=True))


def test_pixels_are_scaled_by_timms_numbers() -> None:
    assert NUMBERS == {
        "imagenet": (constants.IMAGENET_DEFAULT_MEAN, constants.IMAGENET_DEFAULT_STD),
        "half": (constants.IMAGENET_INCEPTION_MEAN, constants.IMAGENET_INCEPTION_STD),
        "clip": (constants.OPENAI_CLIP_MEAN, constants.OPENAI_CLIP_STD),
    }


def model_of(**change: Any) -> ModelConfig:
    """TINY with other encoders; the gates of its fusion matter, so prompts and all stay."""
    return ModelConfig.model_validate({**TINY.model_dump(), "progressive": 1, **change})


def timm_model(name: str, **how: Any) -> nn.Module:
    """A timm model whose weights are all moved from where it starts them."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(2)
        model = timm.create_model(name, pretrained=False, num_classes=5, **{"img_size": 32, **how}).eval()
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def file_of(model: nn.Module, path: Path) -> Path:
    """Its weights as timm publishes them."""
    save_file({key: value.clone() for key, value in model.state_dict().items()}, path)
    return path


def pooled(model: Any, images: Tensor) -> Tensor:
    """What timm's own model hands to its head, or the mean of its patches where it would pool by attention."""
    tokens = model.forward_features(images)
    if model.attn_pool is None:
        return model.forward_head(tokens, pre_logits=True)
    return tokens[:, model.num_prefix_tokens :].mean(1)


@pytest.mark.parametrize(
    ("config", "odd"),
    [
        (SMALL, "cls"),
        (REGISTERS, "registers"),
        (EncoderConfig(timm="test_vit3", width=96, depth=9, heads=3, mlp_ratio=2), "registers"),
        (EncoderConfig(timm="test_vit4", width=96, depth=9, heads=3, mlp_ratio=3), "registers"),
        (EncoderConfig(timm="vit_tiny_patch16_224", width=192, heads=3), "cls"),
        (EncoderConfig(timm="deit3_small_patch16_224", width=384, heads=6), "blocks.0.ls1.gamma"),
    ],
    ids=lambda value: getattr(value, "timm", None),
)
def test_a_timm_vit_computes_what_timm_does(tmp_path: Path, config: EncoderConfig, odd: str) -> None:
    theirs = timm_model(str(config.timm))
    encoder = config.model_copy(update={"weights": file_of(theirs, tmp_path / "model.safetensors")})
    alone = {"branches": "vision", "fusion": "none", "joint": "none", "temporal": "none", "positions": "frozen"}
    model = build_model(model_of(vision=encoder, prompts=0, progressive=0, **alone), 7)
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            model.encode(images[:, None].expand(-1, 4, -1, -1, -1))[:, 0], pooled(theirs, images), rtol=0, atol=1e-6
        )
    assert f"vision.{odd}" in model.frozen()


def test_a_pth_is_read_flat_or_under_its_key(tmp_path: Path) -> None:
    state = timm_model("test_vit2").state_dict()
    found = []
    for tree in (state, {"model": state}, {"state_dict": state, "epoch": 3}):
        torch.save(tree, tmp_path / "model.pth")
        config = model_of(vision=REGISTERS.model_copy(update={"weights": tmp_path / "model.pth"}))
        found.append(encoder_hash(build_model(config, 7)))
    file = file_of(timm_model("test_vit2"), tmp_path / "model.safetensors")
    config = model_of(vision=REGISTERS.model_copy(update={"weights": file}))
    assert {*found} == {encoder_hash(build_model(config, 7))}
    assert found[0] != encoder_hash(build_model(model_of(vision=REGISTERS), 7))


def test_a_vit_of_pictures_hears_the_filter_bank(tmp_path: Path) -> None:
    """Three colours become one channel by timm's rule, and its square grid the filter bank's."""
    file = file_of(timm_model("test_vit", img_size=64), tmp_path / "model.safetensors")
    state = load_file(file)
    model = build_model(model_of(audio=SMALL.model_copy(update={"weights": file}), vision=SMALL), 7)
    summed = timm.models.adapt_input_conv(1, state["patch_embed.proj.weight"])
    assert torch.equal(model.audio.patch.weight, summed)
    wanted = resize_positions(state["pos_embed"], (4, 4), (32, 8))
    assert torch.equal(model.audio.positions[:, :-6], wanted)


def test_positions_of_patches_alone_leave_the_first_tokens_without(tmp_path: Path) -> None:
    """As in DeiT III: its class token has no position; here it may learn one."""
    theirs = timm_model("deit3_small_patch16_224", img_size=64)
    file = file_of(theirs, tmp_path / "model.safetensors")
    config = EncoderConfig(timm="deit3_small_patch16_224", width=384, heads=6, weights=file)
    model = build_model(model_of(vision=config), 7)
    wanted = resize_positions(load_file(file)["pos_embed"], (4, 4), (2, 2))
    assert not model.vision.positions[:, :1].any()
    assert torch.equal(model.vision.positions[:, 1:-6], wanted)


@pytest.mark.parametrize(
    ("name", "sizes", "words"),
    [
        (
            "test_vit",
            {},
            r"other sizes than test_vit: set model.vision to {width: 64, depth: 6, heads: 2,",
        ),
        ("vit_tiny_patch16_224", {"width": 192, "heads": 3, "mlp_ratio": 3}, "patch: 16, mlp_ratio: 4}"),
        ("vit_tinny_patch16_224", {}, "model.vision.timm: timm .* has no .*did you mean vit_tiny_patch16_224"),
        ("vit_tiny_patch16_224.augreg_in21k", {}, "did you mean vit_tiny_patch16_224.*without a tag"),
        ("vit_small_patch16_dinov3", {}, "no VisionTransformer of timm's"),
        ("resnet18", {}, "no VisionTransformer of timm's"),
        ("deit_tiny_distilled_patch16_224", {}, "made of VisionTransformerDistilled"),
        ("vit_pwee_patch16_reg1_gap_256", {}, "made of ParallelScalingBlock"),
        ("vit_base_patch16_rpn_224", {}, "made of ResPostBlock"),
        ("vit_dwee_patch16_reg1_gap_256", {}, "made of DiffAttention"),
    ],
)
def test_what_cannot_be_an_encoder_is_refused(name: str, sizes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        empty_model(model_of(vision={"timm": name, "depth": 12, **sizes}), 7)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("reg_token"), r"reg_token is missing: expected \[1, 1, 64\]"),
        (lambda s: s.pop("fc_norm.weight"), r"fc_norm.weight is missing: expected \[64\]"),
        (lambda s: s.update(extra=torch.ones(2)), r"extra \[2\] is unknown"),
        (lambda s: s.update(pos_embed=torch.ones(1, 6, 64)), r"pos_embed is \[1, 6, 64\]: expected \[1, 197, 64\]"),
        (lambda s: s.update(reg_token=torch.ones(1, 1, 64).long()), "reg_token holds torch.int64"),
    ],
)
def test_a_wrong_file_of_timm_is_named(tmp_path: Path, change: Any, words: str) -> None:
    state = timm_model("test_vit2").state_dict()
    change(state)
    save_file({key: value.clone() for key, value in state.items()}, tmp_path / "model.safetensors")
    config = model_of(vision=REGISTERS.model_copy(update={"weights": tmp_path / "model.safetensors"}))
    with pytest.raises(WeightsError, match=f"(?s){re.escape(str(tmp_path))}.*{words}"):
        build_model(config, 7)


def test_a_damaged_file_of_timm_is_named(tmp_path: Path) -> None:
    file = file_of(timm_model("test_vit2"), tmp_path / "model.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"model\.safetensors is not a whole safetensors file"):
        build_model(model_of(vision=REGISTERS.model_copy(update={"weights": file})), 7)


def test_drawn_encoders_are_the_same_bits_and_touch_no_random_state() -> None:
    before = torch.get_rng_state()
    first, again = (build_model(model_of(vision=SMALL, audio=SMALL), 7) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert encoder_hash(first) == encoder_hash(again)
    assert all(value.isfinite().all() for value in first.state_dict().values())
    other = build_model(model_of(vision=REGISTERS), 7).vision
    assert 0.01 < other.registers.std() < 0.03
    assert (other.blocks[0].ls1.gamma == 1).all()


def test_what_learns_is_as_before() -> None:
    model = build_model(model_of(vision=REGISTERS), 7)
    learns = {name.split(".")[1] for name in model.trainable() if name.startswith("vision.")}
    assert learns == {"positions", "prompts"}
    assert {"vision.registers", "vision.norm.weight"} <= set(model.frozen())
    assert "vision.cls" not in model.state_dict()


def test_a_checkpoint_comes_back_with_its_licences(tmp_path: Path) -> None:
    file = file_of(timm_model("test_vit2"), tmp_path / "model.safetensors")
    config = model_of(vision=REGISTERS.model_copy(update={"weights": file}), pixels="half")
    assert licences(config) == {"mmadfer": "Apache-2.0", "timm test_vit2": "see the model card of its weights"}
    model = open_gates(build_model(config, 7))
    contract = Contract(labels=LABELS, model=config, prepare={}, data_set="test")
    for frozen in (True, False):
        save_weights(tmp_path / "trained.safetensors", model, contract, frozen)
        assert torch.equal(mmadfer.load(tmp_path / "trained.safetensors")(*clips()), model(*clips()))


PAIRS = {
    "a timm ViT": model_of(vision=SMALL, audio=SMALL),
    "registers, deeper": model_of(vision=REGISTERS, audio=ENCODER),
    "another width and depth": model_of(vision={"width": 96, "depth": 8, "heads": 3}, audio=ENCODER),
}


@pytest.mark.parametrize("config", PAIRS.values(), ids=PAIRS)
def test_saving_memory_and_halves_compute_the_same(config: ModelConfig) -> None:
    frames, fbank = clips()
    feed = frames / 255, fbank, torch.rand(2, 5, config.depth, 2)
    plain, less = (open_gates(build_model(config, 7)) for _ in range(2))
    apply(less, "fp32", CPU, recomputed=True)
    wanted = plain(*feed).detach()
    for model in (plain, less):
        model(*feed).sum().backward()
    for name, parameter in plain.trainable().items():
        assert parameter.grad is not None, name
        assert torch.equal(less.trainable()[name].grad, parameter.grad), name
    apply(less, "bf16", CPU)
    with autocast("bf16", CPU):
        found = less(*feed).float()
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.1 * float(wanted.abs().max()))


@pytest.mark.parametrize("config", PAIRS.values(), ids=PAIRS)
def test_one_program_serves_every_layer(config: ModelConfig) -> None:
    """Traced, not compiled: what dynamo makes of the first layer fits all others."""
    model, graphs = open_gates(build_model(config, 7)), []
    torch.compiler.reset()

    def backend(graph: Any, example: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    feed = (*clips(), torch.rand(2, 5, config.depth, 2))
    wanted = model(*feed)
    model.layer = torch.compile(layer, fullgraph=True, dynamic=False, backend=backend)
    torch.testing.assert_close(model(*feed), wanted, rtol=0, atol=1e-5)
    assert len(graphs) == 1


def losses(config: ModelConfig) -> list[float]:
    """Of ten steps on four clips of two classes."""
    model, classes = build_model(config, 2), torch.tensor([0, 1, 0, 1])
    generator = torch.Generator().manual_seed(3)
    frames = torch.rand(4, config.frames, 3, 32, 32, generator=generator)
    fbank = torch.randn(4, 1, *config.fbank, generator=generator) + 2 * classes[:, None, None, None]
    optimizer, found = torch.optim.AdamW(model.trainable().values(), 3e-3), []
    for _ in range(10):
        loss = nn.functional.cross_entropy(model(frames, fbank), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    return found


def test_longer_sound_trains() -> None:
    """Frames tell nothing here: it is the 10.24 s of sound that do."""
    found = losses(model_of(fbank=(1024, 128), vision=REGISTERS))
    assert found[-1] < 0.5 * found[0]


@pytest.mark.parametrize(("frames", "grid"), [(1024, (64, 8)), (2048, (128, 8))])
def test_longer_sound_takes_audiomae_positions(tmp_path: Path, frames: int, grid: tuple[int, int]) -> None:
    """AudioMAE's own 10.24 s as they are, others resized; from a file of another width, depth and patch."""
    sizes = {"width": 32, "depth": 2, "heads": 2}
    one = build_model(model_of(audio=sizes, vision={**sizes, "seed": 1}, fbank=(1024, 128)), 7)
    names = {"cls": "cls_token", "patch": "patch_embed.proj", "positions": "pos_embed"}
    state = {}
    for key, value in one.audio.state_dict().items():
        head, dot, rest = key.partition(".")
        if head != "prompts":
            state[f"{names.get(head, head)}{dot}{rest}"] = value
    state["pos_embed"] = torch.randn(1, 513, 32)
    torch.save({"model": state}, tmp_path / "audiomae.pth")
    audio = {**sizes, "weights": tmp_path / "audiomae.pth"}
    model = build_model(model_of(audio=audio, vision={**sizes, "seed": 1}, fbank=(frames, 128)), 7)
    assert torch.equal(model.audio.positions[:, :-6], resize_positions(state["pos_embed"], (64, 8), grid))
    frames_in, _ = clips()
    assert model(frames_in, torch.randn(2, 1, frames, 128)).isfinite().all()


def test_longer_sound_at_16_khz_is_promised() -> None:
    """1024 windows of 400 samples, 160 apart."""
    config = model_of(fbank=(1024, 128))
    sound = SoundConfig(rate=16000, frames=1024)
    contract = Contract(
        labels=LABELS,
        model=config,
        prepare={"sound": sound.model_dump()},
        data_set="test",
        input="waveform",
        waveform_rate=16000,
    )
    assert contract.samples == 400 + 1023 * 160


def black_and_white(config: ModelConfig) -> tuple[Tensor, MMADFER]:
    model = open_gates(build_model(config, 7))
    return torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None, None].expand(2, 4, 3, 32, 32), model


@pytest.mark.parametrize(
    ("pixels", "black", "white"),
    [
        ("imagenet", [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]),
        ("half", [-1.0] * 3, [1.0] * 3),
        ("clip", [-1.7922626, -1.7520971, -1.4802198], [1.9303361, 2.0748837, 2.1458970]),
    ],
)
def test_pixels_are_scaled_by_colour(pixels: Any, black: list[float], white: list[float]) -> None:
    frames, model = black_and_white(model_of(pixels=pixels))
    found = model._unit(frames)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[:, 1, :, 5, 7], torch.tensor([black, white]), rtol=0, atol=1e-5)
    assert torch.equal(found, model._unit(frames / 255)), "from floats as from bytes"
    model.vision.bfloat16()
    assert torch.equal(found, model._unit(frames)), "also where the encoder is held in half precision"


def test_unit_pixels_pass_as_they_are() -> None:
    frames, model = black_and_white(TINY)
    floats = frames / 255
    assert model._unit(floats) is floats
    assert scaled(floats, "unit") is floats
    other = open_gates(build_model(model_of(progressive=2, pixels="imagenet"), 7))
    assert other.state_dict().keys() == model.state_dict().keys()
    assert not torch.allclose(other(floats, clips()[1]), model(floats, clips()[1]), atol=1e-4)


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_a_file_with_a_number_that_is_none_is_refused_by_file_and_tensor(tmp_path: Path, odd: float) -> None:
    made = timm_model("test_vit")
    with torch.no_grad():
        made.blocks[3].mlp.fc1.bias[5] = odd
    path = file_of(made, tmp_path / "vision.safetensors")
    says = r"vision\.safetensors: blocks\.3\.mlp\.fc1\.bias holds 1 number\(s\) that are not finite"
    with pytest.raises(WeightsError, match=says):
        load_encoder(empty_model(model_of(vision=SMALL, audio=SMALL), 7).to_empty(device="cpu"), "vision", path)
