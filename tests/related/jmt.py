"""The joint multimodal transformer: every value of a reference file, of the product's own modules in float64.

Where the published program has a fault that ours does not have, its value is computed here from our modules.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from draw import draw, draw_all
from golden import FormError, Row, compared, lacking, seed_of
from jmt_released import RELEASED, floored_loss, released_pair
from torch import Tensor, nn

from mmadfer.model.heads import Perceptron
from mmadfer.model.joint_transformer import JointTransformer
from mmadfer.tasks.losses import Concordance, UnbiasedConcordance

LAYOUT = json.loads((Path(__file__).parent / "layout_jmt.json").read_text())
MODES = ("tokens", "concat", "pair")
VALUES = ("valence", "arousal")
SEQUENCES = {"vision": "visual", "audio": "audio", "joint": "joint"}
IGNORED = -5
"""A label that is none."""
OUTPUT, LOSS, CCC, SUMS, KEY_BIAS = 1e-10, 1e-8, 1e-12, 1e-9, 1e-12
"""Tolerances."""

Arrays = Mapping[str, np.ndarray]


def rows(path: Path, golden: Arrays, seed: int | None) -> list[Row]:
    """Every key of a file.

    Raises:
        FormError: it is not of the form.
    """
    lacking(golden, iter(["size", "column_step", "sums"]))
    case = Case.of(golden, 0)
    if seed is None:
        seed = seed_of(path, partial(_draws, case, golden["sums"]))
    case = Case.of(golden, seed)
    computed = {**dict(_model_values(case)), **dict(_ccc_values(golden))}
    lacking(golden, (key for key in computed if not key.startswith("ccc.")))
    if unknown := set(golden) - set(computed) - {"size", "column_step"} - _given(golden):
        raise FormError(f"the key {min(unknown)} is not known")
    compare = partial(_compared, case=case, golden=golden)
    return [row for key, found in computed.items() if key in golden for row in compare(key, found)]


def _given(golden: Arrays) -> set[str]:
    return {key for key in golden if key.startswith("ccc.") and key.endswith((".prediction", ".label"))}


def _draws(case: "Case", sums: np.ndarray, seed: int) -> bool:
    """Whether a seed draws the tensors of one number that a file has."""
    single = [k for k, tensor in enumerate(case.tensors.values()) if tensor["shape"] == [1]]
    drawn = [draw_all({name: case.tensors[name]}, seed)[name] for name in (list(case.tensors)[k] for k in single)]
    return len(sums) == len(case.tensors) + 4 and bool(np.isclose(np.ravel(drawn), sums[single], rtol=1e-9).any())


# ---------------------------------------------------------------- weights and inputs


@dataclass
class Case:
    """Weights and inputs of one file."""

    clips: int
    steps: int
    width: int
    heads: int
    column_step: int
    seed: int

    @classmethod
    def of(cls, golden: Arrays, seed: int) -> "Case":
        """As a file says its sizes."""
        size, column_step = golden["size"], golden["column_step"]
        if size.shape != (4,) or column_step.shape != () or min(*size, column_step) < 1 or size[2] % size[3]:
            raise FormError(f"size is {size.tolist()} and column_step {column_step.tolist()}: B, T, W, H and a number")
        return cls(*map(int, size), int(column_step), seed)

    @cached_property
    def tensors(self) -> dict[str, dict[str, Any]]:
        """Shapes, means and deviations, those of the layout's width scaled to this one."""
        return {name: _scaled(name, tensor, self.width) for name, tensor in LAYOUT["tensors"].items()}

    @cached_property
    def weights(self) -> dict[str, np.ndarray]:
        """All of the layout's."""
        return draw_all(self.tensors, self.seed)

    @cached_property
    def inputs(self) -> dict[str, np.ndarray]:
        """Two of (B, T, W), and labels (B, T)."""
        features = {name: draw(f"input.{name}", self._shape(self.width), self.seed) for name in ("visual", "audio")}
        return features | {name: np.tanh(draw(f"label.{name}", self._shape(), self.seed)) for name in VALUES}

    def _shape(self, *last: int) -> tuple[int, ...]:
        return (self.clips, self.steps, *last)

    @property
    def features(self) -> tuple[Tensor, Tensor]:
        """With gradients."""
        one, other = (torch.from_numpy(self.inputs[name]).requires_grad_() for name in ("visual", "audio"))
        return one, other

    @property
    def labels(self) -> Tensor:
        """(B, T, 2)."""
        return torch.stack([torch.from_numpy(self.inputs[name]) for name in VALUES], dim=-1)

    def columns(self, value: Tensor, every: int = 1) -> np.ndarray:
        """Those that a file keeps."""
        return value.detach().numpy()[..., :: every * self.column_step]


