import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from mmadfer.data.media.image import decode_jpeg, resize
from mmadfer.errors import DataError


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    small = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("shape", [(96, 96), (40, 40), (300, 200)])
def test_resize_is_bilinear_and_antialiased(shape: tuple[int, int]) -> None:
    frames = [np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8) for seed in range(3)]
    resized = resize(frames, 64)
    assert resized.shape == (3, 3, 64, 64)
    assert resized.dtype == np.uint8
    assert resized.flags.c_contiguous
    tensor = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float()
    expected = torch.nn.functional.interpolate(tensor, (64, 64), mode="bilinear", antialias=True)
    assert np.abs(expected.numpy() - resized).max() < 1.6  # PIL rounds after each of its two passes


def test_same_size_is_left_alone() -> None:
    frame = smooth(32, 32)
    assert np.array_equal(resize([frame], 32)[0].transpose(1, 2, 0), frame)


def test_frames_may_differ_in_size() -> None:
    assert resize([smooth(32, 32), smooth(80, 50)], 16).shape == (2, 3, 16, 16)


def test_jpeg_is_read_as_rgb() -> None:
    buffer = io.BytesIO()
    Image.fromarray(smooth(50, 60)).save(buffer, "JPEG", quality=95)
    decoded = decode_jpeg(buffer.getvalue())
    assert decoded.shape == (50, 60, 3)
    red, green, blue = (decoded.astype(int) - smooth(50, 60)).mean((0, 1))
    assert max(abs(red), abs(green), abs(blue)) < 1
    assert np.abs(decoded.astype(int) - smooth(50, 60)).mean() < 5
    grey = io.BytesIO()
    Image.new("L", (8, 8), 77).save(grey, "JPEG")
    assert (decode_jpeg(grey.getvalue()) == 77).all()


@pytest.mark.parametrize("data", [b"", b"not a picture"])
def test_what_is_no_jpeg_is_refused(data: bytes) -> None:
    with pytest.raises(DataError, match="not a readable JPEG"):
        decode_jpeg(data)


def test_half_a_jpeg_is_refused() -> None:
    buffer = io.BytesIO()
    Image.fromarray(smooth(96, 96)).save(buffer, "JPEG")
    with pytest.raises(DataError, match="not a readable JPEG"):
        decode_jpeg(buffer.getvalue()[: len(buffer.getvalue()) // 2])


def test_a_deployment_needs_no_torch_and_no_dali_for_frames() -> None:
    program = (
        "import sys, mmadfer.data.media.image, mmadfer.data.draws, mmadfer.tasks.metrics\n"
        "print([name for name in ('torch', 'nvidia.dali', 'deepspeed', 'submitit') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_frame_that_is_no_face_by_its_size_is_refused_before_it_is_decoded() -> None:
    buffer = io.BytesIO()
    Image.new("L", (5000, 8)).save(buffer, "JPEG")
    with pytest.raises(DataError, match="5000 x 8 pixels"):
        decode_jpeg(buffer.getvalue())
    large = bytearray(buffer.getvalue())
    at = large.index(b"\xff\xc0") + 5  # height and width in the frame header
    large[at : at + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(DataError, match="a stored frame is"):
        decode_jpeg(bytes(large))
