"""The joints beside the sum: what they take of both encoders, and that no clip sees another."""

from typing import Any

import pytest
import torch
from model_setup import LABELS, TINY, clips, open_gates

from mmadfer.config.model import ModelConfig
from mmadfer.model.joint import Encoded, stretches
from mmadfer.model.joint_transformer import JointTransformer
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights.build import build_model

JMT = {"name": "jmt", "width": 48, "heads": 2}
JOINTS: dict[str, dict[str, Any]] = {
    "concat": {"name": "concat", "width": 48},
    "tokens": JMT,
    "six": {**JMT, "combine": "concat"},
    "pair": {**JMT, "combine": "pair"},
}
FUSIONS = ["bottleneck", "none"]


def made(joint: dict[str, Any], **change: Any) -> MMADFER:
    """The tiny model with this joint, with open gates."""
    return open_gates(build_model(ModelConfig(**{**dict(TINY), "joint": joint, **change}), len(LABELS)))


def drawn(model: MMADFER) -> MMADFER:
    """With every trainable weight moved, biases too."""
    generator = torch.Generator().manual_seed(2)
    for value in model.trainable().values():
        value.data += 0.1 * torch.randn(value.shape, generator=generator)
    return model


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("joint", JOINTS)
def test_each_clip_is_as_it_is_alone(joint: str, fusion: str) -> None:
    model, (frames, fbank) = drawn(made(JOINTS[joint], fusion=fusion)).double(), clips(3)
    with torch.no_grad():
        together = model.encode(frames, fbank.double())
        alone = torch.cat([model.encode(frames[k : k + 1], fbank[k : k + 1].double()) for k in range(3)])
    assert together.shape == (3, 4, 96 if joint == "six" else 48)
    assert model.config.width == together.shape[-1]
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-13)
    assert (together[0] - together[1]).abs().max() > 1e-3


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("joint", JOINTS)
def test_all_that_learns_has_a_gradient(joint: str, fusion: str) -> None:
    model = drawn(made(JOINTS[joint], fusion=fusion))
    model(*clips()).square().sum().backward()
    still = [name for name, one in model.trainable().items() if one.grad is None or not one.grad.any()]
    assert still == []
    assert {name.split(".")[1] for name in model.trainable() if name.startswith("joint.")} == (
        {"weight", "bias"} if joint == "concat" else {"vision", "audio", "transformer"}
    )


@pytest.mark.parametrize("joint", JOINTS)
def test_weights_are_drawn_by_seed_and_name(joint: str) -> None:
    one, other = (build_model(made(JOINTS[joint]).config, 7, seed=seed) for seed in (1, 2))
    again = build_model(one.config, 7, seed=1).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in one.state_dict().items())
    mine = {name: value for name, value in one.joint.state_dict().items() if "norm" not in name}
    assert all(not torch.equal(value, other.joint.state_dict()[name]) for name, value in mine.items())


def test_patches_are_the_normalised_tokens_in_their_places() -> None:
    encoder = build_model(TINY, 7).audio
    rows, columns = encoder.grid
    tokens = torch.randn(2, 1, encoder.end + 6, 64)
    found = encoder.patches(tokens)
    assert found.shape == (2, 1, 32, 8, 64)
    assert (rows, columns) == (32, 8), "time first"
    place = encoder.norm(tokens[1, 0, 1 + 5 * columns + 3])
    torch.testing.assert_close(found[1, 0, 5, 3], place)


def test_a_stretch_is_the_mean_over_mel_bands_and_its_time() -> None:
    patches = torch.randn(2, 1, 32, 8, 5, dtype=torch.float64)
    found = stretches(Encoded(torch.zeros(0), torch.zeros(0), patches), 16)
    assert found.shape == (2, 16, 5)
    for step in (0, 7, 15):
        torch.testing.assert_close(found[1, step], patches[1, 0, 2 * step : 2 * step + 2].mean(dim=(0, 1)))


def test_a_frame_meets_its_own_stretch_of_sound() -> None:
    """Without fusion, `concat` gives step k what frame k and the k-th quarter of the sound say, and nothing else."""
    model = made(JOINTS["concat"], fusion="none")
    vision, audio = (torch.randn(1, 4, 64) for _ in range(2))
    patches = audio.repeat_interleave(8, dim=1)[:, None, :, None].expand(-1, -1, -1, 8, -1)
    found = model.joint(Encoded(vision, vision), Encoded(audio, audio[:, :1], patches))
    wanted = torch.nn.functional.linear(torch.cat([vision, audio], -1), model.joint.weight, model.joint.bias)
    torch.testing.assert_close(found, wanted)


def test_the_published_size() -> None:
    """Parameters that the published module has without its heads and the encoder that it never runs."""

    def count(name: Any) -> int:
        with torch.device("meta"):
            return sum(one.numel() for one in JointTransformer(512, 1, name).parameters())

    assert count("tokens") == 11_039_232
    attention, encoder = 4 * (512 * 512 + 512), 4 * (512 * 512 + 512) + 2 * (512 * 512 + 512) + 4 * 512
    assert count("pair") == 2 * (attention + encoder) + 1024 * 512 + 512


def test_steps_have_no_positions() -> None:
    """In another order, they give the same results in that order."""
    order = torch.tensor([2, 0, 3, 1])
    vision, audio = (torch.randn(2, 4, 16, dtype=torch.float64) for _ in range(2))
    for combine in ("tokens", "concat", "pair"):
        transformer = JointTransformer(16, 2, combine).double()  # type: ignore[arg-type]
        found = transformer(vision[:, order], audio[:, order])
        torch.testing.assert_close(found, transformer(vision, audio)[:, order])
