"""How fast filter banks are made: two matrix products against torchaudio's Kaldi routine, on the same sound.

    python bench/fbank.py [--seconds 5.12] [--device cuda] [--threads 1]

torchaudio takes one sound at a time, ours a batch; both are timed until the energies are there. `exact` is float64, in
which preparation computes; float32 is for those who train through it. The fastest of some repetitions counts. A ratio
above 1 means that ours is faster. `nats` is the greatest difference from torchaudio, in float32 and in float64.
"""

import argparse
import time
from collections.abc import Callable, Iterator

import torch
from common import machine, table
from torch import Tensor
from torchaudio.compliance import kaldi

from mmadfer.data.media.fbank import MIN_ENERGY
from mmadfer.data.media.fbank_torch import MelBank

RATES = (8000, 11025, 16000, 22050, 32000, 44100, 48000)
BATCHES = (1, 16)
REPEATS = 5


def torchaudio(samples: Tensor, rate: int) -> Tensor:
    """The published way, for each of (B, samples)."""
    return torch.stack([_one(sound[None], rate) for sound in samples])


def _one(sound: Tensor, rate: int) -> Tensor:
    return kaldi.fbank(
        sound,
        htk_compat=True,
        sample_frequency=rate,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=128,
        dither=0.0,
        frame_shift=10.0,
    )


def milliseconds(work: Callable[[], Tensor], device: str) -> float:
    """Of the fastest repetition, after one to warm up."""
    times = list[float]()
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    return min(times[1:])


@torch.inference_mode()
def rows(seconds: float, device: str) -> Iterator[list[str]]:
    """One for each rate and batch size."""
    for rate in RATES:
        quick, exact = MelBank(rate).to(device), MelBank(rate, dtype=torch.float64).to(device)
        for batch in BATCHES:
            generator = torch.Generator().manual_seed(rate)
            samples = 0.2 * torch.randn(batch, int(rate * seconds), generator=generator).to(device)
            theirs = milliseconds(lambda: torchaudio(samples, rate), device)  # noqa: B023
            ours = [milliseconds(lambda: bank(samples), device) for bank in (quick, exact)]  # noqa: B023
            apart = [_apart(bank(samples), torchaudio(samples.to(bank.bands.dtype), rate)) for bank in (quick, exact)]
            figures = [theirs, ours[0], theirs / ours[0], ours[1], theirs / ours[1]]
            yield [f"{rate} Hz", str(batch), *(f"{figure:.2f}" for figure in figures), *(f"{a:.0e}" for a in apart)]


def _apart(one: Tensor, other: Tensor) -> float:
    floor = torch.tensor(MIN_ENERGY, dtype=other.dtype, device=other.device).log()
    return float((one - other.maximum(floor)).abs().max())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.12)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(machine(), f"{given.threads} threads, {given.device}, {given.seconds} s of sound", sep="\n")
    heads = ["rate", "batch", "torchaudio ms", "float32 ms", "ratio", "exact ms", "ratio", "nats 32", "nats 64"]
    print(table(heads, rows(given.seconds, given.device)))


if __name__ == "__main__":
    main()
