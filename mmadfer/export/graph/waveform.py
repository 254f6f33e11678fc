"""Sound as samples instead of a filter bank: mmadfer.data.media.fbank as the first part of the graph.

    waveform  float32  (batch, samples)  first channel in [-1, 1], at the contract's `waveform_rate`; cut, or filled up
                                         with anything, to the contract's `samples`
    lengths   int64    (batch,)          how many of them are sound; none (or less than 25 ms) is a clip without sound

It is the filter bank of mmadfer.data.media.fbank in float32: a frame counts where its sound is whole, all others
are padding.
The mean over the whole sound need not be taken off, because each frame's own is.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mmadfer.contract import Contract, hertz
from mmadfer.data.media.fbank import FBANK_MEAN, FBANK_SCALE
from mmadfer.data.media.fbank_torch import MelBank
from mmadfer.errors import WeightsError
from mmadfer.export.graph.tracing import trace
from mmadfer.utils.optional import need

PREFIX = "sound."
"""Before every name of this part of the graph, so that none of them is in the other part, too."""


class FilterBank(nn.Module):
    """Samples -> the normalised filter bank that the model hears."""

    ends: Tensor

    def __init__(self, rate: int, frames: int, mels: int) -> None:
        super().__init__()
        self.bank = MelBank(rate, mels)
        self.register_buffer("ends", self.bank.window + self.bank.shift * torch.arange(frames), persistent=False)

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """(B, samples) float32 and (B,) int64 -> (B, 1, frames, mels)."""
        whole = lengths[:, None] >= self.ends
        bands = torch.where(whole[..., None], self.bank(waveform), 0.0)
        return ((bands - FBANK_MEAN) / FBANK_SCALE)[:, None]


def with_waveform(core: Any, contract: Contract) -> Any:
    """Put the filter bank before a graph.

    Args:
        core: an `onnx.ModelProto` with the input `fbank`; left as it is.
        contract: with the rate of the waveform.

    Returns:
        A graph that takes samples instead.
    """
    onnx = need("onnx", extra="export")
    assert contract.waveform_rate is not None
    bank = FilterBank(contract.waveform_rate, *contract.model.fbank)
    example = {"waveform": torch.zeros(2, contract.samples), "lengths": torch.zeros(2, dtype=torch.int64)}
    front = trace(bank, example, "fbank")
    version = next(opset.version for opset in core.opset_import if not opset.domain)
    front = onnx.version_converter.convert_version(front, version)
    front = onnx.compose.add_prefix(front, PREFIX, rename_inputs=False, rename_outputs=False)
    return _joined(front, core)


def _joined(front: Any, core: Any) -> Any:
    """The graphs as one, done by hand because `onnx.compose.merge_models` is not for graphs of more than 2 GiB."""
    joined = type(core)()
    joined.CopyFrom(core)
    graph = joined.graph
    del graph.node[:], graph.input[:]
    graph.node.extend([*front.graph.node, *core.graph.node])
    graph.initializer.extend(front.graph.initializer)
    graph.value_info.extend(front.graph.value_info)
    graph.value_info.extend(front.graph.output)
    graph.input.extend(port for port in core.graph.input if port.name != "fbank")
    graph.input.extend(front.graph.input)
    return joined


def choose_rate(contract: Contract, rate: int | None) -> int:
    """The rate of the waveform in Hz: the one that the model knows, or `rate` among those that it knows.

    Raises:
        WeightsError: the model knows another rate, several, or doesn't say; the message tells what to give.
    """
    fixed = contract.prepare.sound.rate
    known = contract.sound_rates if fixed == "native" else (fixed,)
    if rate is None and len(known) == 1:
        return known[0]
    if rate is None:
        told = f"was trained on sound of {hertz(known)}" if known else "does not say what rates of sound it has heard"
        raise WeightsError(f"the model {told}, and the graph takes sound of one rate: say which (--rate 44100)")
    if known and rate not in known:
        raise WeightsError(f"the model was trained on sound of {hertz(known)}, so the graph cannot take {rate} Hz")
    return rate
