"""The network: sizes, what learns, initial weights, stochastic depth, inputs."""

from typing import Any, cast

import pytest
import torch
from model_setup import ENCODER, TINY, clips, open_gates
from torch import Tensor, nn

from mmadfer.config.schema import Config, EncoderConfig, ModelConfig
from mmadfer.errors import ConfigError
from mmadfer.model.block import Block
from mmadfer.model.encoder import Encoder, vision_encoder
from mmadfer.model.layer import kept, through
from mmadfer.model.mma_dfer import MMADFER, empty_model
from mmadfer.model.weights.build import build_model, encoder_hash, weights_hash
from mmadfer.model.weights.init import sincos


@pytest.fixture
def model() -> MMADFER:
    return open_gates(build_model(TINY, classes=7))


@pytest.fixture
def deep() -> MMADFER:
    """Drop rates 0, 1/6, 1/3, 1/2; gates closed, so that frames do not hear of each other."""
    return build_model(TINY.model_copy(update={"drop_path": 0.5}), classes=7)


def draws(value: float, count: int = 2) -> Tensor:
    return torch.full((count, TINY.frames + 1, ENCODER.depth, 2), value)


def test_full_size_is_as_published() -> None:
    model = empty_model(ModelConfig(), classes=7)
    dead = 4 * 512  # `norm2` of the published temporal layer
    assert sum(p.numel() for p in model.trainable().values()) == 7_558_687 - dead
    heads = 12 * 768 + 12 + 1000 * 768 + 1000  # classifiers of the encoders, dead as well
    assert sum(p.numel() for p in model.parameters()) == 179_238_419 - dead - heads
    assert not list(model.buffers())


def test_what_learns(model: MMADFER) -> None:
    model(*clips()).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.trainable().values())
    assert all(p.grad is None for p in model.frozen().values())
    assert {name.split(".")[1] for name in model.frozen()} == {"cls", "patch", "blocks", "norm"}


@pytest.mark.parametrize("change", [{"prompts": 0, "progressive": 0}, {"progressive": 0}, {"image_size": 48}])
def test_sizes_can_change(change: dict[str, int]) -> None:
    model = build_model(TINY.model_copy(update=change), classes=3)
    side = model.config.image_size
    logits = model(torch.zeros(1, 4, 3, side, side), torch.zeros(1, 1, 512, 128))
    assert logits.shape == (1, 3)
    assert logits.isfinite().all()


def test_build_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    build_model(TINY, classes=7)
    assert torch.equal(before, torch.get_rng_state())


def test_seeds_choose_their_own_part() -> None:
    vision = TINY.vision.model_copy(update={"seed": 3})
    base, again, other = build_model(TINY, 7), build_model(TINY, 7), build_model(TINY, 7, seed=2)
    moved = build_model(TINY.model_copy(update={"vision": vision}), 7)
    assert (encoder_hash(base), weights_hash(base)) == (encoder_hash(again), weights_hash(again))
    assert encoder_hash(base) == encoder_hash(other)
    assert weights_hash(base) != weights_hash(other)
    assert encoder_hash(base) != encoder_hash(moved)
    assert weights_hash(base) == weights_hash(moved)


def test_initial_values() -> None:
    fresh = build_model(ModelConfig(vision=ENCODER, audio=ENCODER), classes=7)
    assert all(p.isfinite().all() for p in fresh.parameters())
    values = {name: p.detach() for name, p in fresh.named_parameters()}
    assert not torch.equal(values["vision.blocks.0.mlp.fc1.weight"], values["audio.blocks.0.mlp.fc1.weight"])
    assert [name for name, p in values.items() if name.endswith("gate") and p != 0] == []
    assert float(values["vision.prompts.initial"].std()) == pytest.approx(ENCODER.width**-0.5, rel=0.15)
    assert float(values["audio.positions"][0, -6:].std()) == pytest.approx(1, rel=0.15)
    assert torch.equal(fresh.vision.positions[:, :-6], sincos((10, 10), 64))
    xavier = (6 / (64 + 3 * 256)) ** 0.5
    assert float(values["vision.patch.weight"].abs().max()) == pytest.approx(xavier, rel=0.01)


