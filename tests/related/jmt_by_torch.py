"""Reference values of the joint multimodal transformer once more, of torch's own layers: for other seeds and sizes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from draw import draw, draw_all
from torch import Tensor, nn
from torch.nn import functional

MODES = ("tokens", "concat", "pair")
VALUES = ("valence", "arousal")

Weights = Mapping[str, Tensor]


def golden(tensors: Mapping[str, Any], size: tuple[int, int, int, int], step: int, seed: int) -> dict[str, np.ndarray]:
    """As the form has it; `tensors` is the layout of this width, `size` B, T, W, H."""
    clips, steps, width, heads = size
    drawn = draw_all(tensors, seed)
    inputs = {name: draw(f"input.{name}", (clips, steps, width), seed) for name in ("visual", "audio")}
    labels = {name: np.tanh(draw(f"label.{name}", (clips, steps), seed)) for name in VALUES}
    sums = np.array([one.sum() for one in (*drawn.values(), *inputs.values(), *labels.values())])
    found = {"sums": sums, "size": np.array(size), "column_step": np.array(step)}
    for mode in MODES:
        found |= _mode(mode, drawn, inputs, labels, heads, step)
    return found | _concordance(seed)


def _mode(mode: str, drawn: Any, inputs: Any, labels: Any, heads: int, step: int) -> dict[str, np.ndarray]:
    weights = {name: torch.tensor(value, requires_grad=True) for name, value in drawn.items()}
    features = {name: torch.tensor(value, requires_grad=True) for name, value in inputs.items()}
    released = {} if mode == "tokens" else _released(mode, weights, features, labels, heads, step)
    kept, fused = _fused(mode, weights, features, heads)
    values = {name: _head(fused, weights, f"head.{mode}.{name}") for name in VALUES}
    loss = sum(_loss(values[name].flatten(), torch.tensor(labels[name]).flatten()) for name in VALUES)
    assert isinstance(loss, Tensor)
    loss.backward()
    every = 2 * step if mode == "concat" else step
    found = {f"{mode}.fused": fused[..., ::every], f"{mode}.loss": loss}
    found |= {f"{mode}.{name}": value for name, value in values.items()}
    found |= {f"{mode}.grad_{name}": one.grad[..., ::step] for name, one in features.items() if one.grad is not None}
    if mode == "tokens":
        found |= {key: value[..., ::step] for key, value in kept.items()}
    norms = [float("nan") if one.grad is None else float(one.grad.norm()) for one in weights.values()]
    plain = {key: value.detach().numpy() for key, value in found.items()}
    return plain | released | {f"{mode}.gradient_norms": np.array(norms)}


def _released(mode: str, weights: Weights, features: Weights, labels: Any, heads: int, step: int) -> dict[str, Any]:
    with torch.no_grad():
        _, fused = _fused(mode, weights, features, heads, over_clips=mode == "pair")
        values = {name: _head(fused, weights, f"head.{mode}.{name}") for name in VALUES}
        if mode == "pair":
            found = {"pair.fused_released": fused[..., ::step]}
            found |= {f"pair.{name}_released": value for name, value in values.items()}
            return {key: value.numpy() for key, value in found.items()}
        losses = [_loss(values[name].T.flatten(), torch.tensor(labels[name]).flatten()) for name in VALUES]
        return {"concat.loss_released": torch.stack(losses).sum().numpy()}


def _fused(
    mode: str, weights: Weights, features: Weights, heads: int, over_clips: bool = False
) -> tuple[dict[str, Tensor], Tensor]:
    """What is kept on the way, and (B, T, …)."""
    v, a = (one / one.norm(dim=-1, keepdim=True) for one in features.values())
    sequences = {"visual": v, "audio": a}
    if mode != "pair":
        sequences["joint"] = _linear(torch.cat([v, a], dim=-1), weights, "joint")
    e = {name: _encoder(one, weights, f"{name}_encoder", heads, over_clips) for name, one in sequences.items()}
    order = ["visual audio", "audio visual", "joint visual", "visual joint", "joint audio", "audio joint"]
    pairs = [pair.split() for pair in order[: 2 if mode == "pair" else 6]]
    cross = [_attention(e[query], e[source], weights, f"cross.{query}", heads) for query, source in pairs]
    kept = {**{f"encoded.{name}": one for name, one in e.items()}, "cross": torch.stack(cross)}
    if mode != "tokens":
        return kept, _linear(torch.cat(cross, dim=-1), weights, mode)
    tokens = torch.stack(cross, dim=2).flatten(0, 1)
    tokens = _encoder(tokens, weights, "token_encoder", heads)
    fused = _attention(tokens, tokens, weights, "token_attention", heads)[:, -1]
    return kept, fused.unflatten(0, v.shape[:2])


def _linear(x: Tensor, weights: Weights, name: str) -> Tensor:
    return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _attention(query: Tensor, source: Tensor, weights: Weights, name: str, heads: int) -> Tensor:
    """torch's own, which wants queries, keys and values one above the other."""
    module = nn.MultiheadAttention(query.shape[-1], heads, batch_first=True, dtype=torch.float64)
    parts = {kind: torch.cat([weights[f"{name}.{one}.{kind}"] for one in "qkv"]) for kind in ("weight", "bias")}
    given = {f"in_proj_{kind}": value for kind, value in parts.items()}
    given |= {f"out_proj.{kind}": weights[f"{name}.out.{kind}"] for kind in parts}
    found: Tensor = torch.func.functional_call(module, given, (query, source, source))[0]
    return found


