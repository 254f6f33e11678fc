"""The clips of which a run gives the truth the least: a small picture, probabilities, truth, and where the media is."""

import io
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mmadfer.data.store.store import Store
from mmadfer.errors import MmadferError
from mmadfer.evaluation.saved_predictions import ToldClips
from mmadfer.report.cells import percent
from mmadfer.report.explanations import UNREADABLE
from mmadfer.report.of_clips import OfClips
from mmadfer.tasks.calibration import losses
from mmadfer.utils.html_page import jpeg_address

MOST = 12
"""Clips that the page shows; a picture has some 4 kB."""
SIDE = 112
"""Of a picture, in pixels."""
_LIKELY = 3
"""Classes that are shown of a clip, beside the truth."""


class HardClip(NamedTuple):
    """A clip in the page."""

    clip: str
    fold: int
    truth: str
    told: str
    loss: float
    """-log p of the truth."""
    shares: list[tuple[str, str, bool]]
    """The likeliest labels and the truth, falling: label, percent, and whether it is the truth."""
    image: str
    """The middle face of the store, a JPEG as a `data:` address; empty where there is none."""
    media: str
    """The path of the media file; empty where the store does not tell."""
    link: str
    """Its `file:` address, where it is there."""


def hardest(found: OfClips, most: int = MOST) -> list[HardClip]:
    """Those with the largest loss, of the clips of all folds."""
    rows = [(one, k) for one in found.folds for k in range(len(one.ids))]
    each = np.concatenate([losses(one.probabilities, one.truth) for one in found.folds])
    order = np.argsort(-each, kind="stable")[:most]
    with _store(found) as store:
        return [_clip(found, rows[k], float(each[k]), store) for k in order]


def _store(found: OfClips) -> AbstractContextManager[Store | None]:
    """Of the clips; None where there is none, or another one."""
    if found.store is None or found.clips is None:
        return nullcontext()
    try:
        return Store(found.store)
    except MmadferError:
        return nullcontext()


def _clip(found: OfClips, place: tuple[ToldClips, int], loss: float, store: Store | None) -> HardClip:
    one, row = place
    labels, shares, truth = found.labels, one.probabilities[row], int(one.truth[row])
    order = np.argsort(-shares, kind="stable").tolist()
    shown = [k for place, k in enumerate(order) if place < _LIKELY or k == truth]
    cells = [(labels[k], percent(float(shares[k])), k == truth) for k in shown]
    name = one.ids[row]
    media = "" if store is None else str(store.media(name))
    link = Path(media).as_uri() if media and Path(media).is_absolute() and Path(media).exists() else ""
    image = "" if store is None else _picture(store, name)
    return HardClip(name, one.fold, labels[truth], labels[int(one.told[row])], loss, cells, image, media, link)


def _picture(store: Store, clip: str) -> str:
    """The middle frame, made small; "" where it cannot be read."""
    try:
        jpeg = store.read(clip, [store.clips[clip].frames // 2]).jpegs[0]
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            image.draft("RGB", (2 * SIDE, 2 * SIDE))
            small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        out = io.BytesIO()
        small.save(out, "JPEG", quality=75)
    except (*UNREADABLE, MmadferError):
        return ""
    return jpeg_address(out.getvalue())
