"""The contact sheet as HTML: what holds for the store, then its clips, label by label."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.faces.landmarks68 import TENSOR
from mmadfer.data.media.fbank import SHIFT
from mmadfer.data.preparation.preview.clip_view import ClipView
from mmadfer.data.preparation.preview.sound import drawing, loudness, remarks
from mmadfer.data.store import splits
from mmadfer.data.store.store import Store
from mmadfer.utils.html_page import jpeg_address, render_page

TITLE = " (contact sheet)"
"""End of the page's title, by which a page is known for one of ours."""

LEFT_OUT = 50
"""Clips left out that are named, the same number of every reason."""


def contact_sheet(store: Store, views: list[ClipView], seed: int) -> str:
    """The whole page; everything from the store is escaped."""
    shown = f"{len(views)} of {len(store)} clips"
    counts, all_clips = _counts(store)
    reasons = _left_out(store)
    return render_page(
        "contact_sheet.html",
        title=f"{store.data_set}: {shown}{TITLE}",
        store=store,
        what=f"Contact sheet of {store.path}: {shown}, seed {seed}. {date.today()}.",
        remarked=sum(bool(_troubles(view)) for view in views),
        facts=_facts(store),
        counts=counts,
        all=all_clips,
        left_out=reasons,
        shown=max(1, LEFT_OUT // max(1, len(reasons))),
        labels=_by_label(store, views),
        many=many,
        jpeg_url=jpeg_address,
    )


def _facts(store: Store) -> dict[str, Any]:
    clips = store.clips.values()
    rates = Counter(clip.rate for clip in clips)
    return {
        "Faces": _faces(store),
        "Sound": _sound_words(store.prepare),
        "Rates found": ", ".join(f"{_hertz(rate)}: {many(number, 'clip')}" for rate, number in sorted(rates.items())),
        "Silent": many(sum(clip.silent for clip in clips), "clip"),
        "Left out": many(len(store.left_out), "clip"),
        "Frames": f"{sum(clip.frames for clip in clips):,}, {_range(clip.frames for clip in clips)} in a clip",
        "Targets": ", ".join(store.targets),
        "Splits": ", ".join(splits.names(store.clips)),
        **({"Landmarks": _landmarks(store)} if store.header.landmarks else {}),
        "Media": store.root,
    }


def _faces(store: Store) -> str:
    settings, count = store.prepare, sum(clip.cropped for clip in store.clips.values())
    whole = f"as the set's owners cropped them: {many(count, 'clip')}"
    found = f"{_face_words(settings)}: {many(len(store) - count, 'clip')}"
    ways = [*([whole] if count else []), *([found] if count < len(store) or not count else [])]
    stored = f"stored {settings.face_size} x {settings.face_size} px, JPEG quality {settings.jpeg_quality}"
    return "; ".join([*ways, stored])


def _landmarks(store: Store) -> str:
    looked = [clip for clip in store.clips.values() if clip.tensors.get(TENSOR) == ""]
    lost, frames = sum(not clip.landmarked for clip in looked), sum(clip.frames for clip in looked)
    found = sum(clip.landmarked for clip in looked)
    return (
        f"{store.header.landmarks}: in {found:,} of {many(frames, 'frame')}; {many(lost, 'clip')} of {len(looked):,} "
        "without reliable ones"
    )


def _face_words(settings: PrepareConfig) -> str:
    if settings.face_box == "union":
        return "around all faces of each frame, half of the picture's shorter side at its centre where there is none"
    looked = "every frame" if settings.detect_every == 1 else f"one frame in {settings.detect_every}"
    return f"one face followed through the clip, looked for in {looked}, with {settings.face_margin:.0%} margin"


def _sound_words(settings: PrepareConfig) -> str:
    sound = settings.sound
    rate = "at its own rate" if sound.rate == "native" else f"resampled to {sound.rate} Hz"
    without = "is left out" if settings.no_sound == "leave_out" else "is kept and hears silence"
    return (
        f"{rate}; the first {heard_seconds(settings):.2f} s as {sound.frames} frames of {sound.mels} mel bands, and "
        f"up to {sound.max_seconds:g} s for windows; "
        f"a clip without sound {without}"
    )


def heard_seconds(settings: PrepareConfig) -> float:
    """Seconds of sound that the model hears."""
    return settings.sound.frames * SHIFT / 1000


def _hertz(rate: int) -> str:
    return f"{rate} Hz" if rate else "not known"


def many(number: int, what: str) -> str:
    """A number of things, such as `1 clip`, `2,000 clips`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _range(values: Iterable[int]) -> str:
    found = sorted(values)
    return f"{found[0]} to {found[-1]}" if found else "none"


def _counts(store: Store) -> tuple[list[tuple[str, list[int]]], list[int]]:
    """Clips of each label in each fold, and of all labels."""
    found = Counter((clip.label, clip.fold) for clip in store.clips.values())
    counts = [(label, [found[label, fold] for fold in store.folds]) for label in store.labels]
    return counts, [sum(column) for column in zip(*(row for _, row in counts), strict=True)]


def _left_out(store: Store) -> list[tuple[str, list[tuple[str, str]]]]:
    """Clips with details, by reason."""
    found = defaultdict[str, list[tuple[str, str]]](list)
    for name, why in sorted(store.left_out.items()):
        reason, _, detail = why.partition(": ")
        found[reason].append((name, detail))
    return sorted(found.items())


def _by_label(
    store: Store, views: list[ClipView]
) -> Iterator[tuple[str, int, list[tuple[ClipView, str, list[str], str]]]]:
    """Labels of clips that are shown: the clips of each in the store, and those shown with what is said of them."""
    for label in store.labels or ("",):  # all of a store without labels are one group
        shown = [view for view in views if view.clip.label == label]
        total = sum(clip.label == label for clip in store.clips.values())
        if shown:
            drawn = [
                (view, _about(view), _troubles(view), drawing(view, heard_seconds(store.prepare))) for view in shown
            ]
            yield label or "clips", total, drawn


def _troubles(view: ClipView) -> list[str]:
    return [words for words in (view.damage, view.clip.note, view.sound, *remarks(view)) if words]


def _told(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _about(view: ClipView) -> str:
    clip, parts = view.clip, [f"fold {view.clip.fold}"]
    parts += [f"subject {clip.subject}"] if clip.subject is not None else []
    parts += [many(clip.frames, "frame")]
    parts += [f"landmarks in {clip.landmarked} of them"] if clip.tensors.get(TENSOR) == "" else []
    parts += [f"{name} {_told(value)}" for name, value in sorted(clip.targets.items())]
    if view.waveform is not None:
        parts += [f"{view.seconds:.2f} s of sound, {_hertz(view.rate)}"]
        parts += [
            f"{many(len(view.waveform), 'channel')}, number {view.channel + 1} is shown"
            if len(view.waveform) > 1
            else "mono"
        ]
        parts += [loudness(view)]
    if clip.rate and clip.rate != view.rate:
        parts += [f"the filter bank is of sound at {_hertz(clip.rate)}"]
    return ", ".join(parts)
