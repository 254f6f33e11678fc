"""The contact sheet: random clips of a store as one page, to see at once whether the preparation is right.

Wrong faces, wrong labels, and swapped, silent or cut sound show to a person here, and to no test: faces and filter bank
come from the store, the waveform beside them from the media file.
"""

import io
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mmadfer.data.draws import evenly
from mmadfer.data.faces.landmarks68 import POINTS, TENSOR
from mmadfer.data.media import audio
from mmadfer.data.media.decode import SoundTrack
from mmadfer.data.media.image import decode_jpeg
from mmadfer.data.preparation.preview.clip_view import ClipView
from mmadfer.data.preparation.preview.page import TITLE, contact_sheet, heard_seconds
from mmadfer.data.preparation.preview.sound import MAX_AXIS_FACTOR as LONGEST_SOUND
from mmadfer.data.store.record import Clip, ClipRecord
from mmadfer.data.store.store import Store, writing_store
from mmadfer.errors import ClipError, DataError
from mmadfer.utils.files import write_text

FACES = 5
"""Frames of each clip that are shown, the first and the last among them."""
PAGES = (".html", ".htm")
_TITLE_BYTES = 2**16
"""Bytes in which the title ends."""
_FACE_SIDE_PX = 192
"""Longer side in pixels of a face on the page, sharp on fine screens too."""
_DOT, _DOT_PX = (60, 255, 60), 1.2
"""Colour of a landmark on a face, and its radius in pixels."""


def write_preview(store: Path, out: Path, count: int = 50, seed: int = 0) -> None:
    """Write a page with `count` clips of a store, drawn by `seed`, the same number of every label as far as there are.

    The page holds its pictures and needs no network. Where a media file is not there any more, the page says so in the
    place of the waveform; a damaged record is named. The folder of `out` is made if need be.

    Raises:
        DataError: `store` is no store, `out` is no place for a page (`check_page`), or cannot be written.
    """
    check_page(Path(out), Path(store))
    with Store(store) as opened:
        views = [_view_of(opened, clip) for clip in draw_clips(opened.clips.values(), count, seed)]
        with writing_store(Path(out)):
            write_text(out, contact_sheet(opened, views, seed))


def check_page(out: Path, store: Path) -> None:
    """Refuse a place for the page where something else is that would be lost; to be asked before hours of preparation.

    Raises:
        DataError: not named as a page, the store itself, not below a folder, or there and not written by us.
    """
    if out.resolve() == store.resolve():
        raise DataError(f"the preview would overwrite the store {store}: give it another name, such as preview.html")
    if out.suffix.lower() not in PAGES:
        raise DataError(f"{out} is no name for a page: the preview's name must end in .html, such as preview.html")
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise DataError(f"the preview {out} cannot be written: {parent} is a file. Give it another folder")
    if out.exists() and not _is_ours(out):
        raise DataError(
            f"the preview would overwrite {out}, which is no contact sheet of mmadfer: give it another name, or move "
            "that file elsewhere"
        )


def _is_ours(out: Path) -> bool:
    if not out.is_file():
        return False
    with out.open("rb") as file:
        title = file.read(_TITLE_BYTES).partition(b"<title>")[2].partition(b"</title>")[0]
    return title.endswith(TITLE.encode())


def draw_clips(clips: Iterable[Clip], count: int, seed: int) -> list[Clip]:
    """Draw clips, one of each label in turn, so that rare labels are there; sorted by id.

    The same clips and seed give the same choice.
    """
    of = defaultdict[str, list[Clip]](list)
    for clip in sorted(clips, key=lambda clip: clip.id):
        of[clip.label].append(clip)
    rng = np.random.default_rng([seed])
    shuffled = [[of[label][k] for k in rng.permutation(len(of[label]))] for label in sorted(of)]
    turns = [(turn, clip) for group in shuffled for turn, clip in enumerate(group)]
    turns.sort(key=lambda item: item[0])
    return sorted((clip for _, clip in turns[:count]), key=lambda clip: clip.id)


def _view_of(store: Store, clip: Clip) -> ClipView:
    view = ClipView(clip)
    try:
        numbers = evenly(clip.frames, FACES)
        record = store.read(clip.id, numbers, [TENSOR])
        view.bands = record.fbank
        points = _landmarks(record, clip.frames)
        view.faces = [
            (number, _small(jpeg, points[number])) for number, jpeg in zip(numbers, record.jpegs, strict=True)
        ]
    except (DataError, IndexError) as error:
        view.damage = str(error)
    _listen(view, store)
    return view


def _landmarks(record: ClipRecord, frames: int) -> np.ndarray:
    """Of each frame, float64 (frames, points, 2); no points where the clip has no landmarks, or others than these."""
    found = record.tensors.get(TENSOR)
    if not isinstance(found, np.ndarray) or found.shape != (frames, POINTS, 2) or found.dtype.kind != "f":
        return np.empty((frames, 0, 2))
    return found.astype(np.float64)


def _small(jpeg: bytes, points: np.ndarray) -> bytes:
    # made anew, so that what is on the page is a picture whatever the store holds
    image = Image.fromarray(decode_jpeg(jpeg))
    width, height = image.size
    image.thumbnail((_FACE_SIDE_PX, _FACE_SIDE_PX), Image.Resampling.BILINEAR, reducing_gap=None)
    _draw_points(image, points * (image.width / width, image.height / height))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _draw_points(image: Image.Image, points: np.ndarray) -> None:
    pen = ImageDraw.Draw(image)
    inside = ((points >= 0) & (points <= image.size)).all(axis=1)
    for x, y in points[inside].tolist():
        pen.ellipse((x - _DOT_PX, y - _DOT_PX, x + _DOT_PX, y + _DOT_PX), fill=_DOT)


def _listen(view: ClipView, store: Store) -> None:
    try:
        view.sound = _sought(view.clip, store)
        if not view.sound:
            sound = store.root / (view.clip.sound or view.clip.media)
            settings = store.prepare
            track = SoundTrack(sound, limit=settings.max_seconds, placed=settings.media == "player")
            drawn = LONGEST_SOUND * heard_seconds(settings)
            view.waveform, view.rate, view.seconds, _ = audio.beginning(track, lambda rate: round(drawn * rate))
            view.channel, _ = audio.channel(view.waveform[:, : round(heard_seconds(settings) * view.rate)], settings)
    except ClipError as error:
        view.sound = "no sound" if error.reason == "no sound" else f"the sound cannot be read: {error}"
    except Exception as error:  # one odd file must not cost the sheet; it is told like the others
        view.sound = f"the sound cannot be read: {type(error).__name__}: {error}"


def _sought(clip: Clip, store: Store) -> str:
    """Why there is no file to listen to; "" if there is one."""
    if not store.media(clip.id).exists():
        return "media not found"
    if clip.sound is None:
        return "no sound" if store.media(clip.id).is_dir() else ""
    return "" if (store.root / clip.sound).exists() else "no sound: its file is not there"
