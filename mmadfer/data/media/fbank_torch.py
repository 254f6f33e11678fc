"""The filter bank of mmadfer.data.media.fbank for PyTorch: in batches, on any device, with a gradient, exportable."""

import torch
from torch import Tensor, nn

from mmadfer.data.media.fbank import MIN_ENERGY, frame_samples, matrices


class MelBank(nn.Module):
    """Log-mel energies of frames of 25 ms every 10 ms, not normalised and not padded.

    In float32, torchaudio and this differ by their rounding, about 1e-3 nats for noise and speech; 1e-2 in bands that
    hold only what a loud pure tone leaves there. With `dtype=torch.float64` (not by `.double()`, which keeps rounded
    matrices) this one's rounding is gone, and what torchaudio gives for float64 samples differs by the last digit of
    the triangles' weights, 1e-5 nats or less but where hardly any energy is.

    Args:
        rate: samples per second, in `SAMPLE_RATES_HZ`.
        mels: bands, evenly spaced in mel from 20 Hz to half the rate.
        dtype: of the matrices and of all arithmetic: float32 or float64. Less is too coarse for a logarithm.

    Raises:
        ClipError: `sound rate`: outside `SAMPLE_RATES_HZ`.
    """

    transform: Tensor
    bands: Tensor

    def __init__(self, rate: int, mels: int = 128, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.window, self.shift = frame_samples(rate)
        transform, bands = matrices(rate, mels)
        self.register_buffer("transform", torch.tensor(transform, dtype=dtype), persistent=False)
        self.register_buffer("bands", torch.tensor(bands, dtype=dtype), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Energies of (B, samples) in [-1, 1], of any floating type, as (B, frames, mels): natural logarithms.

        Only whole frames count, so that there are none of less than 25 ms. Autocast has no effect. The gradient is 0
        where the floor holds.
        """
        with torch.autocast(samples.device.type, enabled=False):
            frames = self._frames(samples.to(self.transform.dtype))
            # M takes the mean off, too; rounded, it would let a share of a large mean through
            parts = ((frames - frames.mean(-1, keepdim=True)) @ self.transform).square()
            real, imaginary = parts.chunk(2, -1)
            return ((real + imaginary) @ self.bands).clamp_min(MIN_ENERGY).log()

    def _frames(self, samples: Tensor) -> Tensor:
        if samples.shape[-1] < self.window:
            return samples.new_empty(*samples.shape[:-1], 0, self.window)
        return samples.unfold(-1, self.window, self.shift)
