"""The 68 points of a face in the order of iBUG 300-W (Sagonas et al. 2013), and what mirroring a picture does to them.

"Left" and "right" are those of the picture, not of the person: the right eye of the picture has the higher x.
"""

from collections.abc import Mapping
from types import MappingProxyType

POINTS = 68
TENSOR = "landmarks"
"""The store's named tensor: float16 (frames, 68, 2), x and y in pixels of the stored crop, NaN where not reliable.

Pixel (i, j), in row i and column j, has its centre at x = j + 0.5, y = i + 0.5, and the crop ends at x = its width.
"""
GROUPS: Mapping[str, range] = MappingProxyType(
    {
        "jaw": range(17),
        "left_brow": range(17, 22),
        "right_brow": range(22, 27),
        "nose_bridge": range(27, 31),
        "nostrils": range(31, 36),
        "left_eye": range(36, 42),
        "right_eye": range(42, 48),
        "outer_lips": range(48, 60),
        "inner_lips": range(60, 68),
    }
)
"""Part of the face -> its points."""
_MIRRORED: Mapping[str, tuple[int, ...]] = {
    "jaw": tuple(range(16, -1, -1)),
    "left_brow": tuple(range(26, 21, -1)),
    "right_brow": tuple(range(21, 16, -1)),
    "nose_bridge": tuple(range(27, 31)),
    "nostrils": tuple(range(35, 30, -1)),
    "left_eye": (45, 44, 43, 42, 47, 46),
    "right_eye": (39, 38, 37, 36, 41, 40),
    "outer_lips": (*range(54, 47, -1), *range(59, 54, -1)),
    "inner_lips": (*range(64, 59, -1), *range(67, 64, -1)),
}
MIRROR: tuple[int, ...] = tuple(point for group in GROUPS for point in _MIRRORED[group])
"""Point -> the point that it becomes in the mirrored picture: `points[MIRROR]`, with x -> width - x."""