def _scaled(name: str, tensor: Mapping[str, Any], width: int) -> dict[str, Any]:
    """Sizes of the layout that are multiples of its width grow with it; matrices keep gain / sqrt(fan in)."""
    of = LAYOUT["width"]
    shape = [size * width // of if size % of == 0 else size for size in tensor["shape"]]
    narrower = np.sqrt(tensor["shape"][-1] / shape[-1]) if len(shape) == 2 else 1.0
    return {"shape": shape, "mean": tensor["mean"], "std": float(tensor["std"] * narrower)}


class Published(nn.Module):
    """The joint and the two heads, named as the layout has them."""

    def __init__(self, case: Case, mode: Any):
        super().__init__()
        self.mode, self.weights = mode, case.weights
        self.joint = JointTransformer(case.width, case.heads, mode)
        out = case.width * (2 if mode == "concat" else 1)
        self.heads = nn.ModuleDict({name: Perceptron(out, 128) for name in VALUES})
        self.double()
        self.named = {self._theirs(name): parameter for name, parameter in self.named_parameters()}
        for name, parameter in self.named.items():
            parameter.data.copy_(torch.from_numpy(case.weights[name]))

    def _theirs(self, name: str) -> str:
        for ours, theirs in self._names().items():
            if name.startswith(ours):
                return theirs + name.removeprefix(ours)
        raise KeyError(name)

    def _names(self) -> dict[str, str]:
        encoders = {f"joint.encoders.{ours}.": f"{theirs}_encoder." for ours, theirs in SEQUENCES.items()}
        cross = {f"joint.cross.{ours}.": f"cross.{theirs}." for ours, theirs in SEQUENCES.items()}
        mixer = {"joint.combine.encoder.": "token_encoder.", "joint.combine.attention.": "token_attention."}
        rest = {"joint.combine.": f"{self.mode}.", "joint.joint.": "joint.", "heads.": f"head.{self.mode}."}
        return {**encoders, **cross, **mixer, **rest}

    def values(self, fused: Tensor) -> Tensor:
        """(…, W) -> (…, 2)."""
        return torch.cat([self.heads[name](fused) for name in VALUES], dim=-1)

    def gradient_norms(self) -> np.ndarray:
        """In the order of the layout, NaN where there is no such tensor."""
        norms = {name: float(one.grad.norm()) for name, one in self.named.items() if one.grad is not None}
        return np.array([norms.get(name, np.nan) for name in self.weights])


# ---------------------------------------------------------------- values

Values = Iterator[tuple[str, np.ndarray]]


def _model_values(case: Case) -> Values:
    drawn = [*case.weights.values(), *case.inputs.values()]
    yield "sums", np.array([float(one.sum()) for one in drawn])
    yield from _stages(case)
    for mode in MODES:
        yield from _mode_values(case, mode)


def _stages(case: Case) -> Values:
    joint = Published(case, "tokens").joint
    encoded = joint.encoded(*case.features)
    for ours, theirs in SEQUENCES.items():
        yield f"encoded.{theirs}", case.columns(encoded[ours])
    yield "cross", case.columns(torch.stack(joint.attended(encoded)))


def _mode_values(case: Case, mode: str) -> Values:
    model, features = Published(case, mode), case.features
    fused = model.joint(*features)
    values = model.values(fused)
    loss = _loss(values, case.labels)
    loss.backward()
    yield f"{mode}.fused", case.columns(fused, 2 if mode == "concat" else 1)
    yield from ((f"{mode}.{name}", values[..., k].detach().numpy()) for k, name in enumerate(VALUES))
    yield f"{mode}.loss", loss.detach().numpy()
    for name, one in zip(("visual", "audio"), features, strict=True):
        assert one.grad is not None
        yield f"{mode}.grad_{name}", case.columns(one.grad)
    yield f"{mode}.gradient_norms", model.gradient_norms()
    if mode == "concat":  # steps stand before clips, and meet the labels of other clips
        mixed = values.transpose(0, 1).reshape(values.shape)
        yield "concat.loss_released", _loss(mixed, case.labels).detach().numpy()
    if mode == "pair":
        fused = released_pair(model.joint, *features)
        values = model.values(fused).detach()
        yield "pair.fused_released", case.columns(fused)
        yield from ((f"pair.{name}_released", values[..., k].numpy()) for k, name in enumerate(VALUES))


def _loss(values: Tensor, labels: Tensor) -> Tensor:
    """The sum over both, of (B, T, 2)."""
    pairs = zip(values.flatten(0, 1).unbind(-1), labels.flatten(0, 1).unbind(-1), strict=True)
    return torch.stack([floored_loss(*pair) for pair in pairs]).sum()


class _Settings:
    label_smoothing = 0.0


_SETTINGS = _Settings()
LOSSES: dict[str, Callable[[Any], nn.Module]] = {"population": Concordance, "unbiased": UnbiasedConcordance}


def _ccc_values(golden: Arrays) -> Values:
    for given in _given(golden):
        case = given.rpartition(".")[0]
        lacking(golden, iter([f"{case}.prediction", f"{case}.label"]))
        if golden[f"{case}.prediction"].shape != golden[f"{case}.label"].shape or golden[given].ndim != 1:
            raise FormError(f"{case} has predictions and labels of other shapes than (N,)")
    for case in sorted(key.removesuffix(".label") for key in _given(golden) if key.endswith(".label")):
        label = torch.from_numpy(golden[f"{case}.label"].astype(np.float64))
        target = torch.where(label == IGNORED, torch.nan, label)
        for kind, loss in LOSSES.items():
            prediction = torch.from_numpy(golden[f"{case}.prediction"].astype(np.float64)).requires_grad_()
            found = loss(_SETTINGS)(prediction[:, None], target[:, None])
            found.backward()
            assert prediction.grad is not None
            yield f"{case}.loss_{kind}", found.detach().numpy()
            yield f"{case}.gradient_{kind}", prediction.grad.numpy()
        for name, released in RELEASED.items():
            yield f"{case}.released_{name}", np.array(released(golden[f"{case}.prediction"], label.numpy()))


# ---------------------------------------------------------------- comparison


def _compared(key: str, found: np.ndarray, case: Case, golden: Arrays) -> Iterator[Row]:
    wanted = golden[key]
    if key.endswith("gradient_norms"):
        yield from _norms(key, found, wanted, [name.endswith(".k.bias") for name in case.weights])
    elif ".grad_" in key:
        yield compared(key, found, wanted, LOSS, "relative")
    else:
        yield compared(key, found, wanted, _tolerance(key))


def _norms(key: str, found: np.ndarray, wanted: np.ndarray, biases: list[bool]) -> Iterator[Row]:
    """Of key biases, which softmax does not see, the gradient is 0 up to rounding."""
    if found.shape != wanted.shape:
        raise FormError(f"{key} has {wanted.shape} numbers, the layout {found.shape}")
    keys = np.array(biases)
    yield compared(key, found[~keys], wanted[~keys], LOSS, "each")
    yield compared(f"{key} (key biases)", found[keys], wanted[keys], KEY_BIAS, "absolute")


def _tolerance(key: str) -> float:
    if key == "sums":
        return SUMS
    if key.startswith("ccc."):
        return LOSS if ".released_" in key else CCC
    return LOSS if ".loss" in key else OUTPUT