def test_sincos_tells_every_place_apart() -> None:
    table = sincos((32, 8), 64)[0]
    assert torch.equal(table[0], torch.zeros(64))
    assert torch.pdist(table[1:]).min() > 0.1


def test_random_encoder_tells_place_and_pattern() -> None:
    """Ridge regression reads both from the CLS of frozen random weights (chance is 1/4 and 1/2)."""
    encoder = build_model(TINY.model_copy(update={"image_size": 64}), classes=7).vision
    train, test = (_patterns(n, torch.Generator().manual_seed(n)) for n in (400, 200))
    assert _read(_summary(encoder, train[0]), train[1], _summary(encoder, test[0]), test[1]) > 0.5
    assert _read(_summary(encoder, train[0]), train[2], _summary(encoder, test[0]), test[2]) > 0.75


def _patterns(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy images with stripes along or across, in one of four places: images, place, direction."""
    images = 0.5 + 0.05 * torch.randn(count, 3, 64, 64, generator=generator)
    place = torch.randint(0, 4, (count,), generator=generator)
    across = torch.randint(0, 2, (count,), generator=generator)
    stripes = torch.tensor([0.25, 0.25, -0.25, -0.25]).repeat(4).expand(16, 16)
    for image, where, turned in zip(images, place.tolist(), across.tolist(), strict=True):
        x, y = torch.randint(0, 16, (2,), generator=generator).tolist()
        image[:, 32 * (where // 2) + y :, 32 * (where % 2) + x :][:, :16, :16] += stripes.T if turned else stripes
    return images, place, across


def _summary(encoder: Encoder, images: Tensor) -> Tensor:
    with torch.no_grad():
        tokens = encoder.embed(images)
        for block in encoder.blocks:
            tokens = through([cast(Block, block)], tokens, None)
        return encoder.summary(tokens)


def _read(train: Tensor, labels: Tensor, test: Tensor, truth: Tensor) -> float:
    train, test = ((x - train.mean(0)) / train.std(0) for x in (train, test))
    wanted = nn.functional.one_hot(labels).float()
    weights = torch.linalg.solve(train.T @ train + torch.eye(train.shape[1]), train.T @ (wanted - wanted.mean(0)))
    return float(((test @ weights + wanted.mean(0)).argmax(1) == truth).float().mean())


def test_bytes_and_floats_are_the_same(model: MMADFER) -> None:
    frames, fbank = clips()
    assert torch.equal(model(frames, fbank), model(frames.float() / 255, fbank))


def test_clips_do_not_hear_each_other(model: MMADFER) -> None:
    frames, fbank = clips()
    torch.testing.assert_close(model(frames, fbank)[1:], model(frames[1:], fbank[1:]), rtol=0, atol=1e-5)


def test_order_of_frames_matters(model: MMADFER) -> None:
    frames, fbank = clips()
    assert not torch.allclose(model(frames, fbank), model(frames.flip(1), fbank), atol=1e-3)


def test_train_and_eval_are_the_same(model: MMADFER) -> None:
    inputs = (*clips(), draws(0.03))
    assert torch.equal(model.train()(*inputs), model.eval()(*inputs))


def test_doubles(model: MMADFER) -> None:
    inputs, single = clips(), model(*clips())
    torch.testing.assert_close(model.double()(*inputs), single.double(), rtol=0, atol=1e-5)


def test_bf16_autocast(model: MMADFER) -> None:
    inputs = clips()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(*inputs, draws(0.9))
    logits.float().sum().backward()
    assert (logits - model(*inputs, draws(0.9))).abs().max() < 0.1


def test_wrong_shapes_are_named(model: MMADFER) -> None:
    frames, fbank = clips()
    with pytest.raises(ValueError, match=r"frames must be \(B, 4, 3, 32, 32\), not \(2, 3, 3, 32, 32\)"):
        model(frames[:, :3], fbank)
    with pytest.raises(ValueError, match=r"fbank must be \(B, 1, 512, 128\), not \(2, 1, 128, 512\)"):
        model(frames, fbank.transpose(2, 3))


def test_stochastic_depth_keeps_and_scales(deep: MMADFER) -> None:
    """With every draw above every rate, each branch counts 1 / (1 - rate)."""
    kept = deep(*clips(), draws(0.5))
    for encoder in (deep.vision, deep.audio):
        for block, rate in zip(encoder.blocks, (0, 1 / 6, 1 / 3, 1 / 2), strict=True):
            _scale_branches(block, 1 / (1 - rate))
    torch.testing.assert_close(kept, deep(*clips()), rtol=0, atol=1e-5)


def test_stochastic_depth_drops(deep: MMADFER) -> None:
    """With every draw 0, only the first block runs: its rate is 0."""
    dropped = deep(*clips(), draws(0.0))
    for encoder in (deep.vision, deep.audio):
        for block in list(encoder.blocks)[1:]:
            _scale_branches(block, 0)
    torch.testing.assert_close(dropped, deep(*clips()), rtol=0, atol=1e-5)


def _scale_branches(block: Any, factor: float) -> None:
    for layer in (block.attn.proj, block.mlp.fc2):
        layer.weight.data.mul_(factor)
        layer.bias.data.mul_(factor)


def test_rows_of_draws(deep: MMADFER) -> None:
    """Row t thins frame t of its clip, the last row the sound, which every frame hears."""
    some, all_kept = draws(0.9), draws(0.9)
    some[1, 2, 3, 1] = 0
    changed = (deep.encode(*clips(), some) != deep.encode(*clips(), all_kept)).any(-1)
    assert changed.tolist() == [[False] * 4, [False, False, True, False]]
    some = draws(0.9)
    some[0, 4, 2, 0] = 0
    changed = (deep.encode(*clips(), some) != deep.encode(*clips(), all_kept)).any(-1)
    assert changed.tolist() == [[True] * 4, [False] * 4]


def test_stochastic_depth_keeps_the_expectation(deep: MMADFER) -> None:
    """Of 4000 copies, a block drops the share of its rate, and the mean branch stays what it is."""
    tokens = deep.vision.embed(clips(1)[0][0, :1].float() / 255)
    uniform = torch.rand(4000, 4, 2, generator=torch.Generator().manual_seed(0))
    uniform[:, 3, 1] = 0  # the MLP is dropped everywhere, to see attention alone
    with torch.no_grad():
        block: Any = deep.vision.blocks[3]
        whole = block.attn(block.norm1(tokens))
        thinned = through([block], tokens.expand(4000, -1, -1), kept(uniform, deep.vision.rates)[:, 3:4]) - tokens
    dropped = (thinned.abs().amax((1, 2)) < 1e-6).float().mean()
    assert float(dropped) == pytest.approx(0.5, abs=0.03)
    torch.testing.assert_close(thinned.mean(0), whole[0], rtol=0.07, atol=1e-3)


def test_prompts_are_last_and_updated_in_shares() -> None:
    config = TINY.model_copy(update={"prompts": 6, "progressive": 2})
    encoder = build_model(config, classes=7).vision
    tokens = torch.zeros(1, 11, 64)
    for block, rows in ((0, slice(5, 8)), (2, slice(8, 11))):
        moved = encoder.prompts.progress(tokens, block)
        assert torch.equal(moved[0, rows], encoder.prompts.progressive[block // 2])
        assert (moved != 0).any(-1).sum() == 3
    assert encoder.prompts.progress(tokens, 1) is tokens


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fbank": [500, 128]}, "multiples of audio.patch 16"),
        ({"fbank": [256, 128]}, "prepare.sound"),
        ({"image_size": 100}, "image_size 100"),
        ({"vision": {"width": 6, "heads": 1}}, "multiple of 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    from mmadfer.config.schema import parse

    with pytest.raises(ConfigError, match=message):
        parse({"name": "x", "model": change}, where="test")


def test_defaults_are_vit_b() -> None:
    config = Config(name="x").model
    encoder: EncoderConfig = config.vision
    assert (encoder.width, encoder.depth, encoder.heads, encoder.patch) == (768, 12, 12, 16)
    with torch.device("meta"):
        assert vision_encoder(config).positions.shape == (1, 107, 768)