def _encoder(x: Tensor, weights: Weights, name: str, heads: int, over_clips: bool = False) -> Tensor:
    """nn.TransformerEncoderLayer's arithmetic; over the first axis instead of the second on request."""
    if over_clips:
        return _encoder(x.transpose(0, 1), weights, name, heads).transpose(0, 1)
    x = _norm(x + _attention(x, x, weights, f"{name}.attention", heads), weights, f"{name}.norm1")
    inner = functional.relu(_linear(x, weights, f"{name}.fc1"))
    return _norm(x + _linear(inner, weights, f"{name}.fc2"), weights, f"{name}.norm2")


def _norm(x: Tensor, weights: Weights, name: str) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def _head(x: Tensor, weights: Weights, name: str) -> Tensor:
    return _linear(functional.relu(_linear(x, weights, f"{name}.fc1")), weights, f"{name}.fc2").squeeze(-1)


def _loss(x: Tensor, y: Tensor) -> Tensor:
    dx, dy = x - x.mean(), y - y.mean()
    correlation = (dx * dy).sum() / (dx.norm() * dy.norm() + 1e-8)
    return 1 - 2 * correlation * x.std() * y.std() / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def _concordance(seed: int) -> dict[str, np.ndarray]:
    """One case, with labels that are ignored; of plain sums over those that are not."""
    rng = np.random.default_rng(seed)
    label = np.tanh(rng.standard_normal(20))
    prediction = label + 0.3 * rng.standard_normal(20)
    label[[3, 8, 9]] = -5
    kept, found = label != -5, {}
    for kind, less in (("population", 0), ("unbiased", 1)):
        x, y = torch.tensor(prediction[kept], requires_grad=True), torch.tensor(label[kept])
        spread = x.var(correction=less) + y.var(correction=less) + (x.mean() - y.mean()) ** 2
        loss = 1 - 2 * ((x - x.mean()) * (y - y.mean())).sum() / (len(x) - less) / spread
        loss.backward()
        assert x.grad is not None
        gradient = np.zeros(20)
        gradient[kept] = x.grad.numpy()
        found |= {f"loss_{kind}": loss.detach().numpy(), f"gradient_{kind}": gradient}
    given = {"prediction": prediction, "label": label}
    return {f"ccc.some.{key}": value for key, value in (given | found).items()}
