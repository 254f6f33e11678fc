"""JPEG bytes, crop boxes and flips in, resized frames out: DALI's part of the loader, the same on CPU and GPU.

Every frame is a sample of its own, so that one operator decodes a whole batch. The number of samples may change from
one batch to the next, and none is dropped at the end.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmadfer.errors import DataError
from mmadfer.optional import need


@dataclass(frozen=True)
class Frames:
    """N frames to decode."""

    jpegs: list[np.ndarray]
    """The bytes of each file, uint8."""
    crops: np.ndarray
    """int32 (N, 4): left, top, width, height in pixels of the stored frame."""
    flips: np.ndarray
    """int32 (N,): 1 mirrors left to right."""


class Decoder:
    """A DALI pipeline that works one batch ahead of its user: `start` returns at once, `finish` waits.

    Args:
        side: S, of the resulting frames.
        threads: for decoding on the CPU.
        device: where frames go; a GPU decodes them itself.

    Raises:
        MissingDependencyError: DALI is not installed.
    """

    def __init__(self, side: int, threads: int, device: torch.device) -> None:
        need("nvidia.dali", extra="train")
        self._side, self._threads, self._device = side, threads, device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._pipeline: Any = None
        self._capacity = self._started = 0

    def reserve(self, frames: int) -> None:
        """Make room for batches of up to `frames` frames."""
        if self._pipeline is None or frames > self._capacity:
            self._capacity = max(frames, self._capacity, 1)
            self._pipeline = _pipeline(self._capacity, self._side, self._threads, self._device)

    def start(self, frames: Frames) -> None:
        """Decode in the background."""
        self._pipeline.feed_input("jpegs", frames.jpegs)
        self._pipeline.feed_input("crops", frames.crops)
        self._pipeline.feed_input("flips", frames.flips)
        self._pipeline.schedule_run()
        self._started += 1

    def finish(self) -> Tensor:
        """The frames of the oldest `start` that is not finished: uint8 (N, 3, S, S), contiguous, RGB.

        Raises:
            DataError: a frame is not a JPEG, or smaller than its crop; what was started is lost.
        """
        try:
            decoded = self._pipeline.share_outputs()[0].as_tensor()
        except Exception as error:  # DALI raises IndexError, RuntimeError and others here
            self.close()
            raise DataError(f"a frame cannot be decoded: {error}") from error
        self._started -= 1
        frames = self._copy(decoded)
        self._pipeline.release_outputs()
        return frames

    def _copy(self, decoded: Any) -> Tensor:
        from nvidia.dali.plugin.pytorch import feed_ndarray

        if self._stream is None:
            return feed_ndarray(decoded, torch.empty(decoded.shape(), dtype=torch.uint8))
        # A stream of its own: DALI may only take its buffer back after the copy, and to wait for that on the model's
        # stream would be to wait for the training step.
        with torch.cuda.stream(self._stream):
            frames = torch.empty(decoded.shape(), dtype=torch.uint8, device=self._device)
            feed_ndarray(decoded, frames, cuda_stream=self._stream)
        self._stream.synchronize()
        frames.record_stream(torch.cuda.current_stream(self._device))
        return frames

    def drain(self) -> None:
        """Throw away what was started and not finished."""
        while self._started:
            try:
                self.finish()
            except DataError:
                return

    def close(self) -> None:
        """Free the pipeline; `reserve` makes a new one."""
        self._pipeline, self._started = None, 0


def _pipeline(samples: int, side: int, threads: int, device: torch.device) -> Any:
    from nvidia.dali import Pipeline, fn, types

    gpu = device.type == "cuda"
    # A queue of 1: with more, DALI's first run wants as many batches, which a short epoch does not have. Runs that are
    # scheduled beyond it still go on in the background.
    pipeline = Pipeline(
        batch_size=samples, num_threads=threads, device_id=device.index if gpu else None, prefetch_queue_depth=1
    )
    with pipeline:
        jpegs = fn.external_source(name="jpegs", dtype=types.UINT8, ndim=1)
        crops = fn.external_source(name="crops", dtype=types.INT32, ndim=1)
        flips = fn.external_source(name="flips", dtype=types.INT32, ndim=0)
        # Decoding only the crop is exact, and no pixel outside of it can reach the resized frame.
        faces = fn.decoders.image_slice(
            jpegs,
            device="mixed" if gpu else "cpu",
            start=crops[0:2],
            shape=crops[2:4],
            axis_names="WH",
            output_type=types.RGB,
            jpeg_fancy_upsampling=True,  # as on the CPU
        )
        resized = fn.resize(faces, size=[side, side], interp_type=types.INTERP_LINEAR, antialias=True)
        pipeline.set_outputs(
            fn.crop_mirror_normalize(
                resized, mirror=flips, dtype=types.UINT8, output_layout="CHW", mean=[0.0], std=[1.0]
            )
        )
    pipeline.build()
    return pipeline
