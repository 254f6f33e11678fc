"""The picture and sound from which the matrix of media is made: each frame and each moment can be recognised."""

import wave
from pathlib import Path

import media_reference as reference
import numpy as np
from PIL import Image

WIDTH, HEIGHT, FPS, COUNT = 96, 64, 25, 40
RATE = 48000
SECONDS = COUNT / FPS
SOUNDS = {"mono": 1, "stereo": 2, "three": 3, "six": 6, "eight": 8}


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Frame `number`: a gradient that moves, the number in black and white below, a red corner at the upper left."""
    y, x = np.mgrid[:height, :width].astype(float)
    wave_ = (x / width + number / 11) % 1
    image = np.stack([60 + 120 * wave_, 40 + 160 * y / height, 200 - 120 * wave_], -1)
    for bit in range(6):
        left = width * (bit + 1) // 8
        image[height * 3 // 4 :, left : left + width // 8] = 235 if number >> bit & 1 else 20
    image[: height // 4, : width // 6] = (220, 30, 30)
    return image.astype(np.uint8)


def chirp(channel: int, seconds: float = SECONDS, rate: int = RATE) -> np.ndarray:
    """float32: each channel rises from a pitch of its own, so that no two moments sound alike."""
    time = np.arange(round(seconds * rate)) / rate
    low, rise = 250 + 130 * channel, 900 + 60 * channel
    return (0.4 * np.sin(2 * np.pi * (low * time + rise * time**2 / 2))).astype(np.float32)


def make(folder: Path) -> None:
    """Write the files that the commands of the matrix start from."""
    _video(folder / "source.mkv", SOUNDS["stereo"])
    for name, channels in SOUNDS.items():
        _sound(folder / f"{name}.wav", [chirp(channel) for channel in range(channels)])
    silence = np.zeros_like(chirp(0))
    _sound(folder / "right.wav", [silence, chirp(1)])
    _sound(folder / "left.wav", [chirp(0), silence])
    _sound(folder / "loud.wav", [np.where(np.arange(len(silence)) < RATE, silence, chirp(0))])
    Image.fromarray(picture(63)).save(folder / "cover.jpg")
    (folder / "chapters.txt").write_text(
        ";FFMETADATA1\n" + "".join(f"[CHAPTER]\nTIMEBASE=1/10\nSTART={k}\nEND={k + 8}\ntitle=part\n" for k in (0, 8))
    )
    (folder / "words.srt").write_text("1\n00:00:00,200 --> 00:00:01,000\nGood morning\n")


def _video(path: Path, channels: int) -> None:
    raw, sound = path.with_suffix(".rgb"), path.with_suffix(".wav")
    raw.write_bytes(b"".join(picture(k).tobytes() for k in range(COUNT)))
    _sound(sound, [chirp(channel) for channel in range(channels)])
    reference.run(
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS), "-i", str(raw)),
        *("-i", str(sound), "-c:v", "ffv1", "-pix_fmt", "bgr0", "-c:a", "copy", str(path)),
    )


def _sound(path: Path, channels: list[np.ndarray]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((len(channels), 2, RATE, 0, "NONE", ""))
        file.writeframes((np.stack(channels, 1) * 2**15).astype("<i2").tobytes())
