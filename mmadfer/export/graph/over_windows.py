"""A model that takes the windows of a clip together, and gives the clip's logits."""

from torch import Tensor, nn

from mmadfer.contract import Contract
from mmadfer.runtime.backends import ports
from mmadfer.tasks.pooling_torch import clip_logits


class OverWindows(nn.Module):
    """The model on each of K windows, and their pool (`data.window.pool`); of values, their mean.

    Args:
        model: takes a window a row.
        contract: with `window`; its inputs are the model's.
    """

    def __init__(self, model: nn.Module, contract: Contract) -> None:
        super().__init__()
        assert contract.window is not None
        self.model, self._window, self._names = model, contract.window, tuple(ports.inputs(contract))
        self._values = contract.output == "values"

    def forward(self, frames: Tensor, fbank: Tensor | None = None) -> Tensor:
        """(B, K, T, 3, S, S) and (B, K, 1, frames, mels) -> (B, C)."""
        count = frames.shape[1]
        given = {"frames": frames, "fbank": fbank}
        rows = {name: given[name].flatten(0, 1) for name in self._names}  # type: ignore[union-attr]
        outputs = self.model(**rows).unflatten(0, (-1, count))
        return outputs.mean(1) if self._values else clip_logits(outputs, self._window)
