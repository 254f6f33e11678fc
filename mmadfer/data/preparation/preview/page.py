"""The contact sheet as HTML: what holds for the store, then its clips, label by label."""

from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.media.fbank import SHIFT
from mmadfer.data.preparation.preview.look import Look
from mmadfer.data.preparation.preview.sound import drawing, loudness, remarks
from mmadfer.data.store.record import Clip
from mmadfer.data.store.store import Store
from mmadfer.utils.html_page import document, section, table, text

TITLE = " (contact sheet)"
"""End of the page's title, by which a page is known for one of ours."""

LEFT_OUT = 50
"""Clips left out that are named, the same number of every reason."""
KEY = """Of each clip: frames in the store, by number from 1; the waveform of the media file, its peak filling the
height; under it the filter bank in the store, low tones below. What the model hears is shaded. Do the label, the face
and the voice belong together? Does the filter bank follow the waveform?"""
BAD = ' class="bad"'
CSS = """
body { max-width: 78rem; }
.clip { border-top: 1px solid var(--line); padding: .8rem 0 1rem; }
.clip h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; } .clip p { margin: 0; overflow-wrap: anywhere; }
.look { display: grid; grid-template-columns: max-content minmax(18rem, 1fr); gap: 1.2rem; margin-top: .5rem; }
.faces { display: grid; grid-template-columns: repeat(5, 7rem); gap: .4rem; align-content: start; }
figure { margin: 0; } figcaption { font-size: .75rem; color: var(--dim); text-align: center; }
.faces img { display: block; width: 100%; height: auto; background: var(--soft); border-radius: .2rem; }
.sound svg { display: block; width: 100%; height: auto; max-width: 40rem; font-size: 10px; }
.wave { fill: rgb(var(--hue)); } .heard { fill: rgba(var(--hue), .14); }
.bad { font-weight: 600; }
@media (max-width: 60rem) { .look { grid-template-columns: minmax(0, 1fr); gap: .6rem; }
  .faces { grid-template-columns: repeat(auto-fill, minmax(6.4rem, 1fr)); max-width: 38rem; }
  .sound svg { font-size: 14px; } }
"""


def page(store: Store, looks: list[Look], seed: int) -> str:
    """The whole page; everything from the store is escaped."""
    title = f"{store.data_set}: {len(looks)} of {len(store)} clips"
    parts = [_head(store, looks, seed), _facts(store), _counts(store), _left_out(store), _clips(store, looks)]
    return document(f"{title}{TITLE}", "".join(parts), CSS)


def _head(store: Store, looks: list[Look], seed: int) -> str:
    bad = sum(bool(_troubles(look)) for look in looks)
    told = f'<p class="bad">{bad} of them with a remark in this colour.</p>' if bad else ""
    what = f"Contact sheet of {store.path}: {len(looks)} of {len(store)} clips, seed {seed}. {date.today()}."
    return f'<header><h1>{text(store.data_set)}</h1><p class="dim">{text(what)}</p><p>{KEY}</p>{told}</header>\n'


def _facts(store: Store) -> str:
    clips = store.clips.values()
    rates = Counter(clip.rate for clip in clips)
    found = ", ".join(f"{_hertz(rate)}: {_many(number, 'clip')}" for rate, number in sorted(rates.items()))
    facts = {
        "Faces": _faces(store),
        "Sound": _sound_words(store.prepare),
        "Rates found": found,
        "Silent": _many(sum(clip.silent for clip in clips), "clip"),
        "Left out": _many(len(store.left_out), "clip"),
        "Frames": f"{sum(clip.frames for clip in clips):,}, {_range(clip.frames for clip in clips)} in a clip",
        "Media": store.root,
    }
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{text(value)}</dd>" for name, value in facts.items()) + "</dl>\n"


def _faces(store: Store) -> str:
    settings, count = store.prepare, sum(clip.cropped for clip in store.clips.values())
    whole = f"as the set's owners cropped them: {_many(count, 'clip')}"
    found = f"{_face_words(settings)}: {_many(len(store) - count, 'clip')}"
    ways = [*([whole] if count else []), *([found] if count < len(store) or not count else [])]
    stored = f"stored {settings.face_size} x {settings.face_size} px, JPEG quality {settings.jpeg_quality}"
    return "; ".join([*ways, stored])


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
        f"{rate}; the first {heard(settings):.2f} s as {sound.frames} frames of {sound.mels} mel bands; "
        f"a clip without sound {without}"
    )


