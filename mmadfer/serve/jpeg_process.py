"""The process that decodes one live stream's JPEGs: standard input to standard output, and nothing else of the machine.

It imports Pillow alone, from the folder that it is given, is started with `python -I -S` by its path, and then gives up
what decoding does not need: it can open no file, write none, and has little memory. It ends with its input.

    out   READY, once
    in    4 bytes, the length; a JPEG
    out   4 bytes, the width; 4 bytes, the height; RGB, row by row
          or 4 bytes of 0; 4 bytes, the length; words that say what is wrong

Numbers are big-endian.
"""

import io
import resource
import struct
import sys

if __name__ == "__main__":
    sys.path.append(sys.argv[2])  # wherever Pillow is installed: `python -S` looks at nothing but the standard library

from PIL import Image, JpegImagePlugin

READY = b"r"
MOST_MEMORY = 1 << 30
"""Bytes of address space."""
LENGTH, ANSWER = struct.Struct(">I"), struct.Struct(">II")


def decoded(data: bytes, most_pixels: int) -> Image.Image:
    """The picture in a JPEG file's bytes; no other format is tried.

    Raises:
        Exception: it is none, or it is damaged or too large; of any kind, as decoders do.
    """
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    if image.width * image.height > most_pixels:
        raise ValueError(f"it has {image.width} x {image.height} pixels: send {most_pixels} at most")
    return image.convert("RGB")


def answer(data: bytes, most_pixels: int) -> bytes:
    """What is written of one picture."""
    try:
        image = decoded(data, most_pixels)
        return ANSWER.pack(image.width, image.height) + image.tobytes()
    except Exception as error:
        words = str(error)[:200].encode("utf-8", "replace")
        return ANSWER.pack(0, len(words)) + words


def give_up() -> None:
    """What decoding does not need."""
    limits = {
        resource.RLIMIT_AS: MOST_MEMORY,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,  # a core would hold a stranger's face
        resource.RLIMIT_NOFILE: 0,  # of those to come
    }
    for what, most in limits.items():
        resource.setrlimit(what, (most, most))


def main(most_pixels: int) -> None:
    """Decode until the end of the input."""
    tried = io.BytesIO()
    Image.new("RGB", (16, 16)).save(tried, "JPEG")
    decoded(tried.getvalue(), most_pixels)  # all that is imported late is there
    give_up()
    coming, going = sys.stdin.buffer, sys.stdout.buffer
    going.write(READY)
    going.flush()
    while len(head := coming.read(LENGTH.size)) == LENGTH.size:
        going.write(answer(coming.read(LENGTH.unpack(head)[0]), most_pixels))
        going.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
