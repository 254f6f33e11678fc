"""Draws the picture of docs/alignment.md: the map of each expression on a drawn face.

python bench/aus_maps.py [--out docs/alignment_maps.png]
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from mmadfer.data.faces.landmarks68 import GROUPS
from mmadfer.data.sets.drawn_face import placed, unit_points
from mmadfer.tasks.action_units import class_map
from mmadfer.tasks.codebook import EXPRESSIONS, Disgust

SIDE, SHOWN = 224, 150
SHOWN_MAPS: list[tuple[str, Disgust, str]] = [
    *((name, "program", name) for name in EXPRESSIONS),
    ("Disgust", "facs10", "Disgust, facs10"),
]
"""Expression, form of Disgust, and what is written above."""


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "alignment_maps.png")
    out = parser.parse_args().out
    points = placed(unit_points(0.06, 0.03), 112, 100, 80, 4)
    whole = Image.new("RGB", (SHOWN * len(SHOWN_MAPS), SHOWN + 16), "white")
    pen = ImageDraw.Draw(whole)
    for k, (name, disgust, title) in enumerate(SHOWN_MAPS):
        whole.paste(tile(points, name, disgust).resize((SHOWN - 4, SHOWN - 4)), (k * SHOWN + 2, 16))
        pen.text((k * SHOWN + 4, 2), title, fill="black")
    whole.quantize(64).save(out, optimize=True)
    print(f"{out}: {out.stat().st_size} bytes")


def tile(points: np.ndarray, expression: str, disgust: Disgust) -> Image.Image:
    """The face and its map: the more orange, the nearer to 1."""
    face = Image.new("RGB", (SIDE, SIDE), (225, 225, 225))
    pen = ImageDraw.Draw(face)
    for name, at in GROUPS.items():
        part = points[list(at)]
        closed = "eye" in name or "lips" in name
        pen.line([(x, y) for x, y in (*part.tolist(), *part[: int(closed)].tolist())], fill=(70, 70, 70), width=2)
    heat, _ = class_map(torch.from_numpy(points), (SIDE, SIDE), expression, disgust=disgust)
    share = 0.75 * heat.numpy()[..., None]
    mixed = (1 - share) * np.asarray(face, np.float32) + share * np.array([240, 90, 20], np.float32)
    return Image.fromarray(mixed.round().astype(np.uint8))


if __name__ == "__main__":
    main()
