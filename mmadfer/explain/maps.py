"""Importance of each place of the input, in three ways: attention, Grad-CAM and attention rollout.

    attention   mean over channels of the patch tokens after a layer, before the encoder's final norm. After a LayerNorm
                it would be the same everywhere. It knows no class.
    gradcam     Grad-CAM (Selvaraju et al. 2017) by pytorch-grad-cam, for an output of the model: the tokens that enter
                the attention of a layer's last block, weighted by the gradient. After the last block, the output does
                not depend on the tokens of patches where it is made of the class token.
    rollout     attention rollout (Abnar & Zuidema 2020): the weights of all blocks up to a layer, averaged over heads,
                half of each block's input kept, multiplied through. It knows no class, and nothing of the fusion.

Shapes: B = 1 clip, T frames, L tokens, D width, h x w the encoder's grid of patches.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from mmadfer.config.model import Modality
from mmadfer.contract import Contract
from mmadfer.errors import ConfigError
from mmadfer.model.block import Attention
from mmadfer.model.encoder import Encoder
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.utils.optional import need

Method = Literal["attention", "gradcam", "rollout"]
Maps = dict[Modality, np.ndarray]
"""vision float32 (T, h, w), audio float32 (h, w), time first; of the modalities that the model makes use of."""
Target = Callable[[Tensor], Tensor]
"""What is explained: the output (1, C) or (1, T, C) -> a number ()."""


def output_of(index: int) -> Target:
    """The logit of a class, or a value; of values at each step, their mean."""
    return lambda output: output[..., index].mean()


def used(contract: Contract) -> tuple[Modality, ...]:
    """The modalities that a model makes use of: those of its encoders that it was not trained with blanks for."""
    return tuple(name for name in contract.model.modalities if contract.modalities in ("both", name))


def check_layer(model: MMADFER, layer: int | None) -> int:
    """A layer of the model, counted from 0 as in `task.align.layers`; by default the last.

    Raises:
        ConfigError: it has no such layer.
    """
    last = model.config.layers - 1
    if layer is not None and not 0 <= layer <= last:
        raise ConfigError(f"--layer {layer}: the model has layers 0 to {last}; leave it out for the last")
    return last if layer is None else layer


def explain(
    model: MMADFER, method: Method, layer: int, target: Target, frames: Tensor | None, fbank: Tensor | None
) -> Maps:
    """Pictures of one clip.

    Args:
        model: in eval mode, with its contract.
        method: how.
        layer: counted from 0.
        target: what is explained; only `gradcam` asks.
        frames: uint8 (1, T, 3, S, S), if the model has that encoder.
        fbank: float32 (1, 1, F, M), likewise.

    Raises:
        MissingDependencyError: `gradcam`, and pytorch-grad-cam is not installed.
    """
    assert model.contract is not None
    names = used(model.contract)
    if method == "gradcam":
        given = {"vision": frames, "audio": fbank}
        return {name: _gradcam(model, name, layer, target, given) for name in names}
    made = _attention if method == "attention" else _rollout
    with torch.no_grad():
        return {name: picture.float().cpu().numpy() for name, picture in made(model, layer, frames, fbank, names)}


def as_grid(encoder: Encoder, tokens: Tensor) -> Tensor:
    """Tokens (n, L, D) -> (n, D, h, w): those of patches alone, as they lie in the image."""
    return tokens[:, encoder.prefix : encoder.end].unflatten(1, encoder.grid).movedim(-1, 1)


Pictures = Iterator[tuple[Modality, Tensor]]


def _attention(
    model: MMADFER, layer: int, frames: Tensor | None, fbank: Tensor | None, names: tuple[Modality, ...]
) -> Pictures:
    features = model.detailed(frames, fbank, layers=(layer,)).features[layer]
    for name in names:
        tokens = getattr(features, name)
        rows = tokens[0] if name == "vision" else tokens
        picture = as_grid(model.encoders[name], rows).mean(dim=1)
        yield name, picture if name == "vision" else picture[0]


def _rollout(
    model: MMADFER, layer: int, frames: Tensor | None, fbank: Tensor | None, names: tuple[Modality, ...]
) -> Pictures:
    flows = {name: _Flow(model.encoders[name], layer) for name in names}
    with _hooked([pair for flow in flows.values() for pair in flow.hooks]):
        model(frames, fbank)
    for name, flow in flows.items():
        picture = flow.picture()
        yield name, picture if name == "vision" else picture[0]


class _Flow:
    """How much of each token is in each token of a layer's output, (n, L, L), block by block."""

    def __init__(self, encoder: Encoder, layer: int) -> None:
        self._encoder, self._flow = encoder, cast(Tensor, None)
        blocks = [block for index in range(layer + 1) for block in encoder.layer(index)]
        self.hooks: list[tuple[nn.Module, Callable[..., None]]] = [(block.attn, self._add) for block in blocks]

    def _add(self, module: Attention, given: tuple[Tensor, ...]) -> None:
        weights = attention_weights(module, given[0]).mean(dim=1)
        kept = (weights + torch.eye(weights.shape[-1], device=weights.device)) / 2  # its rows still add up to 1
        self._flow = kept if self._flow is None else kept @ self._flow

    def picture(self) -> Tensor:
        """(n, h, w): what of each patch is in the encoder's summary."""
        one = self._encoder
        to = self._flow[:, 0] if one.pool == "cls" else self._flow[:, one.prefix : one.end].mean(dim=1)
        return to[:, one.prefix : one.end].unflatten(1, one.grid)


