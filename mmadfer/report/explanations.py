"""What `mmadfer explain RUN` has written into a run, for the report: measures, and a sheet of each clip."""

import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from pydantic import ValidationError

from mmadfer.errors import FileError, MmadferError
from mmadfer.report.explanation_index import Index, IndexClip, IndexModel, Spread
from mmadfer.run import checkpoint_state
from mmadfer.run.directory import EXPLANATIONS, fold_dir, latest_checkpoint
from mmadfer.utils.files import read_bytes, read_object
from mmadfer.utils.html_page import jpeg_address

_MOST_BYTES = 32 << 20
"""Of a sheet."""
_MOST_PIXELS = 50_000_000
_LARGEST = (900, 10_000)
"""Width and height of a sheet in the page, in pixels."""
_MOST_CLIPS = 12
"""Of one method that the page shows."""
UNREADABLE = (OSError, SyntaxError, ValueError, OverflowError, MemoryError, Image.DecompressionBombError)
"""What Pillow raises on a picture that is damaged, or made to do harm."""


class ClipSheet(NamedTuple):
    """A clip in the page."""

    title: str
    image: str
    """A JPEG as a `data:` address; empty where there is none."""
    problem: str = ""


class Explanations(NamedTuple):
    """What one method found."""

    method: str
    fold: int | None
    layer: int
    layers: int
    heads: list[str]
    rows: list[list[str]]
    clips: list[ClipSheet]
    earlier: bool
    """The fold has other weights now than those that were explained."""


def explanations(run: Path) -> list[Explanations]:
    """Those of all methods, by name; none where the run has not been explained, and none that is damaged."""
    found = [_read(run, folder) for folder in sorted((run / EXPLANATIONS).glob("*")) if folder.is_dir()]
    return [one for one in found if one is not None]


def _read(run: Path, folder: Path) -> Explanations | None:
    try:
        index = Index.model_validate(read_object(folder / "explain.json"))
    except (MmadferError, OSError, ValidationError):
        return None
    names = list(dict.fromkeys(name for row in index.measures.values() for name in row))
    rows = [[modality, *(_cell(row.get(name)) for name in names)] for modality, row in index.measures.items()]
    heads = [name.replace("_", ", ") for name in names]
    clips = [_sheet(folder, clip) for clip in index.clips[:_MOST_CLIPS]]
    earlier = _earlier(run, index.model)
    return Explanations(index.method, index.model.fold, index.layer, index.layers, heads, rows, clips, earlier)


def _earlier(run: Path, model: IndexModel) -> bool:
    """Whether the fold has other weights now; False where it cannot be told."""
    if model.fold is None or not model.weights_hash:
        return False
    try:
        checkpoint = latest_checkpoint(fold_dir(run, model.fold))
        return checkpoint is not None and checkpoint_state.read(checkpoint).weights_hash != model.weights_hash
    except (MmadferError, OSError, ValueError):
        return False


def _cell(found: Spread | None) -> str:
    if found is None:
        return ""
    return f"{found.mean:.3f}" + f" ± {found.std:.3f}" * (found.clips > 1)


def _sheet(folder: Path, clip: IndexClip) -> ClipSheet:
    """The first sheet of a clip, smaller."""
    sheets = [part.sheet for part in clip.parts if part.sheet]
    try:
        if not sheets:
            raise FileError("it was not explained")
        return ClipSheet(clip.title(), _smaller(folder / clip.folder / sheets[0]))
    except (*UNREADABLE, MmadferError) as error:
        return ClipSheet(clip.title(), "", str(error) or type(error).__name__)


def _smaller(path: Path) -> str:
    with Image.open(io.BytesIO(read_bytes(path, _MOST_BYTES)), formats=["PNG"]) as image:
        if image.width * image.height > _MOST_PIXELS:
            raise FileError(f"{path} has {image.width} x {image.height} pixels: it is no sheet of ours")
        scale = min(1, *(most / side for most, side in zip(_LARGEST, image.size, strict=True)))
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        out = io.BytesIO()
        image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(out, "JPEG", quality=82)
    return jpeg_address(out.getvalue())
