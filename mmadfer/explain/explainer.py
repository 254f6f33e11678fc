"""Parts of videos to explained parts, by a model in PyTorch."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmadfer.config.model import Modality
from mmadfer.contract import Contract, refuse_text
from mmadfer.errors import ConfigError, MmadferError, WeightsError
from mmadfer.evaluation import explanation_scores as scores
from mmadfer.explain import maps
from mmadfer.explain.maps import Maps, Method
from mmadfer.explain.part import ExplainedPart
from mmadfer.runtime.backends.choice import choose_backend
from mmadfer.runtime.backends.torch_backend import TorchBackend
from mmadfer.runtime.inputs import VideoPart
from mmadfer.utils.float32 import exact
from mmadfer.utils.optional import need


class Asked(NamedTuple):
    """How a model is explained."""

    method: Method = "attention"
    layer: int | None = None
    """Counted from 0; by default the last."""
    label: str | None = None
    """The class that `gradcam` explains, and whose probability the curves follow; by default the most probable."""
    value: str | None = None
    """What `gradcam` explains of a model that gives values; by default its only one."""
    fold: int | None = None
    """Of a run directory."""
    device: str | None = None
    """`cpu`, `cuda`, `cuda:1`."""
    curves: bool = True
    """Also compute deletion and insertion, which takes a hundred forward passes a part and modality."""


class Explainer:
    """A trained model and how it is explained.

    Args:
        path: run or fold directory, checkpoint, .safetensors, or published .pth.
        asked: how.

    Raises:
        WeightsError: no such model, an exported one, or one of another fold.
        ConfigError: no such layer, label or value.
        MissingDependencyError: a package is not installed.
    """

    def __init__(self, path: Path, asked: Asked) -> None:
        if choose_backend(path, None) != "torch":
            raise WeightsError(
                f"{path} is an exported model, which gives logits alone: explanations need features, weights of "
                "attention and gradients. Give the run or the .safetensors file that it was exported from"
            )
        if asked.method == "gradcam":
            need("pytorch_grad_cam", extra="explain")
        self._backend = TorchBackend(path, asked.device, asked.fold)
        self.model, self.contract = self._backend.model, self._backend.contract
        refuse_text(self.contract, "mmadfer explain")
        if asked.fold is not None and self.contract.fold not in (None, asked.fold):
            raise WeightsError(f"{path} holds fold {self.contract.fold}, not {asked.fold}: leave --fold out")
        self.path, self.method, self.layer = path, asked.method, maps.check_layer(self.model, asked.layer)
        self._named = _check_target(self.contract, asked)
        self._curves = asked.curves and self.contract.output == "classes"

    @property
    def names(self) -> tuple[Modality, ...]:
        """The modalities that there are pictures of."""
        return maps.used(self.contract)

    def explain(self, part: VideoPart) -> ExplainedPart:
        """Pictures of a part that has inputs, what the model says of it, and the curves.

        Raises:
            MmadferError: an output that is no finite number.
        """
        assert part.inputs is not None
        given = self._tensors(part.inputs)
        with exact(self._backend.device.torch):
            answer, index = self._answered(given)
            pictures = self._pictures(index, given)
            measures = self._measured(pictures, index, given) if self._curves else {}
        target = self._target_name(index)
        return self._told(part, answer, target, pictures, measures)

    def _tensors(self, inputs: tuple[np.ndarray, ...]) -> dict[str, Tensor | None]:
        device = self._backend.device.torch
        arrays = iter(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in inputs)
        return {name: next(arrays) if name in self.contract.model.modalities else None for name in ("vision", "audio")}

    def _output(self, vision: Tensor | None, audio: Tensor | None) -> Tensor:
        with torch.inference_mode():
            output: Tensor = self.model(vision, audio).float()
        return output

    def _answered(self, given: dict[str, Tensor | None]) -> tuple[dict[str, float], int]:
        """What the model says, by name, and the place of what is explained."""
        (output,) = self._output(given["vision"], given["audio"])
        if not output.isfinite().all():
            raise MmadferError(f"{self.path} gives an answer that is no finite number: look for one in its weights")
        numbers = (
            output.softmax(-1) if self.contract.output == "classes" else output.reshape(-1, len(self._names)).mean(0)
        )
        answer = dict(zip(self._names, numbers.tolist(), strict=True))
        return answer, self._named if self._named is not None else int(numbers.argmax())

    @property
    def _names(self) -> tuple[str, ...]:
        return self.contract.names

    def _target_name(self, index: int) -> str | None:
        return self._names[index] if self.method == "gradcam" or self._curves else None

    def _pictures(self, index: int, given: dict[str, Tensor | None]) -> Maps:
        target = maps.output_of(index)
        return maps.explain(self.model, self.method, self.layer, target, given["vision"], given["audio"])

    def _measured(
        self, pictures: Maps, index: int, given: dict[str, Tensor | None]
    ) -> dict[Modality, dict[str, float]]:
        return {name: self._curves_of(name, picture, index, given) for name, picture in pictures.items()}

    def _curves_of(
        self, name: Modality, picture: np.ndarray, index: int, given: dict[str, Tensor | None]
    ) -> dict[str, float]:
        own = given[name]
        assert own is not None

        def probability(images: Tensor) -> np.ndarray:
            """Of (k, n, C, H, W)."""
            some = {**given, name: images if name == "vision" else images[:, 0]}
            both = [
                one if one is None or key == name else one.expand(len(images), *one.shape[1:])
                for key, one in some.items()
            ]
            output = self._output(*both)
            return np.asarray(output.softmax(1)[:, index].cpu().numpy())

        patch = self.model.encoders[name].patch.kernel_size[0]
        return scores.curves(probability, maps.unit_images(name, own), picture, patch).areas()

    def _told(
        self,
        part: VideoPart,
        answer: dict[str, float],
        target: str | None,
        pictures: Maps,
        measures: dict[Modality, dict[str, float]],
    ) -> ExplainedPart:
        arrays = dict(zip(self.contract.model.modalities, part.inputs or (), strict=True))
        sees = "vision" in self.names
        frames = arrays["vision"][0].transpose(0, 2, 3, 1) if sees else np.zeros((0, 1, 1, 3), np.uint8)
        times = part.times[part.shown[0]] if sees else np.zeros(0)
        flat = [
            f"the picture of {name} is the same everywhere" for name, one in pictures.items() if one.min() == one.max()
        ]
        return ExplainedPart(
            part.start,
            part.end,
            list(frames),
            times,
            arrays["audio"][0, 0] if "audio" in self.names else None,
            part.sound_start,
            max(answer, key=answer.__getitem__) if self.contract.output == "classes" else None,
            target,
            "what is explained" if self.method == "gradcam" else "the class of the curves",
            answer,
            pictures,
            measures,
            (*map(str, part.notes), *flat),
            part.times,
            part.boxes,
        )


def _check_target(contract: Contract, asked: Asked) -> int | None:
    """The place of the output that is named, or None: the most probable class."""
    kind = "label" if contract.output == "classes" else "value"
    named, other = (asked.label, asked.value) if kind == "label" else (asked.value, asked.label)
    if other is not None:
        wrong = "value" if kind == "label" else "label"
        raise ConfigError(f"--{wrong} {other}: the model gives {contract.output}; name one of them with --{kind}")
    if named is not None and named not in contract.names:
        raise ConfigError(f"--{kind} {named}: the model has {', '.join(contract.names)}; name one of them")
    if named is None and kind == "value" and asked.method == "gradcam":
        if len(contract.names) > 1:
            raise ConfigError(f"gradcam explains one value: name it with --value, one of {', '.join(contract.names)}")
        return 0
    return None if named is None else contract.names.index(named)
