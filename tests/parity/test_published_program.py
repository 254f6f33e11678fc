"""Our model computes what the published program does, to the last digit (`reference.py` says how weights are made).

The published weights cannot be shipped. Golden files hold logits, loss, gradient norms and the temporal input that the
published program computes in float64 from weights and inputs that anybody can draw again.
"""

import ctypes
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from reference import batch, state_dict
from torch import Tensor
from torch.nn.functional import cross_entropy

from mmadfer.config.schema import ModelConfig
from mmadfer.model.mma_dfer import MMADFER, empty_model
from mmadfer.model.precision import apply
from mmadfer.model.weights.published import our_name, published_name

HERE = Path(__file__).parent
TRAINABLE = {"dfew_160": 7_558_687, "mafw_224": 7_634_467}
DEAD_NORMS = 4 * 512
"""`norm2` of the published temporal layer: trainable there, never used."""

M_MMAP_THRESHOLD = -3


@pytest.fixture(scope="module", autouse=True)
def _give_memory_back() -> None:
    """Have glibc return every large block when it is freed: fragments else take as much again as the model."""
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 20)


class Case(NamedTuple):
    """One golden file, the model with its weights, and its inputs."""

    name: str
    golden: dict[str, np.ndarray]
    model: MMADFER
    frames: Tensor
    fbank: Tensor
    labels: Tensor


@pytest.fixture(scope="module", params=[("dfew_160", 160, 7), ("mafw_224", 224, 11)], ids=lambda param: param[0])
def case(request: pytest.FixtureRequest) -> Case:
    """Float32 model; float64 is made from it, exactly."""
    name, size, classes = request.param
    named = ((our_name(key), value) for key, value in state_dict(f"layout_{name}.json", seed=1).items())
    weights = {key: torch.from_numpy(value) for key, value in named if key}
    model = empty_model(ModelConfig(image_size=size), classes)
    model.load_state_dict(weights, assign=True)
    with np.load(HERE / f"golden_{name}_seed1.npz", allow_pickle=False) as file:
        golden = dict(file)
    frames, fbank, labels = map(torch.from_numpy, batch(size, classes, seed=1))
    return Case(name, golden, model, frames, fbank, labels)


def test_trainable_set(case: Case) -> None:
    theirs = {str(name) for name in case.golden["trainable"] if ".norm2." not in name}
    assert {published_name(name) for name in case.model.trainable()} == theirs
    assert sum(p.numel() for p in case.model.trainable().values()) == TRAINABLE[case.name] - DEAD_NORMS


def test_float32(case: Case) -> None:
    with torch.no_grad():
        logits = case.model(case.frames, case.fbank)
    np.testing.assert_allclose(logits.numpy(), case.golden["logits"], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_float64(case: Case) -> None:
    """Logits, loss, temporal input and the norm of every gradient.

    Clip by clip, and recomputing layers on the way back: both bound the memory (3 GB), and change rounding at most.
    """
    model = case.model.double()
    apply(model, "reference", torch.device("cpu"), recomputed=True)
    total = torch.zeros((), dtype=torch.float64)
    for index, label in enumerate(case.labels):
        sequence = model.encode(case.frames[index : index + 1], case.fbank[index : index + 1])
        logits = model.classifier(*model.temporal(sequence))
        loss = cross_entropy(logits, label[None]) / len(case.labels)
        loss.backward()
        total += loss.detach()
        assert_close(sequence[0], case.golden["temporal_in"][index])
        assert_close(logits[0], case.golden["logits"][index])
    assert_close(total, case.golden["loss"])
    parameters = model.trainable()
    gradients = [parameters[our_name(str(name)) or ""].grad for name in case.golden["grad_names"]]
    norms = [gradient.norm().item() for gradient in gradients if gradient is not None]
    assert len(norms) == len(parameters)
    np.testing.assert_allclose(norms, case.golden["grad_norms"], rtol=1e-6, atol=0)


def assert_close(ours: Tensor, golden: np.ndarray) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), golden, rtol=0, atol=1e-9)
