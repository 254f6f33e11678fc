"""Pools of windows where numbers are far apart: NumPy, torch and an exported graph agree, and all stays finite."""

import math

import numpy as np
import pytest
import torch
from needs import needed
from torch import Tensor, nn

from mmadfer.config.windows import WindowConfig
from mmadfer.export.graph.tracing import trace
from mmadfer.tasks import pooling, pooling_torch

FAR = np.array([[[200.0, 0.0, -900.0], [200.0, 0.0, -700.0]]], np.float32)
"""(1, K, C): a share of e^-200 is too small for float32, one of e^-900 also for float64."""
MEAN = [0.0, -200.0, -900 + math.log(0.5)]


class Pooled(nn.Module):
    """The pool as a graph."""

    def forward(self, logits: Tensor) -> Tensor:
        return pooling_torch.clip_logits(logits, WindowConfig())


def test_the_mean_of_shares_too_small_for_a_number_is_finite() -> None:
    np.testing.assert_allclose(pooling.clip_logits(FAR, WindowConfig())[0], [*MEAN[:2], -900 + math.log(0.5)])
    found = pooling_torch.clip_logits(torch.from_numpy(FAR), WindowConfig())
    np.testing.assert_allclose(found[0].numpy(), MEAN, rtol=1e-6)


def test_the_mean_is_as_before_where_shares_are_numbers() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 7, 4)) * 3
    shares = torch.from_numpy(logits).softmax(-1).mean(-2).log()
    np.testing.assert_allclose(pooling.mean_probabilities(logits), shares.numpy(), rtol=1e-13)
    np.testing.assert_allclose(pooling_torch.mean_probabilities(torch.from_numpy(logits)), shares, rtol=1e-13)


def test_an_exported_graph_takes_the_mean_of_them_too() -> None:
    needed("onnx")
    ort, both = needed("onnxruntime"), FAR.repeat(2, 0)
    graph = trace(Pooled(), {"logits": torch.from_numpy(both)}, "clip").SerializeToString()
    (found,) = ort.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, {"logits": both})
    np.testing.assert_allclose(found[0], MEAN, rtol=1e-6)


@pytest.mark.parametrize("gamma", [1e30, 1e38, 1e300, math.inf])
def test_a_huge_gamma_is_the_maximum(gamma: float) -> None:
    logits = np.array([[1.0, 20.0, -3.0], [3.0, 4.0, -3.0]], np.float32)
    most = logits.max(0)
    assert pooling.pooled(logits, gamma).tolist() == most.tolist()
    rows = torch.from_numpy(logits).requires_grad_()
    found = pooling_torch.pooled(rows, gamma)
    assert found.tolist() == most.tolist()
    found.sum().backward()
    assert rows.grad is not None
    assert rows.grad.tolist() == [[0, 1, 0.5], [1, 0, 0.5]]