def heard(settings: PrepareConfig) -> float:
    """Seconds of sound that the model hears."""
    return settings.sound.frames * SHIFT / 1000


def _hertz(rate: int) -> str:
    return f"{rate} Hz" if rate else "not known"


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _range(values: Iterable[int]) -> str:
    found = sorted(values)
    return f"{found[0]} to {found[-1]}" if found else "none"


def _counts(store: Store) -> str:
    counts = Counter((clip.label, clip.fold) for clip in store.clips.values())
    head = "".join(f"<th>{name}</th>" for name in ("Label", *(f"Fold {fold}" for fold in store.folds), "Clips"))
    lines = [(label, [counts[label, fold] for fold in store.folds]) for label in store.labels]
    body = "".join(f"<tr{'' if any(row) else BAD}>{_row(label, row)}</tr>" for label, row in lines)
    foot = _row("All", [sum(column) for column in zip(*(row for _, row in lines), strict=True)])
    return section("Clips by label and test fold", table(head, body, foot))


def _row(name: str, counts: list[int]) -> str:
    return f'<th scope="row">{text(name)}</th>' + "".join(f"<td>{number}</td>" for number in (*counts, sum(counts)))


def _left_out(store: Store) -> str:
    if not store.left_out:
        return ""
    of = defaultdict[str, list[tuple[str, str]]](list)
    for name, why in sorted(store.left_out.items()):
        reason, _, detail = why.partition(": ")
        of[reason].append((name, detail))
    shown = max(1, LEFT_OUT // len(of))
    return section("Left out", "".join(_reason(reason, clips, shown) for reason, clips in sorted(of.items())))


def _reason(reason: str, clips: list[tuple[str, str]], shown: int) -> str:
    items = "".join(f"<li><b>{text(name)}</b> {text(detail)}</li>" for name, detail in clips[:shown])
    more = f"<p>and {len(clips) - shown} more</p>" if len(clips) > shown else ""
    title = f"{text(reason)}: {_many(len(clips), 'clip')}"
    return f'<details open><summary>{title}</summary><ul class="small">{items}</ul>{more}</details>\n'


def _clips(store: Store, looks: list[Look]) -> str:
    parts = []
    for label in store.labels:
        shown = [look for look in looks if look.clip.label == label]
        total = sum(clip.label == label for clip in store.clips.values())
        if shown:
            title = f'{text(label)} <span class="dim small">{len(shown)} of {_many(total, "clip")}</span>'
            parts.append(section(title, "".join(_clip(look, heard(store.prepare)) for look in shown)))
    return "".join(parts)


def _clip(look: Look, seconds: float) -> str:
    told = "".join(f'<p class="bad">{text(words)}</p>' for words in _troubles(look))
    faces = f'<div class="faces">{"".join(_face(*face) for face in look.faces)}</div>'
    sound = f'<div class="sound">{told}{drawing(look, seconds)}</div>'
    return (
        f'<article class="clip"><h3>{text(look.clip.label)} <span class="dim">·</span> {text(look.clip.id)}</h3>'
        f'<p class="dim small">{text(_about(look))}</p><p class="dim small">{text(_paths(look.clip))}</p>'
        f'<div class="look">{faces}{sound}</div></article>\n'
    )


def _face(number: int, jpeg: bytes) -> str:
    source = f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"
    return f'<figure><img src="{source}" alt="frame {number + 1}"><figcaption>{number + 1}</figcaption></figure>'


def _troubles(look: Look) -> list[str]:
    return [words for words in (look.damage, look.clip.note, look.sound, *remarks(look)) if words]


def _about(look: Look) -> str:
    clip, parts = look.clip, [f"fold {look.clip.fold}"]
    parts += [f"subject {clip.subject}"] if clip.subject is not None else []
    parts += [_many(clip.frames, "frame")]
    if look.waveform is not None:
        parts += [f"{look.seconds:.2f} s of sound, {_hertz(look.rate)}"]
        parts += [
            f"{_many(len(look.waveform), 'channel')}, number {look.channel + 1} is shown"
            if len(look.waveform) > 1
            else "mono"
        ]
        parts += [loudness(look)]
    if clip.rate and clip.rate != look.rate:
        parts += [f"the filter bank is of sound at {_hertz(clip.rate)}"]
    return ", ".join(parts)


def _paths(clip: Clip) -> str:
    return f"{clip.media} with sound {clip.sound}" if clip.sound else clip.media