def attention_weights(module: Attention, tokens: Tensor) -> Tensor:
    """The weights (n, heads, L, L) with which `module` attends to tokens (n, L, D); rows add up to 1.

    The blocks compute fused attention, which does not give them.
    """
    queries, keys, _ = module.qkv(tokens).unflatten(-1, (3, module.num_heads, -1)).permute(2, 0, 3, 1, 4)
    queries, keys = module.q_norm(queries), module.k_norm(keys)
    return (queries * module.scale @ keys.transpose(-2, -1)).softmax(dim=-1)


@contextmanager
def _hooked(pairs: list[tuple[nn.Module, Callable[..., None]]]) -> Iterator[None]:
    handles = [module.register_forward_pre_hook(hook) for module, hook in pairs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _OneInput(nn.Module):
    """The model as a function of one input, (n, C, H, W), with the other held; frames are rows."""

    def __init__(self, model: MMADFER, name: Modality, given: dict[str, Tensor | None]) -> None:
        super().__init__()
        self.model, self._name, self._given = model, name, given

    def forward(self, images: Tensor) -> Tensor:
        """Output (1, C), or (1, T, C)."""
        given = dict(self._given)
        given[self._name] = images[None] if self._name == "vision" else images
        output: Tensor = self.model(given["vision"], given["audio"])
        return output


def unit_images(name: Modality, given: Tensor) -> Tensor:
    """Rows (n, C, H, W) of the input of one clip: frames as floats in [0, 1], or the filter bank."""
    if name == "audio":
        return given
    return given[0].float() / 255 if given.dtype == torch.uint8 else given[0]


def _gradcam(model: MMADFER, name: Modality, layer: int, target: Target, given: dict[str, Tensor | None]) -> np.ndarray:
    """The library's weights and sum, and its ReLU; its scaling of each frame by itself is left out, so that frames of
    a clip can be compared."""
    library: Any = need("pytorch_grad_cam", extra="explain")
    encoder, images = model.encoders[name], given[name]
    assert images is not None
    norm = encoder.layer(layer)[-1].norm1
    cam = library.GradCAM(_OneInput(model, name, given), [norm], lambda tokens: as_grid(encoder, tokens))
    cam.compute_input_gradient = True  # a model of which nothing before this layer learns has gradients, too
    try:
        rows, wanted = unit_images(name, images), [lambda row: target(row[None])]
        cam(input_tensor=rows, targets=wanted)
        (activations,), (gradients,) = cam.activations_and_grads.activations, cam.activations_and_grads.gradients
        picture = cam.get_cam_image(rows, norm, wanted, activations.numpy(), gradients.numpy())
    finally:
        cam.activations_and_grads.release()
        model.zero_grad(set_to_none=True)
    picture = np.maximum(picture, 0).astype(np.float32)
    return np.asarray(picture if name == "vision" else picture[0])


def scaled(picture: np.ndarray) -> np.ndarray:
    """A picture from 0 at its lowest place to 1 at its highest, over all frames of the clip; 0 where it has no
    contrast."""
    low, high = float(picture.min()), float(picture.max())
    return np.zeros_like(picture) if high <= low else (picture - low) / (high - low)
