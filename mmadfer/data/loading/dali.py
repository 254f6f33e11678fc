"""JPEG bytes, crop boxes and flips in, resized frames out: DALI decodes, on the CPU or on a GPU.

Every frame is a sample of its own, so that one operator decodes a whole batch. The number of samples may change from
one batch to the next, and none is dropped at the end. On a GPU, DALI also crops, resizes and mirrors
(`build_pipeline`). On the CPU its resize takes three times as long as decoding, so torch's does that there: it has
PIL's arithmetic, for bytes.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mmadfer.data.loading.memory_pool import Blocks
from mmadfer.errors import DataError
from mmadfer.utils.optional import need


@dataclass(frozen=True)
class Frames:
    """The frames of B clips, T of each, to decode."""

    jpegs: list[np.ndarray]
    """The bytes of each file, uint8; B x T of them, clip by clip."""
    crops: np.ndarray
    """int32 (B, 4): left, top, width, height in pixels of the stored frame."""
    flips: np.ndarray
    """bool (B,): whether a clip is mirrored, left to right."""


class Decoder:
    """Decodes one batch after the other; one thread at a time may use it.

    Args:
        side: S, of the resulting frames.
        threads: for the CPU's share.
        device: where frames go; a GPU decodes them itself.

    Raises:
        MissingDependencyError: DALI is not installed.
    """

    def __init__(self, side: int, threads: int, device: torch.device) -> None:
        need("nvidia.dali", extra="train")
        self._side, self._threads, self._device = side, threads, device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="resize")
        self._blocks = Blocks()
        self._pipeline: Any = None
        self._capacity = 0

    def decode(self, frames: Frames) -> Tensor:
        """The frames as uint8 (B, T, 3, S, S), contiguous, RGB; a GPU has finished with them.

        Raises:
            DataError: a frame is not a JPEG, or smaller than its crop.
        """
        shape = (len(frames.crops), len(frames.jpegs) // len(frames.crops), 3, self._side, self._side)
        self._reserve(len(frames.jpegs))
        with self._output(frames, shape[1]) as decoded:
            if self._stream is None:
                return self._fit([np.asarray(decoded[k]) for k in range(len(decoded))], frames, shape)
            return self._copy(decoded, self._stream).view(shape)

    def close(self) -> None:
        """Free the threads and DALI's memory."""
        self._pool.shutdown()
        self._pipeline = None

    def _reserve(self, samples: int) -> None:
        """Make room for batches of up to `samples` frames."""
        if self._pipeline is None or samples > self._capacity:
            self._capacity = max(samples, self._capacity)
            if self._stream is None:
                self._pipeline = _decoding(self._capacity, self._threads)
            else:
                self._pipeline = build_pipeline(self._capacity, self._side, self._threads, self._device)

    @contextmanager
    def _output(self, frames: Frames, each: int) -> Iterator[Any]:
        self._pipeline.feed_input("jpegs", frames.jpegs)
        if self._stream is not None:
            feed_boxes(self._pipeline, frames, each)
        try:
            self._pipeline.schedule_run()
            decoded = self._pipeline.share_outputs()[0]
        except Exception as error:  # DALI raises IndexError, RuntimeError and others here
            self._pipeline = None  # a failed pipeline cannot be used again
            raise DataError(f"a frame cannot be decoded: {error}") from error
        try:
            yield decoded
        finally:
            self._pipeline.release_outputs()

    def _fit(self, images: list[np.ndarray], frames: Frames, shape: tuple[int, ...]) -> Tensor:
        result, each = self._blocks.take(shape, torch.uint8), shape[1]
        clips = [images[start : start + each] for start in range(0, len(images), each)]
        list(self._pool.map(fit, clips, frames.crops.tolist(), frames.flips.tolist(), result.numpy()))
        return result

    def _copy(self, decoded: Any, stream: torch.cuda.Stream) -> Tensor:
        from nvidia.dali.plugin.pytorch import feed_ndarray

        # A stream of its own: DALI may only take its buffer back after the copy, and to wait for that on the model's
        # stream would be to wait for the training step.
        with torch.cuda.stream(stream):
            dense = decoded.as_tensor()
            frames = torch.empty(dense.shape(), dtype=torch.uint8, device=self._device)
            feed_ndarray(dense, frames, cuda_stream=stream)
        stream.synchronize()
        return frames


def fit(images: Sequence[np.ndarray], crop: Sequence[int], flip: bool, out: np.ndarray) -> None:
    """Crop, resize and mirror the frames of a clip.

    Args:
        images: T frames, uint8 (H, W, 3).
        crop: left, top, width, height.
        flip: mirror left to right.
        out: uint8 (T, 3, S, S), where the result goes.

    Raises:
        DataError: a frame is smaller than the crop.
    """
    x, y, w, h = crop
    if any(image.shape[0] < y + h or image.shape[1] < x + w for image in images):
        sizes = sorted({f"{image.shape[1]} x {image.shape[0]}" for image in images})
        raise DataError(f"a frame is smaller than its crop ({w} x {h} pixels at {x}, {y}): {', '.join(sizes)}")
    crops = torch.from_numpy(np.stack([image[y : y + h, x : x + w] for image in images])).permute(0, 3, 1, 2)
    resized = interpolate(crops, size=out.shape[2:], mode="bilinear", antialias=True).numpy()
    # numpy copies in this thread; torch would start a team of threads in each of ours.
    np.copyto(out, resized[..., ::-1] if flip else resized)


def _decoding(samples: int, threads: int) -> Any:
    from nvidia.dali import Pipeline, fn, types

    # The simple executor: it has one set of buffers, and the caller waits anyway.
    pipeline = Pipeline(batch_size=samples, num_threads=threads, device_id=None, exec_async=False, exec_pipelined=False)
    with pipeline:
        jpegs = fn.external_source(name="jpegs", dtype=types.UINT8, ndim=1)
        # Whole frames: to decode only a crop saves nothing on the CPU.
        pipeline.set_outputs(fn.decoders.image(jpegs, output_type=types.RGB, jpeg_fancy_upsampling=True))
    pipeline.build()
    return pipeline


def build_pipeline(samples: int, side: int, threads: int, device: torch.device) -> Any:
    """The DALI pipeline that does all of it, as it runs on a GPU; `feed_boxes` says what it takes besides `jpegs`.

    Args:
        samples: the most frames in a batch.
        side: S.
        threads: on the CPU.
        device: a GPU, or the CPU, where it does the same slowly.

    Returns:
        A pipeline whose output is uint8 (frames, 3, S, S).
    """
    from nvidia.dali import Pipeline, fn, types

    gpu = device.type == "cuda"
    # A queue of 1: with more, DALI's first run wants as many batches, which a short epoch does not have.
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


def feed_boxes(pipeline: Any, frames: Frames, each: int) -> None:
    """Give `build_pipeline`'s pipeline the crop and the flip of each frame; `each` is T."""
    pipeline.feed_input("crops", np.repeat(frames.crops, each, axis=0))
    pipeline.feed_input("flips", np.repeat(frames.flips.astype(np.int32), each))
